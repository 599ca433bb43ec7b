"""Why a tier is not as wanted, in words with numbers: the reasons that conditions, events and `kubectl get` show."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from execpool.api.names import Reason
from execpool.api.v1alpha1 import Tier
from execpool.core.model import Executor, Finding, Phase, Snapshot


def missing_runtime_class(snapshot: Snapshot, tier: Tier) -> Finding | None:
    """Return the finding for a tier whose RuntimeClass the cluster does not have, else None."""
    name = tier.pods.runtime_class_name if tier.pods is not None else ""
    if not name or snapshot.runtime_classes is None or name in snapshot.runtime_classes:
        return None
    known = ", ".join(sorted(snapshot.runtime_classes)) or "none"
    message = f"tier {tier.name} asks for RuntimeClass {name}, which does not exist (known: {known}); create it or change runtimeClassName"
    return Finding(Reason.RUNTIME_CLASS_NOT_FOUND, message, tier.name)


def last_failure(snapshot: Snapshot, tier: Tier) -> Finding | None:
    """Return the last failed creation, which stays the reason until one succeeds."""
    failure = snapshot.failures.get(tier.name)
    if failure is None:
        return None
    again = datetime.fromtimestamp(failure.retry_at, UTC).strftime("%H:%M:%S UTC")
    return Finding(failure.reason, f"{failure.message}; next attempt at {again}", tier.name)


def troubles(members: Sequence[Executor]) -> Iterator[Finding]:
    """Report what keeps executors from starting, one finding for each reason, with the count and one provider's words."""
    for reason in sorted({member.trouble for member in members if member.trouble}):
        same = [member for member in members if member.trouble is reason]
        message = f"{len(same)} of {len(members)} executors are held, since replacements would wait for the same: {same[0].message}"
        yield Finding(reason, message, same[0].tier)
    unreachable = [member for member in members if member.phase is Phase.UNREACHABLE]
    if unreachable:
        message = f"{len(unreachable)} executors do not answer; they are left alone, since they may be claimed"
        yield Finding(Reason.UNREACHABLE, message, unreachable[0].tier)


def shortfall(snapshot: Snapshot, tier: Tier, members: Sequence[Executor]) -> Iterator[Finding]:
    """Report a `max` that leaves less room than is wanted."""
    held = sum(member.counts and not member.unclaimed for member in members)
    wanted = snapshot.pool.spec.warm(tier)
    waiting = snapshot.demand.waiting.get(tier.name, 0)
    if wanted + waiting > tier.sizing.max - held:
        message = f"{wanted} warm and {waiting} for waiters are wanted, {held} of max {tier.sizing.max} are held; raise max for more"
        yield Finding(Reason.MAX_REACHED, message, tier.name)
