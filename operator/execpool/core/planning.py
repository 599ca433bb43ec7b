"""The planner: from a snapshot of one pool to the writes that bring it closer to its spec.

Pure: the same snapshot gives the same plan, and an empty plan means converged. Per tier, in this order:

    1. give up what is stuck          unless a replacement would wait for the same thing
    2. retire what is outdated        surge before retire, a quarter of the tier at a time
    3. reclaim idle claims            only while somebody waits and the tier is at `max` (DESIGN rule 5)
    4. trim surplus                   unready first, newest first
    5. refill                         within `max`, which counts whatever may still hold resources

Deletion and suspension are the same plan with nothing wanted. A busy executor is never chosen, except by a deletion
whose drain has run out; a claimed one only when it is idle, and then the executor itself has the last word (`Expect`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from execpool.api.budgets import BudgetResource
from execpool.api.names import FINALIZER, Reason
from execpool.api.v1alpha1 import DeletionPolicy, Tier
from execpool.core.actions import (
    LOOK_AGAIN_SECONDS,
    Action,
    AddFinalizer,
    ApplyPolicies,
    CreateExecutors,
    Plan,
    ReleaseFinalizer,
    RemoveExecutor,
    RemovePolicies,
    RetireExecutor,
)
from execpool.core.findings import last_failure, missing_runtime_class, shortfall, troubles
from execpool.core.model import Claim, Executor, Finding, Phase, Snapshot
from execpool.protocol import Expect

RECLAIM_AFTER_HELD_SECONDS = 5.0
"""A claim is not taken from its principal sooner, however idle: agents pause between two calls."""
RECLAIM_AFTER_IDLE_SECONDS = 1.0
"""Nor while it is merely between two calls: taken then, it would only have to be claimed again."""
SURGE_DIVISOR = 4
AGE_JITTER = 0.1
DRAIN_LOOK_SECONDS = 1.0
"""The end of a run is no event of the API server, so draining is polled."""

HELD_TROUBLES = frozenset(
    {
        Reason.IMAGE_UNAVAILABLE,
        Reason.UNSCHEDULABLE,
        Reason.CRASHING,
        Reason.ACCOUNT_NOT_FOUND,
        Reason.ACCOUNT_AWAITED,
        Reason.NOT_ALLOWED,
        Reason.ENDPOINT_NOT_ALLOWED,
        Reason.CREDENTIAL_INVALID,
        Reason.FORBIDDEN,
        Reason.BREAKER_OPEN,
        Reason.ACCOUNT_FULL,
        Reason.RATE_LIMITED,
        Reason.BUDGET_EXHAUSTED,
        Reason.TEMPLATE_REFUSED,
    }
)
"""Troubles that a replacement would share: such an executor is held, not replaced."""


@dataclass(frozen=True)
class _TierPlan:
    retire: tuple[RetireExecutor | RemoveExecutor, ...] = ()
    create: int = 0
    findings: tuple[Finding, ...] = ()
    look_again: float = LOOK_AGAIN_SECONDS


def plan(snapshot: Snapshot, *, start_timeout: float = 300.0) -> Plan:
    """Decide the next writes for one pool.

    Args:
        snapshot: everything that is known about it.
        start_timeout: seconds after which an executor that is not ready is given up.
    """
    if snapshot.pool.deleted_at is not None:
        return _plan_deletion(snapshot)
    tiers = {tier.name: tier for tier in snapshot.pool.spec.tiers}
    plans = {name: _plan_tier(snapshot, tier, start_timeout) for name, tier in tiers.items()}
    dropped = _plan_dropped_tiers(snapshot, frozenset(tiers))
    return Plan(
        actions=(*_preparation(snapshot), *_actions(plans), *dropped),
        findings=tuple(finding for tier_plan in plans.values() for finding in tier_plan.findings),
        requeue_after=min((tier_plan.look_again for tier_plan in plans.values()), default=LOOK_AGAIN_SECONDS),
    )


def plan_strays(executors: Sequence[Executor]) -> tuple[RetireExecutor | RemoveExecutor, ...]:
    """Decide about executors whose pool has vanished: end what nobody uses, leave runs to end by themselves."""
    return (*_swept(executors), *_emptied(executors, Reason.STRAY))


def desired_warm(snapshot: Snapshot, tier: Tier) -> int:
    """Return how many warm executors a tier should hold: its spec within `max`, nothing when suspended or deleted."""
    pool = snapshot.pool
    if pool.spec.suspend or pool.deleted_at is not None:
        return 0
    return min(pool.spec.warm(tier), tier.sizing.max)


def most_allowed(snapshot: Snapshot, tier: Tier) -> int:
    """Return how many executors of a tier there may be at any time: `max`, or a budget of sandboxes that is stricter."""
    budgets = snapshot.pool.spec.budgets if tier.e2b is not None else ()
    numbers = [one.limit for one in budgets if one.resource is BudgetResource.SANDBOXES and one.counts(tier.name)]
    return min([tier.sizing.max, *numbers])


def is_outdated(snapshot: Snapshot, executor: Executor) -> bool:
    """True when the executor was made from another template than its tier's spec asks for now."""
    return executor.template_hash != snapshot.template_hashes.get(executor.tier)


