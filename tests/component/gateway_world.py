"""A gateway in this process, on a fake API server, in front of real local executors or of a scripted one.

    async with gateway_world(*executors) as world:
        answer = await world.run("1+1")

Executors listen on loopback addresses of their own, at the protocol's ports: so a pod's IP is all that a gateway needs,
as in a cluster.
"""

import asyncio
import hashlib
import io
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from execpool import protocol
from execpool.api import names
from execpool.core.proof import KeyRing, RootKey
from execpool.gateway.service import Service
from execpool.kube.fake import FakeKube
from execpool.kube.kinds import KEYS, LEASES, PODS, POOLS
from execpool.settings import GatewaySettings

SOURCE = Path(__file__).resolve().parents[2] / "operator"
ROOT_KEY = RootKey(bytes(range(32)))
POOL_UID = "pool-uid-1"
SECRET = "ep_team_" + "s" * 43
OTHER_SECRET = "ep_team_" + "o" * 43


@dataclass
class Identity:
    """What a pod says of an executor, and where it is."""

    name: str
    address: str = ""
    uid: str = field(default_factory=lambda: secrets.token_hex(8))
    executor_id: str = field(default_factory=lambda: secrets.token_hex(16))
    tier: str = "local"
    created: str = "2026-01-01T00:00:00Z"
    template: str = "t1"
    slots: int = 4
    spec: dict[str, Any] = field(default_factory=dict)
    runtime: str = "Python"

    def __post_init__(self) -> None:
        self.address = self.address or free_address()

    @property
    def secret(self) -> str:
        return ROOT_KEY.claim_secret(POOL_UID, self.executor_id)

    def pod(self, *, ready: bool = True, deleting: bool = False) -> dict[str, Any]:
        status = "True" if ready else "False"
        stamp = {"deletionTimestamp": "2026-01-01T00:01:00Z"} if deleting else {}
        return {
            "metadata": {
                "name": self.name,
                "uid": self.uid,
                "creationTimestamp": self.created,
                "labels": {
                    names.LABEL_POOL: "agents",
                    names.LABEL_POOL_UID: POOL_UID,
                    names.LABEL_TIER: self.tier,
                    names.LABEL_EXECUTOR_ID: self.executor_id,
                },
                "annotations": {
                    names.ANNOTATION_TEMPLATE_HASH: self.template,
                    names.ANNOTATION_KEY_ID: ROOT_KEY.key_id,
                },
                **stamp,
            },
            "spec": {
                "containers": [{"name": "runner", "env": [{"name": protocol.ENV_RUNTIME, "value": self.runtime}]}],
                **self.spec,
            },
            "status": {"phase": "Running", "podIP": self.address, "conditions": [{"type": "Ready", "status": status}]},
        }


def free_address() -> str:
    """A loopback address on which nobody listens at the protocol's ports."""
    while True:
        address = f"127.{random.randint(1, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
        with socket.socket() as probe:
            if probe.connect_ex((address, protocol.CONTROL_PORT)) != 0:
                return address


@dataclass
class RealExecutor:
    """Server and runner of one executor, as processes."""

    identity: Identity
    server: "subprocess.Popen[bytes]"
    runner: "subprocess.Popen[bytes]"

    def kill(self) -> None:
        """End both at once, as a node that dies."""
        for process in (self.server, self.runner):
            process.send_signal(signal.SIGKILL)
            process.wait()

    def is_ready(self) -> bool:
        with socket.socket() as client:
            if client.connect_ex((self.identity.address, protocol.CONTROL_PORT)) != 0:
                return False
            client.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b" 200 " in client.recv(64)


