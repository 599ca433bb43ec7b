"""The pools that this gateway serves, each with its claims table and its queue, kept equal to the watches.

Pods may be seen before their pool and the other way round; both orders give the same table. A pool is identified by its
UID: one that is deleted and made again under its name is another pool, with other executors.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from execpool.api.names import Isolation, Refusal
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus, TierKind
from execpool.core.claiming import Target
from execpool.core.gates import Gate
from execpool.core.holding import TierRoom, holds_to_end
from execpool.core.isolation import isolation_of
from execpool.core.model import Demand
from execpool.core.retrying import RetryBudget
from execpool.gateway.accounts import Accounts
from execpool.gateway.admission import Admission
from execpool.gateway.auth import Caller
from execpool.gateway.budgets import PoolBudgets
from execpool.gateway.claims import Claims
from execpool.gateway.errors import GatewayError
from execpool.gateway.executors import ExecutorClient
from execpool.gateway.pods import pool_uid_of, target_of
from execpool.gateway.sandboxes import Records
from execpool.kube.client import EventType, Object
from execpool.telemetry.metrics import CLAIMED, HELD_BACK, RUNNING, WAITING

log = logging.getLogger(__name__)

Home = tuple[str, str]
"""Namespace, and UID of the pool that a pod says it belongs to."""


class ServedPool:
    """One pool as last observed.

    Attributes:
        key: namespace and name.
        isolation: rank of each tier, in the spec's order.
        claims: its executors.
        admission: its queue.
        retries: how often executions may be taken elsewhere.
    """

    def __init__(self, key: tuple[str, str], uid: str, client: ExecutorClient, accounts: Accounts) -> None:
        self.key = key
        self.uid = uid
        self.isolation: dict[str, Isolation] = {}
        self.claims = Claims(key, client)
        self.admission = Admission(self.claims, key[1])
        self.admission.gates = self._gates
        self.retries = RetryBudget(asyncio.get_running_loop().time())
        self._accounts = accounts
        self._budgets = PoolBudgets(asyncio.get_running_loop().time)
        self._accounts_of: dict[str, tuple[str, str]] = {}
        self._rooms: dict[str, TierRoom] = {}
        self._spec: ExecutionPoolSpec | None = None
        self._is_deleting = False

    @property
    def name(self) -> str:
        """Name of the pool in its namespace."""
        return self.key[1]

    def max_wait(self, asked: float | None) -> float:
        """Return how long an execution may wait here, in seconds."""
        longest = float(self._spec.queue.max_wait_seconds) if self._spec is not None else 0.0
        return longest if asked is None else min(asked, longest)

    def observe(self, wire: Object) -> None:
        """Take in the pool as the watch shows it. A spec that cannot be read leaves the last one in force."""
        self._is_deleting = bool(wire["metadata"].get("deletionTimestamp"))
        try:
            self._spec = ExecutionPoolSpec.read(wire.get("spec") or {})
            status = ExecutionPoolStatus.read(wire.get("status") or {})
        except ValidationError as error:
            log.warning("pool not read", extra={"pool": self.name, "errors": error.error_count()})
        else:
            reported = {tier.name: tier.isolation for tier in status.tiers}
            self.isolation = {
                tier.name: reported.get(tier.name, isolation_of(tier, user_namespaces=False))
                for tier in self._spec.tiers
            }
            self.claims.slots = {tier.name: tier.sizing.slots for tier in self._spec.tiers}
            self.admission.max_depth = self._spec.queue.max_depth
            self._budgets.observe(self._spec.budgets)
            sandboxes = [(tier.name, tier.as_e2b()) for tier in self._spec.tiers if tier.kind is TierKind.E2B]
            self._accounts_of = {
                name: (tier.account_ref.namespace or self.key[0], tier.account_ref.name) for name, tier in sandboxes
            }
            self._rooms = {name: TierRoom(tier.max, float(tier.idle_seconds)) for name, tier in sandboxes}
            self.admission.pump()
        if (refusal := self.refusal()) is not None:
            self.admission.refuse_all(lambda: self.refusal() or refusal)

    def refusal(self) -> GatewayError | None:
        """Return why the pool takes no executions; None when it does."""
        if self._is_deleting:
            return GatewayError(Refusal.DRAINING, f"pool {self.name} is being deleted; it takes no new executions")
        if self._spec is None:
            return GatewayError(Refusal.NO_CAPACITY, f"the spec of pool {self.name} cannot be read by this gateway")
        if self._spec.suspend:
            return GatewayError(Refusal.POOL_SUSPENDED, f"pool {self.name} is suspended; spec.suspend is true")
        return None

    def end_holds(self) -> None:
        """End sandboxes that have been idle for too long, that others wait for, or that should have ended before.

        A pool that takes no executions, being suspended or deleted, lets its idle ones go at once.
        """
        rooms = self._rooms if self.refusal() is None else {}
        idle, for_others = holds_to_end(self.claims.holds(), rooms, self.admission.wanted())
        for why, chosen in (("idle", idle), ("others wait", for_others)):
            for executor in chosen:
                log.info("hold ended", extra={"pool": self.name, "executor": executor, "why": why})
                self.claims.spend(executor)
        self.claims.end_spent()

    def _gates(self, principal: str, tier: str) -> Sequence[Gate]:
        account = self._accounts_of.get(tier)
        gates = self._budgets.gates(principal, tier)
        return gates if account is None else [*gates, *self._accounts.gates(account)]

    def demand(self) -> Demand:
        """Return what the operator is told about it."""
        return Demand(waiting=self.admission.wanted(), claims=self.claims.held())


class Pools:
    """All served pools.

    Args:
        records: reads the records of E2B sandboxes.
        client: speaks to executors of every kind.
        accounts: what E2B accounts allow.
        on_change: called when claims or waiting may have changed anywhere.
    """

    def __init__(
        self, records: Records, client: ExecutorClient, accounts: Accounts, on_change: Callable[[], None]
    ) -> None:
        self._records = records
        self._accounts = accounts
        self._client = client
        self._on_change = on_change
        self._by_name: dict[str, dict[str, ServedPool]] = {}
        self._by_uid: dict[str, ServedPool] = {}
        self._targets: dict[Home, dict[str, Target]] = {}
        self._homes: dict[str, Home] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def on_pool(self, event: EventType, wire: Object) -> None:
        """Take in a pool as the watch shows it."""
        uid = wire["metadata"]["uid"]
        if event is EventType.DELETED:
            self._drop(uid)
            return
        if uid not in self._by_uid:
            self._add(wire)
        self._by_uid[uid].observe(wire)

    def on_pod(self, event: EventType, wire: Object) -> None:
        """Take in an executor pod as the watch shows it."""
        self._take_in(wire, None if event is EventType.DELETED else target_of(wire))

    def on_sandbox(self, event: EventType, wire: Object) -> None:
        """Take in the record of an E2B sandbox as the watch shows it."""
        if event is EventType.DELETED:
            self._records.forget(wire["metadata"]["uid"])
        self._take_in(wire, None if event is EventType.DELETED else self._records.target_of(wire))

    def spend(self, target: Target) -> None:
        """Let an executor serve nobody any more."""
        home = self._homes.get(target.uid)
        if home is not None and (claims := self._claims_at(home)) is not None:
            claims.spend(target.uid)

    def _take_in(self, wire: Object, target: Target | None) -> None:
        uid, home = wire["metadata"]["uid"], (wire["metadata"]["namespace"], pool_uid_of(wire))
        known = self._homes.get(uid)
        if known is not None and (target is None or known != home):
            self._forget(uid, known)
        if target is not None:
            self._homes[uid] = home
            self._targets.setdefault(home, {})[uid] = target
            if (claims := self._claims_at(home)) is not None:
                claims.observe(target)

    def _forget(self, uid: str, home: Home) -> None:
        del self._homes[uid]
        del self._targets[home][uid]
        if not self._targets[home]:
            del self._targets[home]
        if (claims := self._claims_at(home)) is not None:
            claims.forget(uid)

    def _claims_at(self, home: Home) -> Claims | None:
        namespace, pool_uid = home
        pool = self._by_uid.get(pool_uid)
        return pool.claims if pool is not None and pool.key[0] == namespace else None

    def all(self) -> list[ServedPool]:
        """Return every pool."""
        return list(self._by_uid.values())

    def find(self, caller: Caller, name: str | None) -> ServedPool:
        """Return the pool that a caller names, or its only one.

        Raises:
            GatewayError: PoolNotFound or InvalidRequest with the pools that the key may see; why the pool does not serve.
        """
        pools = self._by_name.get(caller.namespace, {})
        seen = sorted(pool for pool in pools if caller.sees(pool))
        if name is None and len(seen) == 1:
            name = seen[0]
        if name is None and seen:
            raise GatewayError(Refusal.INVALID_REQUEST, "pool: the key sees several pools, so name one", pools=seen)
        if name not in seen:
            known = f"it sees {', '.join(seen)}" if seen else "it sees none"
            sentence = f"the key sees no pool {name!r}; {known}" if name else "the key sees no pool"
            raise GatewayError(Refusal.POOL_NOT_FOUND, sentence, pools=seen)
        pool = pools[name]
        if (refusal := pool.refusal()) is not None:
            raise refusal
        return pool

    def end_holds(self) -> None:
        """End the holds of sandboxes whose time has come."""
        for pool in self.all():
            pool.end_holds()

    def pump_all(self) -> None:
        """Let everybody's queue look again: an account lets more through."""
        for pool in self.all():
            pool.admission.pump()

    async def recover(self) -> None:
        """Learn from the executors whom they serve."""
        await asyncio.gather(*(pool.claims.recover() for pool in self.all()))

    def refuse_all(self, error: Callable[[], GatewayError]) -> None:
        """Refuse everybody who waits."""
        for pool in self.all():
            pool.admission.refuse_all(error)

    async def close(self) -> None:
        """End what runs in the background."""
        await asyncio.gather(*(pool.claims.close() for pool in self.all()), *self._closing)

    def _add(self, wire: Object) -> None:
        metadata = wire["metadata"]
        key = (metadata["namespace"], metadata["name"])
        pool = ServedPool(key, metadata["uid"], self._client, self._accounts)
        self._by_uid[pool.uid] = pool
        self._by_name.setdefault(key[0], {})[key[1]] = pool
        WAITING.labels(*key).set_function(pool.admission.waiting)
        HELD_BACK.labels(*key).set_function(pool.admission.held_back)
        CLAIMED.labels(*key).set_function(pool.claims.held)
        for target in self._targets.get((key[0], pool.uid), {}).values():
            pool.claims.observe(target)
        pool.claims.on_change = lambda: self._changed(pool)
        pool.admission.on_change = self._on_change

    def _changed(self, pool: ServedPool) -> None:
        pool.admission.pump()
        self._on_change()

    def _drop(self, uid: str) -> None:
        pool = self._by_uid.pop(uid, None)
        if pool is None:
            return
        sentence = f"pool {pool.name} has been deleted"
        pool.admission.refuse_all(lambda: GatewayError(Refusal.POOL_NOT_FOUND, sentence))
        namespace, name = pool.key
        if self._by_name[namespace].get(name) is pool:
            del self._by_name[namespace][name]
            for gauge in (WAITING, HELD_BACK, CLAIMED, RUNNING):
                gauge.remove(*pool.key)
        task = asyncio.create_task(pool.claims.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
