"""The cluster of `make up`, the execpool installed in it, and a namespace of our own to measure in.

All requests go to the cluster's own addresses, as this machine reaches them: the API server, the Service of the gateway,
and pods by their IP. Proxies of the environment are never used.
"""

import base64
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from tests.cluster.layout import Layout

from benchmarks.figures import BenchmarkError
from benchmarks.watching import Watch
from execpool.api import names
from execpool.cli.keys import ROOT_KEY_SECRET, make_key
from execpool.core.proof import KeyRing, RootKey
from execpool.kube.client import KubeClient, Object, load_configuration, make_session
from execpool.kube.errors import KubeError, NotFoundError
from execpool.kube.kinds import KEYS, PODS, POOLS, Kind

SYSTEM = "execpool-system"
GATEWAY_SERVICE = "execpool-gateway"
HEALTH_PORT = 8081
TIER = "local"
TENANT = "benchmarks"

NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
SERVICES = Kind("", "v1", "services", "Service")
SERVICE_ACCOUNTS = Kind("", "v1", "serviceaccounts", "ServiceAccount")
SECRETS = Kind("", "v1", "secrets", "Secret")

ADVICE = "run `make up` first, as root"
ACCOUNT_SECONDS = 10.0
PART_SECONDS = 30.0
FILL_SECONDS = 60.0
CLEAN_SECONDS = 30.0
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)


@dataclass(frozen=True)
class Part:
    """A pod of the control plane."""

    uid: str
    address: str
    environment: dict[str, str]

    @property
    def metrics_url(self) -> str:
        """Where it tells its metrics."""
        return f"http://{self.address}:{HEALTH_PORT}/metrics"


@dataclass(frozen=True)
class Cluster:
    """A cluster with execpool in it.

    Attributes:
        http: for executors, the gateway and its metrics.
        api: for what the API server tells beside objects, at `api_url`.
    """

    kube: KubeClient
    http: aiohttp.ClientSession
    api: aiohttp.ClientSession
    api_url: str
    operator: Part
    gateway: Part
    gateway_url: str
    keys: KeyRing

    @asynccontextmanager
    async def namespace(self) -> "AsyncIterator[Namespace]":
        """Make a namespace with an execution key in it; remove both, and all pools, afterwards."""
        name = f"bench-{secrets.token_hex(4)}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        made = await self.kube.create(NAMESPACES, None, {"metadata": {"name": name, "labels": labels}})
        try:
            await self._account(name)
            key, manifest = make_key(tenant=TENANT, namespace=name)
            await self.kube.create(KEYS, name, manifest)
            yield Namespace(self, name, key)
        finally:
            await self.remove_pools(name)
            await self.kube.delete(NAMESPACES, None, name, uid=made["metadata"]["uid"])

    async def _account(self, namespace: str) -> None:
        """Wait for the service account without which the API server takes no pods."""
        async with Watch(self.kube, SERVICE_ACCOUNTS, namespace) as accounts:
            await accounts.until(lambda seen: seen.name == "default", "a service account", ACCOUNT_SECONDS)

    async def remove_pools(self, namespace: str) -> None:
        """Delete the pools and wait for their executors, so that the next benchmark has the machine to itself."""
        for pool in (await self.kube.list(POOLS, namespace)).items:
            await delete(self.kube, POOLS, pool)
        try:
            async with Watch(self.kube, PODS, namespace) as pods:
                await pods.until_empty("no pods", CLEAN_SECONDS)
            async with Watch(self.kube, POOLS, namespace) as pools:
                await pools.until_empty("no pools", CLEAN_SECONDS)
        except BenchmarkError as error:
            print(f"benchmarks: namespace {namespace} is slow to go: {error}", file=sys.stderr)


@dataclass(frozen=True)
class Namespace:
    """A namespace of one benchmark, and the execution key that sees it."""

    cluster: Cluster
    name: str
    key: str

    @property
    def kube(self) -> KubeClient:
        """The API server."""
        return self.cluster.kube

    async def fill_pool(self, **spec: Any) -> Object:
        """Create a pool and wait until it is full; return it."""
        async with Watch(self.kube, POOLS, self.name) as pools:
            pool = await self.kube.create(POOLS, self.name, pool_manifest("pool", **spec))
            await pools.until(lambda seen: is_true(seen.object, "WarmPoolFilled"), "a full pool", FILL_SECONDS)
        return pool

    async def empty(self) -> None:
        """Remove the pools of this namespace, so that the next one has the machine to itself."""
        await self.cluster.remove_pools(self.name)

    async def executors(self, pool: Object) -> list[Object]:
        """Return the pods of a pool."""
        labels = f"{names.LABEL_POOL_UID}={pool['metadata']['uid']}"
        return list((await self.kube.list(PODS, self.name, labels=labels)).items)


