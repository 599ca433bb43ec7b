"""What may keep an execution from starting although there is an executor for it: budgets, and the state of an account. Pure.

A *gate* stands before some of the executions of some tiers. An execution may start on a tier once every gate before it lets
one more through, and takes one from each of them then. Times are seconds on the caller's clock, which must not go backwards.

    gate            | lets through                      | and then
    ----------------|-----------------------------------|---------------------------------------------
    RateGate        | what its bucket has               | a place that was taken for nothing is given back
    SlotsGate       | `limit` at a time                 | until they have ended
    BreakerGate     | everything, nothing, or one probe | by what is seen of the backend
    LearnedGate     | one at a time, as refusals taught | until its interval, or the backend's hour
"""

import math
from typing import Protocol

from execpool.api.names import Refusal
from execpool.core.breaker import Breaker, BreakerState, Seen
from execpool.core.budget import NANOSECONDS, Bucket, Rate
from execpool.core.learning import MINUTE, LearnedRate

UNBOUNDED = 1 << 30


class Gate(Protocol):
    """One gate.

    Attributes:
        refusal: reason of a refusal because of it.
        is_waited_for: False when an execution that it holds back is refused at once.
    """

    @property
    def refusal(self) -> Refusal:
        """Reason of a refusal because of it."""

    @property
    def is_waited_for(self) -> bool:
        """False when an execution that it holds back is refused at once."""

    def room(self, now: float) -> int:
        """Return how many executions it lets through at this instant."""

    def wait(self, now: float, starts: int) -> float:
        """Return the seconds until so many executions may have started, 0 for one now, and when nobody can know."""

    def take(self, now: float) -> None:
        """Let one through, for which there is room."""

    def leave(self, *, started: bool) -> None:
        """Note that one it let through has ended, or never started."""

    def describe(self, now: float) -> str:
        """Say in words, with numbers, what it allows."""


class RateGate:
    """A rate, by its bucket. `is_refunded` False: what did not start may have been counted elsewhere all the same."""

    refusal = Refusal.BUDGET_EXHAUSTED

    def __init__(
        self, name: str, rate: Rate, since: float, *, is_waited_for: bool = True, is_refunded: bool = True
    ) -> None:
        self._name = name
        self._bucket = Bucket(rate, _ns(since))
        self._is_refunded = is_refunded
        self.is_waited_for = is_waited_for

    def renew(self, rate: Rate, now: float) -> None:
        """Go on with another rate."""
        self._bucket = self._bucket.renewed(rate, _ns(now))

    def room(self, now: float) -> int:
        return self._bucket.remaining(_ns(now))

    def wait(self, now: float, starts: int) -> float:
        return self._bucket.wait(_ns(now), starts) / NANOSECONDS

    def take(self, now: float) -> None:
        self._bucket.take(_ns(now))

    def leave(self, *, started: bool) -> None:
        if not started and self._is_refunded:
            self._bucket.give_back()

    def is_full(self, now: float) -> bool:
        """True when it is as one that nobody has used."""
        return self.room(now) == self._bucket.rate.burst

    def describe(self, now: float) -> str:
        rate = self._bucket.rate
        return (
            f"{self._name} lets {rate.limit} executions through in {rate.window_seconds} s, {rate.burst} at once, "
            f"and {self.room(now)} now"
        )


class SlotsGate:
    """So many at a time."""

    refusal = Refusal.BUDGET_EXHAUSTED

    def __init__(self, name: str, limit: int, *, is_waited_for: bool = True) -> None:
        self._name = name
        self._running = 0
        self.limit = limit
        self.is_waited_for = is_waited_for

    def room(self, now: float) -> int:
        del now
        return max(self.limit - self._running, 0)

    def wait(self, now: float, starts: int) -> float:
        del now, starts
        return 0.0

    def take(self, now: float) -> None:
        del now
        self._running += 1

    def leave(self, *, started: bool) -> None:
        del started
        self._running -= 1

    def is_full(self, now: float) -> bool:
        """True when it is as one that nobody has used."""
        del now
        return self._running == 0

    def describe(self, now: float) -> str:
        del now
        return f"{self._name} allows {self.limit} executions at a time, and {self._running} run"


class BreakerGate:
    """A backend that may have to be left alone."""

    refusal = Refusal.BREAKER_OPEN
    is_waited_for = True

    def __init__(self, name: str) -> None:
        self._name = name
        self._breaker = Breaker()

    def state(self, now: float) -> BreakerState:
        """Return its state as people know it."""
        return self._breaker.state(now)

    def told(self, seen: Seen, now: float, spread: float) -> bool:
        """Take in what a request came to; True when that changed what may pass."""
        before, self._breaker = self._breaker, self._breaker.told(seen, now, spread)
        return before.opened != self._breaker.opened or before.probe_until != self._breaker.probe_until

    def room(self, now: float) -> int:
        if not self._breaker.opened:
            return UNBOUNDED
        return 0 if self._breaker.wait(now) else 1

    def wait(self, now: float, starts: int) -> float:
        del starts  # once the probe has succeeded, everybody may
        return self._breaker.wait(now)

    def take(self, now: float) -> None:
        self._breaker = self._breaker.asking(now)

    def leave(self, *, started: bool) -> None:
        del started

    def describe(self, now: float) -> str:
        return (
            f"{self._name} failed {self._breaker.failures} times in a row and is asked again in "
            f"{math.ceil(self._breaker.wait(now))} s"
        )


class LearnedGate:
    """What a backend's refusals have taught (`core.learning`), and the hour at which it wants to be asked again.

    Attributes:
        declared: executions a minute, which it lets through evenly; None when that is not known.
    """

    refusal = Refusal.BUDGET_EXHAUSTED
    is_waited_for = True

    def __init__(self, name: str) -> None:
        self._name = name
        self._rate = LearnedRate()
        self.declared: float | None = None

    def refused(self, retry_after: float, asked_at: float, now: float) -> None:
        """Learn from an execution that was refused, and was asked for then."""
        self._rate = self._rate.refused(self.declared, retry_after, asked_at, now)

    def let_through(self, asked_at: float, now: float) -> None:
        """Learn from an execution that was taken now, and was asked for then."""
        self._rate = self._rate.answered(asked_at, now).let_through(self.declared, asked_at, now)

    def room(self, now: float) -> int:
        if self._rate.wait(self.declared, now) > 0:
            return 0
        return UNBOUNDED if math.isinf(self._rate.most(self.declared)) else 1

    def wait(self, now: float, starts: int) -> float:
        return self._rate.wait(self.declared, now) + (starts - 1) * MINUTE / self._rate.most(self.declared)

    def take(self, now: float) -> None:
        self._rate = self._rate.asked(self.declared, now)

    def leave(self, *, started: bool) -> None:
        del started

    def describe(self, now: float) -> str:
        wait, most = math.ceil(self.wait(now, 1)), self._rate.most(self.declared)
        told = "" if math.isinf(most) else f" lets {round(most)} executions a minute through, and"
        return f"{self._name}{told} is not to be asked again for {wait} s"


def _ns(seconds: float) -> int:
    return int(seconds * NANOSECONDS)