@contextmanager
def real_executors(*identities: Identity, idle_seconds: float = 120) -> Iterator[list[RealExecutor]]:
    """Start executors, all at once; everything of them is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="execpool-gateway-") as name:
        started = [_start(identity, Path(name) / identity.uid, idle_seconds) for identity in identities]
        try:
            deadline = time.monotonic() + 60
            while not all(executor.is_ready() for executor in started):
                assert time.monotonic() < deadline, "executors do not become ready"
                time.sleep(0.05)
            yield started
        finally:
            for executor in started:
                executor.kill()


def _start(identity: Identity, directory: Path, idle_seconds: float) -> RealExecutor:
    for part in ("socket", "state", "work"):
        (directory / part).mkdir(parents=True)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "PYTHONPATH": str(SOURCE),
        "EXECPOOL_HOST": identity.address,
        "EXECPOOL_WORK_DIR": str(directory / "work"),
        "EXECPOOL_SWEEP_DIRS": str(directory / "work"),
        protocol.ENV_SOCKET_DIR: str(directory / "socket"),
        protocol.ENV_STATE_DIR: str(directory / "state"),
        protocol.ENV_SLOTS: str(identity.slots),
        protocol.ENV_EXECUTOR_ID: identity.executor_id,
        protocol.ENV_POD_UID: identity.uid,
        protocol.ENV_SECRET_HASH: protocol.secret_hash(identity.secret),
        protocol.ENV_IDLE_SECONDS: str(idle_seconds),
        protocol.ENV_NETWORK: "None",
        protocol.ENV_RUNTIME: identity.runtime,
    }
    log = (directory / "log").open("wb")
    command = [sys.executable, "-m", "execpool.executor.main"]
    with log:
        server = subprocess.Popen([*command, "server"], env=environment, stdout=log, stderr=log)
        runner = subprocess.Popen([*command, "runner"], env=environment, stdout=log, stderr=log)
    return RealExecutor(identity, server, runner)


def key(secret: str = SECRET, *, name: str = "agent", tenant: str = "acme", **spec: Any) -> dict[str, Any]:
    hashed = hashlib.sha256(secret.encode()).hexdigest()
    return {"metadata": {"name": name}, "spec": {"keyHash": hashed, "tenant": tenant, **spec}}


def pool(*, name: str = "agents", uid: str = POOL_UID, **spec: Any) -> dict[str, Any]:
    tiers = spec.pop("tiers", None) or [{"name": "local", "pods": {"max": 8, "slots": spec.pop("slots", 4)}}]
    return {"metadata": {"name": name, "uid": uid}, "spec": {"tiers": tiers, **spec}}


@dataclass
class Reply:
    """A response of the gateway."""

    status: int
    headers: Any
    body: dict[str, Any]


@dataclass
class GatewayWorld:
    """A running gateway, its API server, and a client of it."""

    kube: FakeKube
    settings: GatewaySettings
    http: aiohttp.ClientSession
    service: Service

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}/v1/executions"

    async def post(self, body: object, *, secret: str | None = SECRET, headers: dict[str, str] | None = None) -> Reply:
        data = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        bearer = {"Authorization": f"Bearer {secret}"} if secret is not None else {}
        async with self.http.post(self.url, data=data, headers=bearer | (headers or {})) as response:
            return Reply(response.status, response.headers, await response.json(content_type=None))

    async def run(self, code: str, **fields: Any) -> dict[str, Any]:
        """Execute and return the answer, which must be one."""
        reply = await self.post({"code": code, **fields})
        assert reply.status == 200, reply.body
        return reply.body

    async def refused(self, code: str = "1", *, secret: str | None = SECRET, **fields: Any) -> Reply:
        """Execute and return the problem, which must be one."""
        reply = await self.post({"code": code, **fields}, secret=secret)
        assert reply.status >= 400, reply.body
        assert reply.headers["Content-Type"] == "application/problem+json"
        assert reply.body["status"] == reply.status
        return reply

    async def lines(self, code: str, **fields: Any) -> list[dict[str, Any]]:
        """Execute as a stream and return its lines."""
        headers = {"Authorization": f"Bearer {SECRET}", "Accept": "application/x-ndjson"}
        async with self.http.post(self.url, json={"code": code, **fields}, headers=headers) as response:
            assert response.status == 200, await response.text()
            assert response.headers["Content-Type"] == "application/x-ndjson"
            return [json.loads(line) async for line in response.content]

    async def health(self, path: str) -> tuple[int, str]:
        async with self.http.get(f"http://127.0.0.1:{self.service.health_port}/{path}") as response:
            return response.status, await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples with these labels."""
        _, text = await self.health("metrics")
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        samples = [line for line in text.splitlines() if line.startswith(name + "{") and all(w in line for w in wanted)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in samples)

    def waiting(self) -> int:
        """How many executions wait."""
        return sum(pool.admission.waiting() for pool in self.service._pools.all())

    def demand(self) -> dict[str, Any]:
        """What the Lease says."""
        (lease,) = self.kube.peek(LEASES)
        return json.loads(lease["metadata"]["annotations"][names.ANNOTATION_DEMAND])

    async def put(self, identity: Identity, **state: bool) -> None:
        self.kube.put(PODS, "team", identity.pod(**state))
        await self.kube.notify()

    async def drop(self, identity: Identity) -> None:
        self.kube.drop(PODS, "team", identity.name)
        await self.kube.notify()

    async def until(self, condition: Any, seconds: float = 5.0) -> None:
        """Wait until a condition holds."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - any state of any part
                await asyncio.sleep(0.005)


def settings(**overrides: Any) -> GatewaySettings:
    values = {"host": "127.0.0.1", "port": 0, "health_port": 0, "pod_name": "gw-0", "settle_seconds": 0.0}
    return GatewaySettings(**values | overrides)


@asynccontextmanager
async def gateway_world(
    *identities: Identity,
    pools: Sequence[dict[str, Any]] = (),
    keys: Sequence[dict[str, Any]] = (),
    kube: FakeKube | None = None,
    **overrides: Any,
) -> AsyncIterator[GatewayWorld]:
    """Start a gateway for the pool `agents` with these executors; it is drained and stopped afterwards."""
    kube = kube or FakeKube()
    for one in pools or (pool(),):
        kube.put(POOLS, "team", one)
    for one in keys or (key(),):
        kube.put(KEYS, "team", one)
    for identity in identities:
        kube.put(PODS, "team", identity.pod())
    chosen = settings(**{"drain_seconds": 1.0} | overrides)
    service = Service(chosen, kube, KeyRing((ROOT_KEY,)))
    service.start()
    async with asyncio.timeout(10):
        await service.ready.wait()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        try:
            yield GatewayWorld(kube, chosen, http, service)
        finally:
            await service.stop()
