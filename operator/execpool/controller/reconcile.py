"""A pool's path, top to bottom: observe, plan, apply, summarize, tell.

Level-triggered: every pass reads what is, never what happened, and makes the next writes towards the spec. The operator
owns the executors that carry the pool's UID, the pool's network policies, its status and one finalizer; nothing else is
ever written. A pass may be cut off after any single write: the next one finds what is and goes on from there, because

- the finalizer is there before the first child, and goes after the last one;
- a creation whose answer was lost shows in the next list, and counts there;
- an executor is ended by its own word (`retire`), which is a compare-and-set, or when it serves nobody.

Remembered between passes, and harmless to lose: failed creations (for their back-off), when a status was last written.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import ValidationError

from execpool.api.names import ConditionType, Reason
from execpool.api.v1alpha1 import ExecutionPoolStatus
from execpool.controller.effects import MOST_BACKOFF, Effects, Outcome
from execpool.controller.events import EventRecorder, transitions
from execpool.controller.pools import PoolRef, as_written, read_pool
from execpool.core.actions import ApplyPolicies, CreateExecutors, ReleaseFinalizer
from execpool.core.backoff import backoff
from execpool.core.budget_use import all_budgets
from execpool.core.figures import differ
from execpool.core.model import Backend, BudgetUse, Demand, Finding, Pool, Snapshot, Use
from execpool.core.planning import plan
from execpool.core.status import acknowledge, condition, stalled_by, summarize
from execpool.kube.client import Kube
from execpool.kube.errors import FencedError, ForbiddenError, KubeError, NotFoundError
from execpool.kube.kinds import POOLS, RUNTIME_CLASSES
from execpool.providers.base import Provider
from execpool.telemetry import metrics

log = logging.getLogger(__name__)

STATES = ("ready", "starting", "claimed", "terminating")
UNREADABLE = {"tiers": [{"name": "unreadable", "pods": {"max": 1}}]}
"""Stands in for a spec that cannot be understood."""
STATUS_INTERVAL = 1.0
"""Numbers and fill change a status at most this often; other conditions change it at once."""


@dataclass
class Reconciler:
    """Drives pools towards their spec. Every effect of the controller on a pool goes through these fields."""

    kube: Kube
    provider: Provider
    effects: Effects
    recorder: EventRecorder
    demand_of: Callable[[str], Demand]
    use_of: Callable[[str], Use | None] = lambda _key: None
    """What gateways tell of the executions of a pool (`namespace/name`)."""
    budgets_of: Callable[[Pool], Sequence[BudgetUse]] = lambda _pool: ()
    """How far those budgets have been used that the operator keeps."""
    backends_of: Callable[[Pool], Mapping[str, Backend]] = lambda _pool: {}
    """What is known of the accounts that its tiers draw on."""
    user_namespaces: bool = True
    start_timeout: float = 300.0
    empty_list_pause: float = 1.0
    """An empty list where there was population is read again after this long, before anything is done about it."""
    clock: Callable[[], float] = time.time
    _status_written: dict[str, float] = field(default_factory=dict)
    _failing: dict[str, int] = field(default_factory=dict)
    _budgeted: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)
    _measured: dict[str, set[tuple[str, str, str]]] = field(default_factory=dict)

    async def reconcile(self, ref: PoolRef) -> float | None:
        """Move one pool one step towards its spec.

        Returns:
            Seconds until it needs another look without an event; None when the pool is gone.
        """
        pool = await self._read(ref)
        if pool is None:
            self._forget(ref.uid)
            return None
        if isinstance(pool, Finding):
            return MOST_BACKOFF
        if not pool.status.conditions and pool.deleted_at is None:
            pool = await self._write_status(pool, acknowledge(pool, self._timestamp()))
        snapshot = await self.observe(pool)
        decision = plan(snapshot, start_timeout=self.start_timeout)
        pool, outcomes = await self.effects.apply(pool, decision)
        if any(isinstance(outcome.action, ReleaseFinalizer) and outcome.error is None for outcome in outcomes):
            self._forget(ref.uid)
            return None
        failed = [outcome for outcome in outcomes if outcome.error]
        due = await self._tell(pool, snapshot, (*decision.findings, *_told(snapshot, failed)), decision.requeue_after)
        return min(due, self._next_try(ref.uid, failed=bool(failed)))

    async def observe(self, pool: Pool) -> Snapshot:
        """Read everything that a decision about a pool may know."""
        executors, policies_current, runtime_classes = await asyncio.gather(
            self.provider.observe(pool), self.provider.policies_current(pool), self._runtime_classes(pool)
        )
        if not executors and _had_population(pool.status):
            await asyncio.sleep(self.empty_list_pause)
            executors = await self.provider.observe(pool)
        return Snapshot(
            pool=pool,
            executors=executors,
            now=self.clock(),
            template_hashes={tier.name: self.provider.template_hash(tier) for tier in pool.spec.tiers},
            demand=self.demand_of(pool.key),
            use=(use := self.use_of(pool.key)),
            budgets=tuple(all_budgets(pool.spec, self.budgets_of(pool), use)),
            backends=self.backends_of(pool),
            runtime_classes=runtime_classes,
            failures=self.effects.failures_of(pool),
            user_namespaces=self.user_namespaces,
            policies_current=policies_current,
        )

    async def _read(self, ref: PoolRef) -> Pool | Finding | None:
        """Read a pool; a Finding when its spec cannot be understood, which its status then says."""
        try:
            wire = await self.kube.get(POOLS, ref.namespace, ref.name)
        except NotFoundError:
            return None
        if wire["metadata"]["uid"] != ref.uid:
            return None
        try:
            return read_pool(wire)
        except ValidationError as error:
            if wire["metadata"].get("deletionTimestamp"):
                return read_pool({**wire, "spec": UNREADABLE})  # what it wanted no longer matters
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            finding = Finding(Reason.INVALID_SPEC, f"spec.{where}: {first['msg']} (is {first['input']!r})"[:1024])
            blank = read_pool({**wire, "spec": UNREADABLE})
            await self._write_status(blank, stalled_by(blank, finding, self._timestamp()))
            return finding

    def _next_try(self, uid: str, *, failed: bool) -> float:
        """Return when a pass with failed writes is repeated: 0.2 s at first, doubled while it goes on failing."""
        count = self._failing.get(uid, 0) if failed else 0
        self._failing[uid] = count + 1 if failed else 0
        return backoff(count, 0.2, MOST_BACKOFF) if failed else MOST_BACKOFF

    async def _tell(self, pool: Pool, snapshot: Snapshot, findings: Sequence[Finding], due: float) -> float:
        """Write status, events and gauges as far as they differ; return when to look again."""
        status = summarize(snapshot, findings, self._timestamp())
        self._measure(pool, status)
        self._measure_budgets(pool, snapshot.budgets)
        if not differ(pool.status, status):
            return due
        notes = transitions(pool.status, status)
        waited = self.clock() - self._status_written.get(pool.uid, 0.0)
        if not (notes or _became_full(pool.status, status)) and waited < STATUS_INTERVAL:
            return min(due, STATUS_INTERVAL - waited)
        await self._write_status(pool, status)
        await self.recorder.publish(pool, notes)
        return due

    async def _write_status(self, pool: Pool, status: ExecutionPoolStatus) -> Pool:
        body = {"metadata": {"resourceVersion": pool.resource_version}, "status": status.wire()}
        written = await self.kube.patch(POOLS, pool.namespace, pool.name, body, subresource="status")
        self._status_written[pool.uid] = self.clock()
        return as_written(pool, written, status)

    async def _runtime_classes(self, pool: Pool) -> frozenset[str] | None:
        if not any(tier.pods is not None and tier.pods.runtime_class_name for tier in pool.spec.tiers):
            return None
        try:
            listing = await self.kube.list(RUNTIME_CLASSES)
        except ForbiddenError:
            return None  # with a Role only: a missing one then shows as a refused pod
        return frozenset(item["metadata"]["name"] for item in listing.items)

    def _measure(self, pool: Pool, status: ExecutionPoolStatus) -> None:
        self._measured.setdefault(pool.uid, set()).update(
            (pool.namespace, pool.name, tier.name) for tier in status.tiers
        )
        for tier in status.tiers:
            metrics.DESIRED.labels(pool.namespace, pool.name, tier.name).set(tier.desired)
            for state in STATES:
                metrics.EXECUTORS.labels(pool.namespace, pool.name, tier.name, state).set(getattr(tier, state))
        for type_ in ConditionType:
            found = condition(status, type_)  # an absent one is not so, as kstatus has it
            value = 0 if found is None else {"True": 1, "False": 0}.get(found.status, -1)
            metrics.CONDITION.labels(pool.namespace, pool.name, type_).set(value)

    def _measure_budgets(self, pool: Pool, budgets: Sequence[BudgetUse]) -> None:
        self._budgeted.setdefault(pool.uid, set()).update((pool.namespace, pool.name, one.name) for one in budgets)
        for one in budgets:
            metrics.BUDGET_LIMIT.labels(pool.namespace, pool.name, one.name).set(one.limit)
            metrics.BUDGET_REMAINING.labels(pool.namespace, pool.name, one.name).set(one.remaining)

    def _forget(self, uid: str) -> None:
        self.effects.forget(uid)
        self._status_written.pop(uid, None)
        self._failing.pop(uid, None)
        for labels in self._budgeted.pop(uid, set()):
            metrics.BUDGET_LIMIT.remove(*labels)
            metrics.BUDGET_REMAINING.remove(*labels)
        for labels in self._measured.pop(uid, set()):
            metrics.DESIRED.remove(*labels)
            for state in STATES:
                metrics.EXECUTORS.remove(*labels, state)
            for type_ in ConditionType:
                metrics.CONDITION.remove_by_labels({"namespace": labels[0], "pool": labels[1], "condition": type_})
        self.recorder.forget(uid)

    def _timestamp(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def pass_safely(work: Callable[[], Awaitable[float | None]], what: str, failures: int) -> float | None:
    """Make one pass over a pool or an account; whatever goes wrong is logged here and waited out, 0.1 s at first and a minute at most.

    Raises:
        FencedError: we are no longer the leader; the caller's term is over.
    """
    started = time.monotonic()
    try:
        due = await work()
    except FencedError:
        raise
    except KubeError as error:
        log.warning("pass failed", extra={"subject": what, "error": str(error)})
    except Exception:
        log.exception("pass failed unexpectedly", extra={"subject": what})
    else:
        metrics.RECONCILES.labels("Done").inc()
        metrics.RECONCILE_SECONDS.observe(time.monotonic() - started)
        return due
    metrics.RECONCILES.labels("Failed").inc()
    raise PassFailedError(backoff(failures, 0.1, MOST_BACKOFF) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


class PassFailedError(Exception):
    """A pass did not end well; `retry_after` seconds until the next attempt."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


def _told(snapshot: Snapshot, failed: Sequence[Outcome]) -> Iterator[Finding]:
    """Say what could not be written; failed creations are findings of the next plan already."""
    for outcome in failed:
        if isinstance(outcome.action, CreateExecutors):
            continue
        what = "network policies" if isinstance(outcome.action, ApplyPolicies) else "the end of an executor"
        yield Finding(Reason.WRITE_FAILED, f"{what}: {outcome.error}"[:1024], snapshot.pool.spec.tiers[0].name)
        return


def _became_full(before: ExecutionPoolStatus, after: ExecutionPoolStatus) -> bool:
    """True when the warm pool has just filled: somebody may wait for that, and it cannot happen often."""
    was, now = (condition(status, ConditionType.WARM_POOL_FILLED) for status in (before, after))
    return now is not None and now.status == "True" and (was is None or was.status != "True")


def _had_population(status: ExecutionPoolStatus) -> bool:
    return any(tier.ready + tier.starting + tier.claimed for tier in status.tiers)
