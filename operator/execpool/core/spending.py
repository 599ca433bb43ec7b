"""What sandboxes cost, and the window of a day that it is counted in. Pure: money is whole micro-dollars, rounded up.

What a sandbox may cost until its deadline is reserved before the deadline is granted, and what it did cost is settled
before its record is let go. So what is spent can be told at any time from two things that outlive a process, the records
and the account's status:

    settled    ended sandboxes of this window, kept in the status, written before their records go
    reserved   of each record: from its begin, or the window's, to the deadline that was granted or may have been

A crash between the two counts one sandbox twice, never none. A pool's budgets of money are counted in the same way: what
their ended sandboxes cost is in the account's status too, and written with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from execpool.api.budgets import Budget
from execpool.api.e2b import PoolSpend, Prices, Spend
from execpool.core.budget import SpendWindow
from execpool.core.times import format_seconds, parse_time

DAY_SECONDS = 86400
NO_LIMIT = 10**15
"""Micro-dollars; a thousand million dollars a day."""


@dataclass(frozen=True)
class Grant:
    """Time that one sandbox has been granted, at a price. Times are UNIX seconds."""

    nano_usd_per_second: int
    since: float
    until: float


def price(vcpus: int, memory_mib: int, prices: Prices) -> int:
    """Return what a sandbox costs, in nano-dollars per second."""
    return vcpus * prices.vcpu_second_nano_usd + -(-memory_mib * prices.gib_second_nano_usd // 1024)


def cost(nano_usd_per_second: int, seconds: float) -> int:
    """Return what so many seconds cost, in micro-dollars; whole seconds are paid for, as E2B counts them."""
    whole = -int(-max(seconds, 0.0) // 1)
    return -(-nano_usd_per_second * whole // 1000)


def window(limit: int | None, kept: Spend, grants: Iterable[Grant], now: float) -> SpendWindow:
    """Return the window that `now` lies in.

    Args:
        limit: micro-dollars a day; None for no limit.
        kept: as the account's status has it.
        grants: of the records there are.
        now: UNIX seconds.
    """
    start = window_start(DAY_SECONDS, now)
    reserved = sum(reserved_for(grant, start) for grant in grants)
    settled = kept.settled_micro_usd if int(parse_time(kept.window_start)) == start else 0
    return SpendWindow(NO_LIMIT if limit is None else limit, DAY_SECONDS, start, settled, reserved)


def pool_window(
    limit: int, seconds: int, kept: Iterable[PoolSpend], grants: Iterable[Grant], now: float
) -> SpendWindow:
    """Return the window of a pool's budget that `now` lies in.

    Args:
        limit: micro-dollars in a window.
        seconds: length of the window.
        kept: what the statuses of its accounts have of this budget.
        grants: of the pool's records.
        now: UNIX seconds.
    """
    start = window_start(seconds, now)
    reserved = sum(reserved_for(grant, start) for grant in grants)
    return SpendWindow(limit, seconds, start, sum(settled_in(one, seconds, start) for one in kept), reserved)


def settled_in(kept: PoolSpend, seconds: int, start: int) -> int:
    """Return what an entry says of the window of this length that begins then: nothing, when it is of another one.

    One of another length says how much, not when; all of it counts until its own window has passed.
    """
    began = int(parse_time(kept.window_start))
    if kept.window_seconds == seconds:
        return kept.settled_micro_usd if began == start else 0
    return kept.settled_micro_usd if began + kept.window_seconds > start else 0


def settled(kept: PoolSpend, grant: Grant, ended_at: float) -> PoolSpend:
    """Return an entry once a sandbox of the pool has ended."""
    start = window_start(kept.window_seconds, ended_at)
    total = settled_in(kept, kept.window_seconds, start) + spent_for(grant, ended_at, start)
    return kept.model_copy(update={"window_start": format_seconds(start), "settled_micro_usd": total})


def entry_of(stored: PoolSpend | None, uid: str, key: str, budget: Budget, now: float) -> PoolSpend:
    """Return a budget's entry: as stored while the budget is as it was, with what was spent in any case."""
    fresh = PoolSpend(
        pool_uid=uid,
        budget=budget.name,
        pool=key[:253],
        tier=budget.tier,
        limit_micro_usd=budget.limit,
        window_seconds=budget.seconds,
        window_start=format_seconds(window_start(budget.seconds, now)),
    )
    if stored is None:
        return fresh
    if stored.window_seconds == budget.seconds:
        return stored.model_copy(update={"limit_micro_usd": budget.limit, "tier": budget.tier, "pool": fresh.pool})
    start = window_start(budget.seconds, now)
    return fresh.model_copy(update={"settled_micro_usd": settled_in(stored, budget.seconds, start)})


def is_counted(entry: PoolSpend, now: float) -> bool:
    """True while an entry's window has not passed."""
    return parse_time(entry.window_start) + entry.window_seconds > now


def window_start(seconds: int, now: float) -> int:
    """Return when the window of this length that `now` lies in has begun: windows begin at multiples of their length."""
    return int(now) - int(now) % seconds


def dollars(micro: int) -> str:
    """Return an amount as people read it."""
    return f"${micro / 1_000_000:.{2 if abs(micro) >= 1_000_000 else 4}f}"


def reserved_for(grant: Grant, window_start: float) -> int:
    """Return what a grant may cost in the window that begins then, and later."""
    return cost(grant.nano_usd_per_second, grant.until - max(grant.since, window_start))


def spent_for(grant: Grant, ended_at: float, window_start: float) -> int:
    """Return what a grant has cost in the window that begins then."""
    return cost(grant.nano_usd_per_second, min(ended_at, grant.until) - max(grant.since, window_start))
