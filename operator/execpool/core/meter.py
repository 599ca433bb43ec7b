"""The last minute of one pool's executions, counted as they end. Pure: callers bring the time, in UNIX seconds.

Counts are kept by the second, and of each second a few waits for the median: what it takes does not grow with the load.
"""

from collections import deque
from dataclasses import dataclass, field

SECONDS = 60
WAITS_KEPT = 64
"""Of one second; the first ones, so the median of a busy minute is that of a sample."""


@dataclass(slots=True)
class _Second:
    at: int
    executions: int = 0
    warm_hits: int = 0
    offloaded: int = 0
    refused: int = 0
    waits: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in the last minute."""

    executions: int = 0
    warm_hits: int = 0
    offloaded: int = 0
    refused: int = 0
    wait_seconds: float = 0.0
    """Median."""


class Meter:
    """Counts from `since` on.

    Attributes:
        since: when it began.
        last_at: when the last execution ended; 0 while there was none.
    """

    def __init__(self, since: float) -> None:
        self.since = since
        self.last_at = 0.0
        self._seconds: deque[_Second] = deque()

    def executed(self, now: float, wait: float, *, is_warm: bool, is_offloaded: bool) -> None:
        """Count an execution that waited so long for its executor."""
        second = self._now(now)
        second.executions += 1
        second.warm_hits += is_warm
        second.offloaded += is_offloaded
        if len(second.waits) < WAITS_KEPT:
            second.waits.append(wait)
        self.last_at = now

    def refused(self, now: float) -> None:
        """Count one that was refused."""
        self._now(now).refused += 1

    def minute(self, now: float) -> Minute:
        """Return the counts of the last minute."""
        self._drop(now)
        waits = sorted(wait for second in self._seconds for wait in second.waits)
        return Minute(
            sum(second.executions for second in self._seconds),
            sum(second.warm_hits for second in self._seconds),
            sum(second.offloaded for second in self._seconds),
            sum(second.refused for second in self._seconds),
            waits[(len(waits) - 1) // 2] if waits else 0.0,
        )

    def _now(self, now: float) -> _Second:
        self._drop(now)
        if not self._seconds or self._seconds[-1].at != int(now):
            self._seconds.append(_Second(int(now)))
        return self._seconds[-1]

    def _drop(self, now: float) -> None:
        # A clock that was put back leaves seconds of the future, which are no part of the last minute either.
        while self._seconds and not now - SECONDS < self._seconds[0].at <= now:
            self._seconds.popleft()
