"""Builders of what the operator creates: pure functions from the API's values to Kubernetes objects.

The executor pod is `restricted` by Pod Security and has two containers, so that neither an out-of-memory kill, nor the
CPU quota, nor a signal of user code reaches the one that answers (DESIGN section 7): `server` owns claim, HTTP and
results, `runner` runs the code. They share one small emptyDir for a socket, which the runner sees read-only.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from execpool import protocol
from execpool.api import names
from execpool.api.v1alpha1 import Network, PodsTier, Tier
from execpool.core.model import Pool
from execpool.core.quantity import parse_quantity
from execpool.kube.client import Object

PROFILE = 3
"""Part of every template hash: raise it when the builder below changes what a pod is, and pools roll over."""

RUNNER_UID = 1000
SERVER_UID = 1001
TERMINATION_SECONDS = 10
SERVER_MIB, SERVER_MIB_PER_SLOT = 256, 8
"""Of the server's container: what it holds of requests, answers and files is bounded (docs/executor.md)."""
SCRATCH_SHARE = 8
"""The runner's scratch volume is in memory and counts against its limit; it may hold one eighth of it."""

PRIVATE_RANGES = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "198.18.0.0/15",
    "192.0.0.0/24",  # metadata of Oracle's cloud
    "168.63.129.16/32",  # the platform of Azure
)
PRIVATE_RANGES_V6 = ("fc00::/7", "fe80::/10", "64:ff9b::/96")  # the last one leads back into IPv4 (NAT64)

_RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class ExecutorProfile:
    """What the operator's settings contribute to every executor pod."""

    image: str
    user_namespaces: bool = True
    resolvers: tuple[str, ...] = ()
    """Name servers of `network: Egress` tiers; none means the cluster's, which their policy then keeps out of reach."""


@dataclass(frozen=True)
class ExecutorIdentity:
    """What makes one executor itself; drawn by the provider before the pod exists."""

    name: str
    executor_id: str
    secret_hash: str
    key_id: str


def executor_labels(pool: Pool, tier: str) -> dict[str, str]:
    """Return the labels by which executors are found; user labels cannot replace them."""
    return {
        "app.kubernetes.io/managed-by": names.MANAGED_BY,
        "app.kubernetes.io/name": "executor",
        names.LABEL_POOL: pool.name,
        names.LABEL_POOL_UID: pool.uid,
        names.LABEL_TIER: tier,
    }


def template_hash(tier: Tier, profile: ExecutorProfile) -> str:
    """Return the hash of everything in a tier that changes what its executor pods are: warm and max do not."""
    pods = tier.as_pods().wire()
    for sizing in ("warm", "max"):
        pods.pop(sizing, None)
    resolvers = profile.resolvers if tier.as_pods().network is Network.EGRESS else ()
    made_of = {"image": profile.image, "user_namespaces": profile.user_namespaces, "resolvers": resolvers}
    material = {"profile": PROFILE, **made_of, "pods": pods}
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()[:16]


def make_executor_pod(pool: Pool, tier: Tier, profile: ExecutorProfile, identity: ExecutorIdentity) -> Object:
    """Build the pod of one executor. It carries no ownerReference (docs/decisions.md, 3)."""
    pods = tier.as_pods()
    template = pods.pod_template
    has_resolvers = pods.network is Network.EGRESS and bool(profile.resolvers)
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "None" if has_resolvers else None,
        "dnsConfig": {"nameservers": list(profile.resolvers)} if has_resolvers else None,
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "hostUsers": False if profile.user_namespaces else None,
        "runtimeClassName": pods.runtime_class_name or None,
        "priorityClassName": template.priority_class_name or None,
        "nodeSelector": template.node_selector or None,
        "tolerations": [toleration.wire() for toleration in template.tolerations] or None,
        "imagePullSecrets": [secret.wire() for secret in template.image_pull_secrets] or None,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RUNNER_UID,
            "runAsGroup": RUNNER_UID,
            "fsGroup": RUNNER_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_server(pods, profile, identity), _runner(pods, profile)],
        "volumes": _volumes(pods),
    }
    return {
        "metadata": {
            "name": identity.name,
            "namespace": pool.namespace,
            "labels": {
                **template.labels,
                **executor_labels(pool, tier.name),
                names.LABEL_EXECUTOR_ID: identity.executor_id,
            },
            "annotations": {
                **template.annotations,
                names.ANNOTATION_TEMPLATE_HASH: template_hash(tier, profile),
                names.ANNOTATION_KEY_ID: identity.key_id,
            },
        },
        "spec": _without_nulls(spec),
    }


