"""Asks the API server and CoreDNS whether they are ready, with the standard library alone."""

import json
import socket
import ssl
import struct
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from .layout import API_URL, CLUSTER_DOMAIN, NODE_IP, NODE_NAME

REQUEST_SECONDS = 5.0
NODE = f"/api/v1/nodes/{NODE_NAME}"
DNS_SECONDS = 0.5
DNS_PORT = 53


class Api:
    """A client for the few calls that bringing a cluster up takes."""

    def __init__(self, kubeconfig: Path, authority: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        self._token: str = config["users"][0]["user"]["token"]
        tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(authority)))
        # No ProxyHandler: a proxy in our environment does not know the node's addresses.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)

    def ready(self) -> bool:
        """Say whether the API server takes requests, its start-up hooks (RBAC roles) done."""
        return self._request("GET", "/readyz") is not None

    def node_ready(self) -> bool:
        """Say whether the node reports Ready and its kubelet answers now.

        The condition alone stays true for 40 s after kubelet's death.
        """
        node = self.get(NODE)
        conditions = node["status"].get("conditions", []) if node else []
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        return ready and self._request("GET", f"{NODE}/proxy/healthz") is not None

    def node_synced(self) -> bool:
        """Say whether kubelet has learnt of all its pods; a restarted one denies them for a second."""
        bound = self.get(f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE_NAME}")
        known = self.get(f"{NODE}/proxy/pods")
        return bound is not None and known is not None and _uids(bound) <= _uids(known)

    def service_account_exists(self) -> bool:
        """Say whether `default` has its ServiceAccount, before which no pod is admitted."""
        return self.get("/api/v1/namespaces/default/serviceaccounts/default") is not None

    def get(self, path: str) -> dict[str, Any] | None:
        """Return an object, or None where it does not exist or nobody answers."""
        body = self._request("GET", path)
        return json.loads(body) if body else None

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        """Create an object; one that exists already is left as it is."""
        self._request("POST", path, json.dumps(manifest).encode())

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes | None:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = urllib.request.Request(API_URL + path, data=body, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=REQUEST_SECONDS) as answer:
                content: bytes = answer.read()
                return content
        except (urllib.error.URLError, OSError):
            return None


def _uids(pods: dict[str, Any]) -> set[str]:
    return {pod["metadata"]["uid"] for pod in pods["items"] or []}


def dns_answers() -> bool:
    """Say whether CoreDNS knows the API server's Service, so it has synced with the API."""
    query = _dns_query(f"kubernetes.default.svc.{CLUSTER_DOMAIN}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(DNS_SECONDS)
        try:
            link.sendto(query, (NODE_IP, DNS_PORT))
            answer = link.recv(512)
        except OSError:
            return False
    _, _, _, answers = struct.unpack("!4H", answer[:8])
    return bool(answers)


def _dns_query(name: str) -> bytes:
    """Return one question for an address record, in the wire format of RFC 1035."""
    header = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0)
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return header + labels + b"\0" + struct.pack("!2H", 1, 1)