def _preparation(snapshot: Snapshot) -> Iterator[Action]:
    if FINALIZER not in snapshot.pool.finalizers:
        yield AddFinalizer()
    if not snapshot.policies_current:
        yield ApplyPolicies()


def _actions(plans: dict[str, _TierPlan]) -> Iterator[Action]:
    # Retire before create: at `max` the freed place is what the next reconcile fills.
    for tier_plan in plans.values():
        yield from tier_plan.retire
    for name, tier_plan in plans.items():
        if tier_plan.create > 0:
            yield CreateExecutors(name, tier_plan.create)


def _plan_tier(snapshot: Snapshot, tier: Tier, start_timeout: float) -> _TierPlan:
    members = snapshot.of(tier.name)
    swept = tuple(_swept(members))
    if snapshot.pool.spec.suspend:
        busy = any(member.phase is Phase.CLAIMED for member in members)
        emptied = tuple(_emptied(members, Reason.SUSPENDED))
        return _TierPlan((*swept, *emptied), look_again=DRAIN_LOOK_SECONDS if busy else LOOK_AGAIN_SECONDS)

    stuck = tuple(_give_up(snapshot, members, start_timeout))
    left = _without(members, stuck)
    target = _target(snapshot, tier, left)
    stale = tuple(_retire_stale(snapshot, tier, left, target))
    left = _without(left, stale)
    reclaimed = tuple(_reclaim_idle(snapshot, tier, left))
    surplus = tuple(_trim(snapshot, left, target, tier))
    left = _without(left, surplus)

    absent_class = missing_runtime_class(snapshot, tier)
    wanted = _refill(snapshot, tier, left, members, target)
    create = 0 if absent_class is not None or _must_wait(snapshot, tier) else wanted
    failure = last_failure(snapshot, tier) if wanted else None
    blocked = [finding for finding in (absent_class, failure) if finding]
    findings = (*blocked, *troubles(members), *shortfall(snapshot, tier, members))
    return _TierPlan(
        (*swept, *stuck, *stale, *reclaimed, *surplus),
        create,
        findings,
        _look_again(snapshot, tier, members, start_timeout),
    )


def _target(snapshot: Snapshot, tier: Tier, members: Sequence[Executor]) -> int:
    """Return the unclaimed executors to have: the warm ones, and one for each that somebody waits for, within `max`."""
    held = sum(member.counts and not member.unclaimed for member in members)
    wanted = desired_warm(snapshot, tier) + snapshot.demand.waiting.get(tier.name, 0)
    return max(0, min(wanted, tier.sizing.max - held))


def _give_up(snapshot: Snapshot, members: Sequence[Executor], start_timeout: float) -> Iterator[RetireExecutor]:
    for member in members:
        if member.phase is not Phase.STARTING:
            continue
        late = snapshot.now - member.created_at > start_timeout
        if is_outdated(snapshot, member):
            yield RetireExecutor(member, Expect.WARM, Reason.OUTDATED)
        elif late and member.trouble not in HELD_TROUBLES:
            yield RetireExecutor(member, Expect.WARM, Reason.START_TIMED_OUT)


