"""The pods provider on the bench of `execpool dev`: an API server in memory, and a node whose pods are real processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from tests.contract.provider_benches import KEYS, make_pool

from execpool import protocol
from execpool.api import names
from execpool.core.model import Executor
from execpool.dev.node import LocalNode
from execpool.kube.kinds import PODS
from execpool.kube.memory import MemoryKube
from execpool.kube.resources import ExecutorProfile
from execpool.providers.control import HttpControl
from execpool.providers.pods import PodsProvider
from execpool.providers.processes import Processes


class LocalBench:
    def __init__(self, kube: MemoryKube, control: HttpControl) -> None:
        self.kube = kube
        self.provider = PodsProvider(kube, control, KEYS, ExecutorProfile("execpool-dev"), "execpool-system")
        self.pool = make_pool("contract")

    async def pass_time(self) -> None:
        await asyncio.sleep(0.02)

    async def claim(self, executor: Executor, principal: str) -> None:
        pod = await self.kube.get(PODS, self.pool.namespace, executor.name)
        secret = KEYS.current.claim_secret(self.pool.uid, pod["metadata"]["labels"][names.LABEL_EXECUTOR_ID])
        url = f"http://{pod['status']['podIP']}:{protocol.CONTROL_PORT}/claim"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=protocol.ClaimRequest(secret, principal).encode()) as answer,
        ):
            assert answer.status == 200, await answer.text()


@asynccontextmanager
async def local_bench() -> AsyncIterator[LocalBench]:
    kube = MemoryKube()
    async with Processes() as processes, HttpControl() as control:
        node = asyncio.create_task(LocalNode(kube, processes).run())
        yield LocalBench(kube, control)
        node.cancel()
        with suppress(asyncio.CancelledError):
            await node
