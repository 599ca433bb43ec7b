"""Whether anybody uses a pool: the oldest complaint of this field is warm capacity that some code path goes around. Pure.

    | claims or executions in ten minutes | warm | sandboxes of others for ten minutes | PoolInUse            |
    |-------------------------------------|------|-------------------------------------|----------------------|
    | yes                                 | any  | any                                 | True / InUse         |
    | no                                  | >= 1 | yes                                 | False / Bypassed     |
    | no                                  | 0    | any                                 | Unknown / NoDemand   |
    | no                                  | any  | no                                  | Unknown / NoDemand   |

Sandboxes of others are those on the account that do not carry this installation's tag. Messages name instants, not ages: an
age would be a status write every minute (docs/decisions.md, 17).
"""

from collections.abc import Iterator

from execpool.api.names import ConditionType, Reason
from execpool.core.model import Backend, Phase, Snapshot
from execpool.core.times import format_seconds

QUIET_SECONDS = 600.0
"""How long nobody may have used it, and others the account, before something is said."""

Verdict = tuple[str, str, str, str]


def in_use(snapshot: Snapshot) -> Verdict:
    """Return the verdict of the condition PoolInUse: type, status, reason, message."""
    claims = max(sum(member.phase is Phase.CLAIMED for member in snapshot.executors), snapshot.demand.claims)
    last_at = snapshot.use.last_at if snapshot.use is not None else 0.0
    if claims or snapshot.now - last_at < QUIET_SECONDS:
        return (ConditionType.POOL_IN_USE, "True", Reason.IN_USE, f"{claims} executors are claimed{_traffic(snapshot)}")
    for backend, warm in _with_warm(snapshot):
        since = backend.foreign_since
        if backend.foreign and since is not None and snapshot.now - since >= QUIET_SECONDS:
            message = _complaint(backend, warm, _idle_since(snapshot))
            return (ConditionType.POOL_IN_USE, "False", Reason.BYPASSED, message)
    message = f"nobody has asked for an execution{_idle_since(snapshot)}"
    return (ConditionType.POOL_IN_USE, "Unknown", Reason.NO_DEMAND, message)


def _traffic(snapshot: Snapshot) -> str:
    use = snapshot.use
    if use is None or not use.executions:
        return ""
    return f"; {use.executions} executions in a minute, {use.warm_hits} of them on an executor that was warm"


def _with_warm(snapshot: Snapshot) -> Iterator[tuple[Backend, int]]:
    """Yield each account with the warm sandboxes that the pool has there, where it has any."""
    warm: dict[str, int] = {}
    for member in snapshot.executors:
        backend = snapshot.backends.get(member.tier)
        if backend is not None and member.phase is Phase.READY:
            warm[backend.account] = warm.get(backend.account, 0) + 1
    known = {backend.account: backend for backend in snapshot.backends.values()}
    for account in sorted(warm):
        yield known[account], warm[account]


def _complaint(backend: Backend, warm: int, idle_since: str) -> str:
    since = format_seconds(backend.foreign_since or 0.0)
    return (
        f"{warm} warm sandboxes, 0 executions{idle_since}, while {backend.foreign} sandboxes that this pool did not make run on"
        f" account {backend.account}, some at every look since {since}: something goes around the pool"
    )


def _idle_since(snapshot: Snapshot) -> str:
    use = snapshot.use
    if use is None:
        return " (no gateway tells)"
    return f" since {format_seconds(max(use.last_at, use.since))}"
