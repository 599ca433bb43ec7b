"""What sandboxes cost, and the window of a day that it is counted in. Pure: money is whole micro-dollars, rounded up.

What a sandbox may cost until its deadline is reserved before the deadline is granted, and what it did cost is settled
before its record is let go. So what is spent can be told at any time from two things that outlive a process, the records
and the account's status:

    settled    ended sandboxes of this window, kept in the status, written before their records go
    reserved   of each record: from its begin, or the window's, to the deadline that was granted or may have been

A crash between the two counts one sandbox twice, never none.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from execpool.api.e2b import Prices, Spend
from execpool.core.budget import SpendWindow
from execpool.core.times import parse_time

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
    start = int(now) - int(now) % DAY_SECONDS
    same = int(parse_time(kept.window_start)) == start
    reserved = sum(reserved_for(grant, start) for grant in grants)
    settled = kept.settled_micro_usd if same else 0
    return SpendWindow(NO_LIMIT if limit is None else limit, DAY_SECONDS, start, settled, reserved)


def reserved_for(grant: Grant, window_start: float) -> int:
    """Return what a grant may cost in the window that begins then, and later."""
    return cost(grant.nano_usd_per_second, grant.until - max(grant.since, window_start))


def spent_for(grant: Grant, ended_at: float, window_start: float) -> int:
    """Return what a grant has cost in the window that begins then."""
    return cost(grant.nano_usd_per_second, min(ended_at, grant.until) - max(grant.since, window_start))
