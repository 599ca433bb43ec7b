"""Everything in one process, put together: an API server in memory, a node, the operator, the gateway.

    birth   objects -> node and operator -> gateway -> opened, once every tier has what it wants or says why not
    death   gateway drained -> operator -> node; the processes end with their `Processes`, which outlives all of this

The first part that ends by itself ends everything: half of it would only look like all of it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from execpool.api.names import ConditionType
from execpool.api.v1alpha1 import ExecutionPoolStatus
from execpool.cli.keys import make_key
from execpool.core.proof import KEY_BYTES, KeyRing, RootKey
from execpool.core.status import condition
from execpool.dev.control import NAME, SYSTEM, ControlPlane
from execpool.dev.declared import Declared
from execpool.dev.node import LocalNode
from execpool.dev.saying import TierRow
from execpool.gateway.service import Service
from execpool.kube.client import EventType, Object
from execpool.kube.kinds import KEYS, POOLS
from execpool.kube.memory import MemoryKube
from execpool.providers.control import HttpControl
from execpool.providers.processes import Processes
from execpool.settings import GatewaySettings

TENANT = "dev"
DRAIN_SECONDS = 0.5
"""What runs has so long when all of it ends; whoever pressed Ctrl-C waits for it."""


@dataclass(frozen=True)
class Address:
    """Where the gateway listens; port 0 takes a free one."""

    host: str
    port: int


class PartEndedError(Exception):
    """A part that runs for ever has ended; the message names it."""


class DevService:
    """One pool file, served.

    Attributes:
        key: may execute on every pool; known to nobody else, and of no use after the end.

    Args:
        on_tier: told of every change of a tier.
    """

    def __init__(
        self, declared: Declared, processes: Processes, address: Address, on_tier: Callable[[TierRow], None]
    ) -> None:
        self._declared = declared
        self._on_tier = on_tier
        self._kube = MemoryKube()
        self._http = HttpControl()
        self._rows: dict[tuple[str, str], TierRow] = {}
        self._specs = {
            pool["metadata"]["name"]: spec for pool, spec in zip(declared.pools, declared.specs, strict=True)
        }
        self._filling = set(self._specs)
        self._all_settled = asyncio.Event()
        self.key, self._manifest = make_key(tenant=TENANT, namespace=declared.namespace)
        keys = KeyRing((RootKey(secrets.token_bytes(KEY_BYTES)),))
        self._node = LocalNode(self._kube, processes)
        self._control = ControlPlane(self._kube, self._http, keys, self._hear)
        self._gateway = Service(_settings(address), self._kube, keys)
        self._host = address.host
        self._parts: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Address of the gateway."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._gateway.port}"

    def tiers(self) -> tuple[TierRow, ...]:
        """Return the tiers in their order."""
        names = [(pool, tier.name) for pool, spec in self._specs.items() for tier in spec.tiers]
        return tuple(self._rows[name] for name in names if name in self._rows)

    async def start(self) -> None:
        """Start every part; return once executions are taken, if not yet run."""
        for kind, documents in ((POOLS, self._declared.pools), (KEYS, (*self._declared.keys, self._manifest))):
            for document in documents:
                await self._kube.create(kind, self._declared.namespace, document)
        parts = (("node", self._node), ("operator", self._control))
        self._parts = [asyncio.create_task(part.run(), name=name) for name, part in parts]
        self._gateway.start()
        await self._unless_a_part_ends(self._gateway.ready.wait())

    async def until_settled(self) -> None:
        """Wait until every pool has filled its tiers, or says why it cannot."""
        await self._unless_a_part_ends(self._all_settled.wait())

    async def until_a_part_ends(self) -> None:
        """Wait for what should never happen. Raises PartEndedError."""
        await self._unless_a_part_ends(asyncio.Event().wait())

    async def stop(self) -> None:
        """End everything but the processes; also when not all of it has started."""
        if self._parts:
            await self._gateway.stop()
        for part in self._parts:
            part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        await self._http.close()

    async def _unless_a_part_ends(self, work: Awaitable[object]) -> None:
        waiting = asyncio.ensure_future(work)
        try:
            await asyncio.wait({waiting, *self._parts}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        for part in self._parts:
            if part.done():
                raise PartEndedError(part.get_name()) from (None if part.cancelled() else part.exception())

    def _hear(self, _: EventType, pool: Object) -> None:
        """Take in a change of a pool: what its tiers are, and whether it is as it should be."""
        name, status = pool["metadata"]["name"], ExecutionPoolStatus.read(pool.get("status") or {})
        sizes = {tier.name: tier.sizing.max for tier in self._specs[name].tiers}
        for tier in status.tiers:
            row = TierRow.of(name, tier, sizes[tier.name])
            if self._rows.get((name, tier.name)) != row:
                self._rows[name, tier.name] = row
                self._on_tier(row)
        filled = condition(status, ConditionType.WARM_POOL_FILLED)
        if filled is not None and (filled.status == "True" or filled.reason != "Filling"):
            self._filling.discard(name)
        if not self._filling:
            self._all_settled.set()


def _settings(address: Address) -> GatewaySettings:
    return GatewaySettings(
        host=address.host,
        port=address.port,
        health_port=0,
        namespace=SYSTEM,
        namespaces="",
        pod_name=NAME,
        settle_seconds=0.0,
        drain_seconds=DRAIN_SECONDS,
    )
