"""All providers behind one: each tier is made by the provider of its kind, and each executor ended by the one that made it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from execpool.api.v1alpha1 import Tier, TierKind
from execpool.core.model import Executor, Pool
from execpool.protocol import Expect
from execpool.providers.base import Provider, Retirement


@dataclass(frozen=True)
class ProviderByKind:
    """What the controller gets. A pool's executors may be of kinds that its spec no longer names, so all are asked."""

    providers: Mapping[TierKind, Provider]

    def template_hash(self, tier: Tier) -> str:
        return self.providers[tier.kind].template_hash(tier)

    async def observe(self, pool: Pool) -> tuple[Executor, ...]:
        seen = await asyncio.gather(*(provider.observe(pool) for provider in self.providers.values()))
        return tuple(executor for executors in seen for executor in executors)

    async def create(self, pool: Pool, tier: Tier) -> str:
        return await self.providers[tier.kind].create(pool, tier)

    async def retire(self, pool: Pool, executor: Executor, expect: Expect) -> Retirement:
        return await self.providers[executor.kind].retire(pool, executor, expect)

    async def remove(self, executor: Executor, namespace: str) -> None:
        await self.providers[executor.kind].remove(executor, namespace)

    async def policies_current(self, pool: Pool) -> bool:
        return all(await asyncio.gather(*(provider.policies_current(pool) for provider in self.providers.values())))

    async def apply_policies(self, pool: Pool) -> None:
        for provider in self.providers.values():
            await provider.apply_policies(pool)

    async def remove_policies(self, pool: Pool) -> None:
        for provider in self.providers.values():
            await provider.remove_policies(pool)

    async def stray_pools(self, known: Sequence[str]) -> tuple[Pool, ...]:
        strays = await asyncio.gather(*(provider.stray_pools(known) for provider in self.providers.values()))
        return tuple({stray.uid: stray for pools in strays for stray in pools}.values())
