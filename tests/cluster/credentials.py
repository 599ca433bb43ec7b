"""Certificates, tokens and kubeconfigs, new for every cluster.

One certificate authority signs what serves and what apiserver and kubelet show each other;
a second one signs the aggregation layer's client, as that layer demands. Everybody else
authenticates with a random token, mapped to the names that Kubernetes' bootstrap roles
are bound to, so each component has the rights of a production cluster and no more.
"""

import base64
import json
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from .commands import run
from .layout import API_SERVICE_IP, API_URL, CLUSTER_DOMAIN, NODE_IP, NODE_NAME, Layout

VALID_DAYS = "3650"

IDENTITIES = {
    "admin": ("execpool-admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "kubelet": (f"system:node:{NODE_NAME}", "system:nodes"),
    "coredns": ("system:coredns", ""),
}
"""For each client: the user name and group that its token stands for."""


@dataclass(frozen=True)
class Certificate:
    """A certificate to make: its file name, subject, signer and extensions."""

    name: str
    subject: str
    authority: str
    extensions: tuple[str, ...]


_AUTHORITIES = ("ca", "front-proxy-ca")
_API_NAMES = ",".join(
    [
        *(f"DNS:kubernetes{tail}" for tail in ("", ".default", ".default.svc", f".default.svc.{CLUSTER_DOMAIN}")),
        "DNS:localhost",
        *(f"IP:{address}" for address in (NODE_IP, API_SERVICE_IP, "127.0.0.1")),
    ]
)
_SERVER = "extendedKeyUsage=serverAuth"
_CLIENT = "extendedKeyUsage=clientAuth"
_CERTIFICATES = (
    Certificate("apiserver", "/CN=kube-apiserver", "ca", (_SERVER, f"subjectAltName={_API_NAMES}")),
    Certificate("apiserver-kubelet-client", "/O=system:masters/CN=kube-apiserver", "ca", (_CLIENT,)),
    Certificate("kubelet", f"/CN={NODE_NAME}", "ca", (_SERVER, f"subjectAltName=DNS:{NODE_NAME},IP:{NODE_IP}")),
    Certificate("front-proxy-client", "/CN=front-proxy-client", "front-proxy-ca", (_CLIENT,)),
)


def create(layout: Layout) -> None:
    """Write certificates, the service-account key, the token file and all kubeconfigs."""
    layout.pki.mkdir(mode=0o700)
    with ThreadPoolExecutor() as pool:
        key = pool.submit(_service_account_key, layout.pki)
        list(pool.map(lambda name: _make_authority(layout.pki, name), _AUTHORITIES))
        list(pool.map(lambda certificate: _make_certificate(layout.pki, certificate), _CERTIFICATES))
        key.result()
    tokens = {client: secrets.token_urlsafe(32) for client in IDENTITIES}
    _private(layout.pki / "tokens.csv", "".join(_token_lines(tokens)))
    authority = (layout.pki / "ca.crt").read_bytes()
    for client, token in tokens.items():
        file = layout.kubeconfig if client == "admin" else kubeconfig(layout, client)
        _private(file, _kubeconfig_text(client, token, authority))


def kubeconfig(layout: Layout, client: str) -> Path:
    """Return the kubeconfig file of a component."""
    return layout.config / f"{client}.kubeconfig"


def _token_lines(tokens: dict[str, str]) -> Iterable[str]:
    for client, token in tokens.items():
        user, group = IDENTITIES[client]
        yield f'{token},{user},{client},"{group}"\n' if group else f"{token},{user},{client}\n"


def _kubeconfig_text(client: str, token: str, authority: bytes) -> str:
    """Return a kubeconfig; JSON is YAML, and every client library reads it."""
    encoded = base64.b64encode(authority).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "execpool", "cluster": {"server": API_URL, "certificate-authority-data": encoded}}],
        "users": [{"name": client, "user": {"token": token}}],
        "contexts": [{"name": "execpool", "context": {"cluster": "execpool", "user": client}}],
        "current-context": "execpool",
    }
    return json.dumps(config, indent=2)


def _private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)


def _request(folder: Path, name: str, subject: str, extensions: Iterable[str]) -> list[str]:
    files = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt")]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words = ["openssl", "req", "-x509", *key, *files, "-days", VALID_DAYS, "-subj", subject]
    for extension in extensions:
        words += ["-addext", extension]
    return words


def _make_authority(folder: Path, name: str) -> None:
    # Python 3.13 verifies strictly: an authority needs its key usage spelled out.
    extensions = ("keyUsage=critical,keyCertSign,cRLSign,digitalSignature",)
    run(_request(folder, name, f"/CN=execpool-test-cluster-{name}", extensions))


def _make_certificate(folder: Path, certificate: Certificate) -> None:
    # openssl's own defaults would mark every certificate as an authority.
    extensions = ("basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", *certificate.extensions)
    authority = folder / certificate.authority
    signer = ["-CA", f"{authority}.crt", "-CAkey", f"{authority}.key"]
    run([*_request(folder, certificate.name, certificate.subject, extensions), *signer])


def _service_account_key(folder: Path) -> None:
    private, public = folder / "service-account.key", folder / "service-account.pub"
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", private])
    run(["openssl", "pkey", "-in", private, "-pubout", "-out", public])