def _server(pods: PodsTier, profile: ExecutorProfile, identity: ExecutorIdentity) -> Object:
    """Build the container that answers: small, its own uid, no CPU limit."""
    settings = {
        protocol.ENV_EXECUTOR_ID: identity.executor_id,
        protocol.ENV_SECRET_HASH: identity.secret_hash,
        protocol.ENV_SLOTS: str(pods.slots),
        protocol.ENV_IDLE_SECONDS: str(pods.idle_seconds),
        protocol.ENV_MAX_AGE_SECONDS: str(pods.max_age_seconds + protocol.AGE_GRACE_SECONDS),
        protocol.ENV_REFUSE_SELF: "1",
    }
    pod_uid = {"name": protocol.ENV_POD_UID, "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    probe = {"httpGet": {"path": "/readyz", "port": "control"}, "timeoutSeconds": 2}
    return {
        "name": "server",
        "image": pods.image or profile.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["server"],
        "env": [*_environment(settings), pod_uid],
        "ports": [
            {"name": "data", "containerPort": protocol.DATA_PORT},
            {"name": "envd", "containerPort": protocol.ENVD_PORT},
            {"name": "control", "containerPort": protocol.CONTROL_PORT},
        ],
        "resources": {
            "requests": {"cpu": "10m", "memory": "64Mi"},
            "limits": {"memory": f"{SERVER_MIB + SERVER_MIB_PER_SLOT * pods.slots}Mi"},
        },
        # The start-up probe is quick, so that a pod is ready early; the readiness probe is slow, so that an idle one is cheap.
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 2},
        "securityContext": {**_RESTRICTED, "runAsUser": SERVER_UID},
        "volumeMounts": [
            {"name": "socket", "mountPath": protocol.SOCKET_DIR},
            {"name": "state", "mountPath": protocol.STATE_DIR},
        ],
    }


def _runner(pods: PodsTier, profile: ExecutorProfile) -> Object:
    """Build the container that runs user code, with the tier's resources."""
    limits = pods.resources.limits
    requests = pods.resources.requests
    settings = {
        protocol.ENV_RUNTIME: pods.runtime.value,
        protocol.ENV_NETWORK: pods.network.value,
        protocol.ENV_MEMORY_BYTES: str(int(parse_quantity(limits.memory))),
        protocol.ENV_SLOTS: str(pods.slots),
    }
    return {
        "name": "runner",
        "image": pods.image or profile.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["runner"],
        "env": _environment(settings),
        "resources": {
            "requests": {
                "cpu": min(requests.cpu, limits.cpu, key=parse_quantity),
                "memory": min(requests.memory or limits.memory, limits.memory, key=parse_quantity),
            },
            "limits": {"cpu": limits.cpu, "memory": limits.memory},
        },
        "securityContext": dict(_RESTRICTED),
        "volumeMounts": [
            {"name": "socket", "mountPath": protocol.SOCKET_DIR, "readOnly": True},
            # One volume, so that memory is shared by need; three places, since programs may write to the first two alone.
            {"name": "scratch", "subPath": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own, in memory
            {"name": "scratch", "subPath": "home", "mountPath": protocol.HOME_DIR},
            {"name": "scratch", "subPath": "work", "mountPath": protocol.WORK_DIR},
        ],
    }


def _volumes(pods: PodsTier) -> list[Object]:
    scratch = max(int(parse_quantity(pods.resources.limits.memory)) // SCRATCH_SHARE, 16 << 20)
    return [
        {"name": "socket", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": str(scratch)}},
    ]


def policy_name(pool: Pool, tier: str) -> str:
    """Return the name of a tier's NetworkPolicy; bounded, since pool names may be long."""
    digest = hashlib.sha256(f"{pool.name}/{tier}".encode()).hexdigest()[:8]
    return f"execpool-{pool.name[:180]}-{tier}-{digest}"


def make_network_policy(pool: Pool, tier: Tier, control_namespace: str) -> Object:
    """Build a tier's NetworkPolicy: in from gateway and operator alone; out nowhere, or to the internet without us."""
    peers = [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": control_namespace}},
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": part}},
        }
        for part in ("execpool-gateway", "execpool-operator")
    ]
    ours = (protocol.DATA_PORT, protocol.ENVD_PORT, protocol.CONTROL_PORT)
    ports = [{"protocol": "TCP", "port": port} for port in ours]
    return {
        "metadata": {
            "name": policy_name(pool, tier.name),
            "namespace": pool.namespace,
            "labels": executor_labels(pool, tier.name),
        },
        "spec": {
            "podSelector": {"matchLabels": {names.LABEL_POOL_UID: pool.uid, names.LABEL_TIER: tier.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": ports}],
            "egress": _internet() if tier.as_pods().network is Network.EGRESS else [],
        },
    }


def _internet() -> list[Object]:
    blocks = [("0.0.0.0/0", PRIVATE_RANGES), ("::/0", PRIVATE_RANGES_V6)]
    return [{"to": [{"ipBlock": {"cidr": cidr, "except": list(private)}} for cidr, private in blocks]}]


def _environment(settings: Mapping[str, str]) -> list[Object]:
    return [{"name": name, "value": value} for name, value in settings.items()]


def _without_nulls(spec: dict[str, Any]) -> Object:
    return {name: value for name, value in spec.items() if value is not None}
