"""The pods provider on three benches: an API server in memory with a played node or with one of processes, and the real cluster."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from tests.nodes import running_node

from execpool import protocol
from execpool.api import names
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.cli.doors import LocalClusterDoor
from execpool.core.model import Executor, Phase, Pool
from execpool.core.proof import KeyRing, RootKey
from execpool.kube.client import Kube, KubeClient
from execpool.kube.fake import FakeKube
from execpool.kube.kinds import PODS
from execpool.kube.memory import MemoryKube
from execpool.kube.resources import ExecutorProfile
from execpool.providers.base import Provider
from execpool.providers.control import HttpControl
from execpool.providers.fake import FakeExecutors, FakeKubelet
from execpool.providers.pods import PodsProvider
from execpool.providers.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
KEYS = KeyRing((RootKey(secrets.token_bytes(32)),))


class Bench(Protocol):
    """Where a provider is tried."""

    provider: Provider
    pool: Pool

    async def pass_time(self) -> None:
        """Let the node do its work for a moment."""

    async def claim(self, executor: Executor, principal: str) -> None:
        """Claim an executor as a gateway does."""


def make_pool(namespace: str) -> Pool:
    pods = {"max": 4, "idleSeconds": 600, "resources": {"limits": {"cpu": "1", "memory": "512Mi"}}}
    spec = ExecutionPoolSpec.model_validate({"tiers": [{"name": "local", "pods": pods}]})
    return Pool(namespace, "contract", secrets.token_hex(8), 1, "1", spec, ExecutionPoolStatus())


class MemoryBench:
    def __init__(self) -> None:
        self.kube, self.executors = FakeKube(), FakeExecutors()
        self.kubelet = FakeKubelet(self.kube, self.executors)
        profile = ExecutorProfile("execpool-executor:test")
        self.provider = PodsProvider(self.kube, self.executors, KEYS, profile, "execpool-system")
        self.pool = make_pool("contract")

    async def pass_time(self) -> None:
        self.kubelet.step()
        await asyncio.sleep(0)

    async def claim(self, executor: Executor, principal: str) -> None:
        self.kubelet.executor_of(executor.name).claim(principal)


class RealBench:
    """Executors that answer on their ports, wherever their pods run; `step_seconds` is a moment of their node's."""

    def __init__(self, kube: Kube, control: HttpControl, image: str, namespace: str, step_seconds: float) -> None:
        self.kube = kube
        self.provider = PodsProvider(kube, control, KEYS, ExecutorProfile(image), "execpool-system")
        self.pool = make_pool(namespace)
        self.step_seconds = step_seconds

    async def pass_time(self) -> None:
        await asyncio.sleep(self.step_seconds)

    async def claim(self, executor: Executor, principal: str) -> None:
        pod = await self.kube.get(PODS, self.pool.namespace, executor.name)
        secret = KEYS.current.claim_secret(self.pool.uid, pod["metadata"]["labels"][names.LABEL_EXECUTOR_ID])
        url = f"http://{pod['status']['podIP']}:{protocol.CONTROL_PORT}/claim"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=protocol.ClaimRequest(secret, principal).encode()) as answer,
        ):
            assert answer.status == 200, await answer.text()


@cache
def _executor_image() -> str:
    return LocalClusterDoor(ROOT).images()["executor"]


@asynccontextmanager
async def cluster_bench(cluster: Any, namespace: str) -> AsyncIterator[RealBench]:
    image = _executor_image()
    async with await KubeClient.connect(kubeconfig=str(cluster.kubeconfig)) as kube, HttpControl() as control:
        yield RealBench(kube, control, image, namespace, step_seconds=0.1)


@asynccontextmanager
async def processes_bench() -> AsyncIterator[RealBench]:
    """That of `execpool dev`: pods are real processes of this machine."""
    kube = MemoryKube()
    async with Processes() as processes, HttpControl() as control, running_node(kube, processes):
        yield RealBench(kube, control, "execpool-dev", "contract", step_seconds=0.02)


async def until(bench: Bench, phase: Phase, *, count: int = 1, seconds: float = 30.0) -> tuple[Executor, ...]:
    """Return the executors once so many of them are in a phase."""
    async with asyncio.timeout(seconds):
        while True:
            executors = await bench.provider.observe(bench.pool)
            if sum(executor.phase is phase for executor in executors) >= count:
                return executors
            await bench.pass_time()
