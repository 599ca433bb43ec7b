"""What no event tells: pools whose watch is dead, and executors whose pool has vanished.

All pools are listed every minute. One that is found only so proves a dead watch, and the health check fails from then
on: a restart is the mend. Executors of a pool that does not exist are strays (its finalizer was stripped by hand, or a
cascade orphaned them): they are retired when nobody uses them, after two sweeps and a 404 for their pool, since a list
that is empty by mistake must not end anybody's work.
"""

import asyncio
import logging
from dataclasses import dataclass, field

from execpool.controller.effects import Effects
from execpool.controller.pools import PoolRef, ref_of
from execpool.controller.tasks import PoolTasks
from execpool.core.model import Pool
from execpool.core.planning import plan_strays
from execpool.kube.client import Kube
from execpool.kube.errors import KubeError, NotFoundError
from execpool.kube.kinds import POOLS
from execpool.telemetry import metrics

log = logging.getLogger(__name__)


@dataclass
class Sweep:
    """The periodic look at everything."""

    kube: Kube
    effects: Effects
    tasks: PoolTasks
    namespaces: tuple[str, ...]
    seconds: float
    grace_seconds: float = 5.0
    """A pool found only by listing is given this long to come through the watch."""
    watch_is_dead: bool = False
    _suspects: frozenset[str] = field(default_factory=frozenset)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self.seconds)
            try:
                await self.once()
            except KubeError as error:
                log.warning("sweep failed", extra={"error": str(error)})

    async def once(self) -> None:
        """List all pools, start what no event started, retire strays."""
        pools = await self._pools()
        late = [ref for ref in pools if ref.uid not in self.tasks.uids()]
        if late:
            await asyncio.sleep(self.grace_seconds)
        for ref in late:
            if await self._exists(ref) and self.tasks.nudge(ref):
                metrics.POOLS_FOUND_LATE.inc()
                self.watch_is_dead = True
                log.error("pool found only by listing: a watch is dead", extra={"pool": ref.key})
        strays = await self.effects.provider.stray_pools([ref.uid for ref in pools])
        for stray in strays:
            known = PoolRef(stray.namespace, stray.name, stray.uid)
            if stray.uid in self._suspects and not await self._exists(known):
                await self._retire(stray)
        self._suspects = frozenset(stray.uid for stray in strays)

    async def _pools(self) -> list[PoolRef]:
        scopes: tuple[str | None, ...] = self.namespaces or (None,)
        listings = await asyncio.gather(*(self.kube.list(POOLS, namespace) for namespace in scopes))
        return [ref_of(item) for listing in listings for item in listing.items]

    async def _exists(self, ref: PoolRef) -> bool:
        """Ask for one pool by name, since a list may be older than what it is held against."""
        try:
            found = await self.kube.get(POOLS, ref.namespace, ref.name)
        except NotFoundError:
            return False
        return bool(found["metadata"]["uid"] == ref.uid)

    async def _retire(self, pool: Pool) -> None:
        executors = await self.effects.provider.observe(pool)
        log.warning("executors of a vanished pool", extra={"pool": pool.key, "uid": pool.uid, "count": len(executors)})
        await self.effects.end_executors(pool, plan_strays(executors))
        if not executors:
            await self.effects.provider.remove_policies(pool)