def pool_manifest(name: str, *, warm: int, most: int | None = None, slots: int = 1, **pods: Any) -> Object:
    """Return a pool of small executors that is deleted without a drain."""
    resources = {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "10m", "memory": "64Mi"}}
    tier = {"max": most or warm, "slots": slots, "resources": resources, **pods}
    spec = {"replicas": warm, "deletion": {"policy": "Delete"}, "tiers": [{"name": TIER, "pods": tier}]}
    return {"metadata": {"name": name}, "spec": spec}


def is_true(wire: Object, condition: str) -> bool:
    """True when an object says of its newest generation that a condition holds."""
    status = wire.get("status") or {}
    held = {one["type"]: one for one in status.get("conditions") or []}.get(condition, {})
    return held.get("status") == "True" and held.get("observedGeneration", 0) in (0, wire["metadata"].get("generation"))


async def delete(kube: KubeClient, kind: Kind, wire: Object, *, grace_seconds: int | None = None) -> None:
    """Delete an object if it is still there."""
    metadata = wire["metadata"]
    try:
        await kube.delete(
            kind, metadata["namespace"], metadata["name"], uid=metadata["uid"], grace_seconds=grace_seconds
        )
    except NotFoundError:
        return


@asynccontextmanager
async def open_cluster() -> AsyncIterator[Cluster]:
    """Find the cluster and the execpool in it.

    Raises:
        BenchmarkError: something is missing; says what to do.
    """
    kubeconfig = Layout.from_environment().kubeconfig
    if not _is_file(kubeconfig):
        raise BenchmarkError(f"there is no cluster here ({kubeconfig} does not exist); {ADVICE}")
    configuration = await load_configuration(str(kubeconfig))
    async with (
        KubeClient(configuration) as kube,
        make_session(configuration) as api,
        aiohttp.ClientSession(timeout=REQUEST_TIMEOUT, trust_env=False) as http,
    ):
        try:
            operator, gateway = await _part(kube, "operator"), await _part(kube, "gateway")
            service = await kube.get(SERVICES, SYSTEM, GATEWAY_SERVICE)
            keys = _key_ring(await kube.get(SECRETS, SYSTEM, ROOT_KEY_SECRET))
        except KubeError as error:
            raise BenchmarkError(f"no execpool is installed in the cluster ({error}); {ADVICE}") from error
        url = f"http://{service['spec']['clusterIP']}"
        yield Cluster(kube, http, api, configuration.host, operator, gateway, url, keys)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:
        return False


async def _part(kube: KubeClient, component: str) -> Part:
    """Return the ready pod of a component; while it is being replaced there may be none for a moment."""
    deadline = time.monotonic() + PART_SECONDS
    async with Watch(kube, PODS, SYSTEM, labels=f"{names.LABEL_COMPONENT}={component}") as pods:
        try:
            seen = await pods.until(lambda seen: is_ready(seen.object), "ready", deadline - time.monotonic())
        except BenchmarkError:
            raise BenchmarkError(f"no ready {component} runs in namespace {SYSTEM}; {ADVICE}") from None
    pod = seen.object
    environment = {one["name"]: one.get("value", "") for one in pod["spec"]["containers"][0].get("env", [])}
    return Part(pod["metadata"]["uid"], pod["status"]["podIP"], environment)


def is_ready(pod: Object) -> bool:
    """True when a pod is ready and stays."""
    return not pod["metadata"].get("deletionTimestamp") and any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in (pod.get("status") or {}).get("conditions") or []
    )


def _key_ring(secret: Object) -> KeyRing:
    data = secret["data"]
    generations = [data[name] for name in ("current", "previous") if name in data]
    return KeyRing(tuple(RootKey(bytes.fromhex(base64.b64decode(hexed).decode().strip())) for hexed in generations))
