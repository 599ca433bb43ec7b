"""The e2b provider on a bench: an API server in memory, an account, and a scripted E2B over real HTTP."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.component.account_world import ACCOUNT, AccountWorld, account_world

from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.core.model import Executor, Pool
from execpool.core.times import format_time
from execpool.kube.kinds import SANDBOXES
from execpool.providers.e2b.provider import E2BProvider


class E2BBench:
    def __init__(self, world: AccountWorld) -> None:
        self.world = world
        self.provider: E2BProvider = world.provider
        spec = ExecutionPoolSpec.model_validate(
            {"tiers": [{"name": "local", "e2b": {"accountRef": {"name": ACCOUNT.name}, "max": 4}}]}
        )
        self.pool = Pool(ACCOUNT.namespace, "contract", secrets.token_hex(8), 1, "1", spec, ExecutionPoolStatus())

    async def pass_time(self) -> None:
        await self.world.run(1)

    async def claim(self, executor: Executor, principal: str) -> None:
        """Write what a gateway writes."""
        record = await self.world.kube.get(SANDBOXES, self.pool.namespace, executor.name)
        epoch = record["status"].get("claim", {}).get("epoch", 0) + 1
        held = {"principal": principal, "gateway": "gw", "epoch": epoch, "claimedAt": format_time(self.world.now)}
        body = {
            "metadata": {"resourceVersion": record["metadata"]["resourceVersion"]},
            "status": {"phase": "Claimed", "claim": held},
        }
        await self.world.kube.patch(SANDBOXES, self.pool.namespace, executor.name, body, subresource="status")


@asynccontextmanager
async def e2b_bench() -> AsyncIterator[E2BBench]:
    async with account_world() as world:
        await world.work()
        yield E2BBench(world)