def _retire_stale(snapshot: Snapshot, tier: Tier, members: Sequence[Executor], target: int) -> Iterator[RetireExecutor]:
    """Retire outdated and over-age executors as far as their replacements are ready, oldest first.

    When the tier is at `max`, no replacement has room: then as many as the surge are retired first.
    """
    stale = sorted(
        (member for member in members if _is_stale(snapshot, tier, member)), key=lambda member: member.created_at
    )
    fresh = [member for member in members if member.unclaimed and not _is_stale(snapshot, tier, member)]
    fresh_ready = sum(member.phase is Phase.READY for member in fresh)
    allowed = max(0, fresh_ready + len(stale) - target)
    population = sum(member.counts for member in members)
    if allowed == 0 and len(fresh) == fresh_ready and fresh_ready < target and population >= tier.sizing.max:
        allowed = _surge(target)
    for member in stale[:allowed]:
        yield RetireExecutor(member, Expect.WARM, Reason.OUTDATED if is_outdated(snapshot, member) else Reason.OVER_AGE)


def _reclaim_idle(snapshot: Snapshot, tier: Tier, members: Sequence[Executor]) -> Iterator[RetireExecutor]:
    population = sum(member.counts for member in members)
    coming = sum(member.unclaimed or member.phase in (Phase.TERMINATING, Phase.EXITING) for member in members)
    short = snapshot.demand.waiting.get(tier.name, 0) - coming
    if short <= 0 or population < tier.sizing.max:
        return
    idle = [member for member in _idle(members) if member.claim and _reclaimable_in(member.claim) <= 0]
    for member in idle[:short]:
        yield RetireExecutor(member, Expect.IDLE, Reason.RECLAIMED_FOR_WAITERS)


def _trim(snapshot: Snapshot, members: Sequence[Executor], target: int, tier: Tier) -> Iterator[RetireExecutor]:
    fresh = [member for member in members if member.unclaimed and not _is_stale(snapshot, tier, member)]
    held = sum(member.counts and not member.unclaimed for member in members)
    wanted = min(target, max(most_allowed(snapshot, tier) - held, 0))
    by_worth = sorted(fresh, key=lambda member: (member.phase is Phase.READY, -member.created_at))
    for member in by_worth[: max(0, len(fresh) - wanted)]:
        yield RetireExecutor(member, Expect.WARM, Reason.SURPLUS)


def _refill(snapshot: Snapshot, tier: Tier, left: Sequence[Executor], members: Sequence[Executor], target: int) -> int:
    """Return how many executors to create: up to `target` fresh ones, with a surge beside stale ones, within `max`."""
    warm = [member for member in left if member.unclaimed]
    stale = sum(_is_stale(snapshot, tier, member) for member in warm)
    fresh = len(warm) - stale
    room = tier.sizing.max - sum(member.counts for member in members)
    wanted = target - fresh
    if stale:
        # A replacement in trouble would only be joined by others; the stale ones serve meanwhile.
        troubled = any(member.trouble for member in warm)
        wanted = 0 if troubled else min(wanted, target + _surge(target) - len(warm))
    return max(0, min(wanted, room))


def _swept(members: Sequence[Executor]) -> Iterator[RemoveExecutor]:
    for member in members:
        if member.phase in (Phase.ENDED, Phase.EXITING):
            yield RemoveExecutor(member, Reason.ENDED)


def _emptied(members: Sequence[Executor], because: Reason) -> Iterator[RetireExecutor]:
    """Retire what nobody uses at this moment."""
    for member in members:
        if member.unclaimed:
            yield RetireExecutor(member, Expect.WARM, because)
    for member in _idle(members):
        yield RetireExecutor(member, Expect.IDLE, because)


def _plan_dropped_tiers(snapshot: Snapshot, kept: frozenset[str]) -> Iterator[Action]:
    members = [member for member in snapshot.executors if member.tier not in kept]
    yield from _swept(members)
    yield from _emptied(members, Reason.OUTDATED)


