"""Declared limits and what is left of them: rates by GCRA, spend by reservations in a window. Pure: callers bring the time.

GCRA (the generic cell rate algorithm, ITU-T I.371, there as "virtual scheduling") keeps one number per bucket, the
*theoretical arrival time*: when the next event would come if all came evenly. An event may come up to `burst - 1` places
early. So in every half-open window of `window_seconds` there are at most `limit + burst - 1` events, whatever came before,
and with `burst` 1, the default, a declared limit is a ceiling.

A bucket starts *empty*: as if all that may have happened before its owner started had happened. Only so does a limit hold
across restarts and takeovers without anything being stored.

Times are whole nanoseconds and the arithmetic is exact: a limit that is kept but for a rounding error is not kept.
"""

from dataclasses import dataclass

NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` events in a window, `burst` of them at once.

    Raises:
        ValueError: when a number is below 1.
    """

    limit: int
    window_seconds: int
    burst: int = 1

    def __post_init__(self) -> None:
        if min(self.limit, self.window_seconds, self.burst) < 1:
            raise ValueError(
                f"limit, window and burst are at least 1, not {self.limit}, {self.window_seconds}, {self.burst}"
            )

    @property
    def most_in_a_window(self) -> int:
        """The ceiling that holds for every half-open window of `window_seconds`."""
        return self.limit + self.burst - 1


class Bucket:
    """The state of one rate. Time is counted in ticks of 1/limit ns, so that the interval between events is whole."""

    __slots__ = ("_arrival", "_early", "_interval", "rate")

    def __init__(self, rate: Rate, now: int) -> None:
        """Begin empty at `now` (ns on the caller's clock, which must not go backwards)."""
        self.rate = rate
        self._interval = rate.window_seconds * NANOSECONDS
        self._early = (rate.burst - 1) * self._interval
        self._arrival = now * rate.limit + self._early + self._interval

    def take(self, now: int) -> bool:
        """Take one event if it may come now."""
        ticks = now * self.rate.limit
        arrival = self._arrival
        if ticks < arrival - self._early:
            return False
        self._arrival = max(arrival, ticks) + self._interval
        return True

    def happened(self, now: int) -> None:
        """Note that an event that was taken earlier has happened only now: the next keeps its distance from this instant."""
        self._arrival = max(self._arrival, now * self.rate.limit + self._interval)

    def give_back(self) -> None:
        """Undo one `take` whose event provably did not happen."""
        self._arrival -= self._interval

    def wait(self, now: int, events: int = 1) -> int:
        """Return the ns from now until so many events may have come, taken one by one as soon as each may; 0 for one now."""
        due = self._arrival - self._early + (events - 1) * self._interval
        earliest = now * self.rate.limit + max(events - self.rate.burst, 0) * self._interval
        return max(-(-(max(due, earliest) - now * self.rate.limit) // self.rate.limit), 0)

    def remaining(self, now: int) -> int:
        """Return how many events could come at this instant."""
        room = now * self.rate.limit + self._early - self._arrival
        return min(room // self._interval + 1, self.rate.burst) if room >= 0 else 0

    def full_at(self) -> int:
        """Return when, in ns, it is again as one that nobody has used."""
        return -(-self._arrival // self.rate.limit)

    def renewed(self, rate: Rate, now: int) -> "Bucket":
        """Return the bucket of another rate that begins empty: what the old one has let through is not forgotten."""
        return self if rate == self.rate else Bucket(rate, now)


@dataclass(frozen=True, slots=True)
class SpendWindow:
    """Money in one window, in micro-dollars: settled is spent, reserved may still be.

    A grant reserves the most that it can cost before it is given, and settles what it did cost when it ends: so no
    sequence of crashes spends more than `limit`. Windows follow each other without a gap; what is reserved moves on to the
    next one, since it has not been spent yet.
    """

    limit: int
    seconds: int
    start: int
    """Seconds since the epoch."""
    settled: int = 0
    reserved: int = 0

    @property
    def left(self) -> int:
        """What may still be reserved."""
        return self.limit - self.settled - self.reserved

    @property
    def end(self) -> int:
        """When the next window begins."""
        return self.start + self.seconds

    def at(self, now: int) -> "SpendWindow":
        """Return the window in which `now` lies."""
        if now < self.end:
            return self
        start = now - (now - self.start) % self.seconds
        return SpendWindow(self.limit, self.seconds, start, 0, self.reserved)

    def reserve(self, amount: int) -> "SpendWindow | None":
        """Return the window with so much more reserved; None when it does not fit."""
        if amount > self.left:
            return None
        return SpendWindow(self.limit, self.seconds, self.start, self.settled, self.reserved + amount)

    def settle(self, reserved: int, cost: int) -> "SpendWindow":
        """Return the window once a grant that had reserved so much has cost so much.

        A cost above its reservation is booked in full: what was spent was spent.
        """
        return SpendWindow(
            self.limit, self.seconds, self.start, self.settled + max(cost, 0), max(self.reserved - reserved, 0)
        )
