"""How much of a limit was used, and at what price, from the moments at which something was let through. Pure.

A limit of one in a second lets twenty through in twenty seconds, and whoever counts may find nineteen or twenty-one by where
the window begins. So time is counted between what was let through, and an idle end counts as idle:

    share = (n - 1) / (rate x (later of last one and end less one interval  -  earlier of first one and begin and an interval))
"""

from collections.abc import Sequence
from dataclasses import dataclass

GOOD = 0.90
"""Share that counts as having learned a limit."""
WINDOW_SECONDS = 20.0
"""Of which a share has to be that good; it is told when the first such window begins."""


@dataclass(frozen=True)
class Limit:
    """So many in a second from a moment on, until another one holds."""

    per_second: float
    since: float
    until: float


def share(moments: Sequence[float], limit: Limit) -> float:
    """Return how much of a limit was used."""
    inside = [moment for moment in moments if limit.since <= moment < limit.until]
    if not inside:
        return 0.0
    interval = 1 / limit.per_second
    begin = min(inside[0], limit.since + interval)
    end = max(inside[-1], limit.until - interval)
    return (len(inside) - 1) * interval / (end - begin) if end > begin else 1.0


def seconds_until_good(moments: Sequence[float], limit: Limit) -> float | None:
    """Return after how many seconds a window begins in which the limit was used well; None when there is none."""
    seconds = 0
    while limit.since + seconds + WINDOW_SECONDS <= limit.until:
        since = limit.since + seconds
        if share(moments, Limit(limit.per_second, since, since + WINDOW_SECONDS)) >= GOOD:
            return float(seconds)
        seconds += 1
    return None


def rejections(refused: Sequence[float], done: Sequence[float], limit: Limit) -> float:
    """Return how many were refused for each that was let through; all of them when none was."""
    return _inside(refused, limit) / max(_inside(done, limit), 1)


def fairness(counts: Sequence[int]) -> float:
    """Return what the least served got of what the best served got."""
    return min(counts) / max(counts) if counts and max(counts) else 0.0


def _inside(moments: Sequence[float], limit: Limit) -> int:
    return sum(limit.since <= moment < limit.until for moment in moments)