def _plan_deletion(snapshot: Snapshot) -> Plan:
    pool = snapshot.pool
    if FINALIZER not in pool.finalizers:
        return Plan()
    members = snapshot.executors
    if not members:
        return Plan(actions=(RemovePolicies(), ReleaseFinalizer()))
    deadline = (pool.deleted_at or 0.0) + pool.spec.deletion.timeout_seconds
    forced = pool.spec.deletion.policy is DeletionPolicy.DELETE or snapshot.now >= deadline
    swept = tuple(_swept(members))
    ended: tuple[Action, ...] = tuple(_ended_by_force(members) if forced else _emptied(members, Reason.DELETING))
    running = sum(member.phase in (Phase.CLAIMED, Phase.UNREACHABLE) for member in members)
    # The instant, not a countdown: that would be a status write every second for as long as the drain lasts.
    until = datetime.fromtimestamp(deadline, UTC).strftime("%H:%M:%S UTC")
    message = f"{len(members)} executors left, {running} of them claimed; running executions may go on until {until}"
    return Plan((*swept, *ended), (Finding(Reason.DRAINING, message),), DRAIN_LOOK_SECONDS)


def _ended_by_force(members: Sequence[Executor]) -> Iterator[RemoveExecutor]:
    for member in members:
        if member.phase in (Phase.STARTING, Phase.READY, Phase.CLAIMED, Phase.UNREACHABLE):
            yield RemoveExecutor(member, Reason.DELETING)


def _reclaimable_in(claim: Claim) -> float:
    """Return the seconds until an idle claim may be taken from its principal."""
    return max(RECLAIM_AFTER_HELD_SECONDS - claim.held_seconds, RECLAIM_AFTER_IDLE_SECONDS - claim.idle_seconds)


def _idle(members: Sequence[Executor]) -> list[Executor]:
    """Return the claimed executors without a run, longest idle first."""
    idle = [
        member for member in members if member.phase is Phase.CLAIMED and member.claim and member.claim.running == 0
    ]
    return sorted(idle, key=lambda member: -(member.claim.idle_seconds if member.claim else 0.0))


def _is_stale(snapshot: Snapshot, tier: Tier, member: Executor) -> bool:
    return member.phase is Phase.READY and (is_outdated(snapshot, member) or snapshot.now >= _age_limit(tier, member))


def _age_limit(tier: Tier, member: Executor) -> float:
    """Return when a warm executor is over age: its own share of 10 percent earlier, so that a filled pool does not turn over at once."""
    spread = sum(member.uid.encode()) % 100 / 100
    return member.created_at + tier.sizing.max_age_seconds * (1 - AGE_JITTER * spread)


def _surge(target: int) -> int:
    return max(1, math.ceil(target / SURGE_DIVISOR))


def _without(members: Sequence[Executor], retired: Sequence[RetireExecutor]) -> tuple[Executor, ...]:
    """Return the members as they will be: what is about to be retired is ending, and still counts."""
    uids = {action.executor.uid for action in retired}
    return tuple(replace(member, phase=Phase.TERMINATING) if member.uid in uids else member for member in members)


def _must_wait(snapshot: Snapshot, tier: Tier) -> bool:
    failure = snapshot.failures.get(tier.name)
    return failure is not None and failure.retry_at > snapshot.now


def _look_again(snapshot: Snapshot, tier: Tier, members: Sequence[Executor], start_timeout: float) -> float:
    """Return the seconds until time alone changes the plan.

    What is due already is in this plan, or waits for something that will be an event: it brings nobody back.
    """
    due = [LOOK_AGAIN_SECONDS]
    for member in members:
        if member.phase is Phase.STARTING:
            due.append(member.created_at + start_timeout - snapshot.now)
        elif member.phase is Phase.READY:
            due.append(_age_limit(tier, member) - snapshot.now)
        elif member.phase is Phase.UNREACHABLE:
            due.append(2.0)
        elif member.claim and snapshot.demand.waiting.get(tier.name, 0):
            due.append(max(_reclaimable_in(member.claim), RECLAIM_AFTER_IDLE_SECONDS))
    failure = snapshot.failures.get(tier.name)
    if failure:
        due.append(failure.retry_at - snapshot.now)
    return max(0.5, min(seconds for seconds in due if seconds > 0))
