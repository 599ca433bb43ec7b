"""When to leave a backend alone. Pure: callers bring the time and say what they saw.

    what was seen                                       | counts as
    ----------------------------------------------------|----------------------------------------------------------
    an answer that did what was asked, 404, 409          | success: everything before is forgotten
    no connection, time-out, reset, 5xx                  | failure: TRIP_AFTER of them in a row open
    429 with Retry-After                                 | neither: it paces, it does not break
    429 without it                                       | neither: the account is full, not ill
    401, 403                                             | denial: opens at once, for DENIED_SECONDS
    400, 413 and other refusals of one request           | neither: they say nothing about the backend

Open, the backend is not asked at all until `retry_at`; then one request goes through as the probe, whoever makes it, and
nobody else until its end is known. A probe that fails opens for twice as long, up to LONGEST_SECONDS; what was asked before
it opened and fails afterwards does not.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from execpool.core.backoff import backoff

TRIP_AFTER = 5
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
DENIED_SECONDS = 60.0
PROBE_SECONDS = 30.0
"""A probe whose end nobody told (its maker died) blocks for no longer than this."""


class BreakerState(StrEnum):
    """As shown in status and metrics."""

    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class Seen(StrEnum):
    """What a request to the backend came to."""

    SUCCESS = "Success"
    FAILURE = "Failure"
    DENIED = "Denied"
    NEUTRAL = "Neutral"


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of one backend. Times are seconds on the caller's clock."""

    failures: int = 0
    """In a row."""
    opened: int = 0
    """Times that it has opened since the last success."""
    retry_at: float = 0.0
    probe_until: float = 0.0
    """While a probe is out; 0 when none is."""

    def state(self, now: float) -> BreakerState:
        """Return the state as people know it."""
        if not self.opened:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.retry_at else BreakerState.HALF_OPEN

    def wait(self, now: float) -> float:
        """Return the seconds until a request may be made; 0 when it may now."""
        if not self.opened:
            return 0.0
        return max(self.retry_at - now, self.probe_until - now, 0.0)

    def asking(self, now: float) -> "Breaker":
        """Return it when a request goes out, which `wait` allowed: half open, that request is the probe."""
        return replace(self, probe_until=now + PROBE_SECONDS) if self.opened else self

    def told(self, seen: Seen, now: float, spread: float = 1.0) -> "Breaker":
        """Return it once it is known what a request came to.

        Args:
            seen: what it came to.
            now: the time.
            spread: 0.5-1, drawn by the caller, so that many breakers do not probe at once.
        """
        match seen:
            case Seen.SUCCESS:
                return Breaker()
            case Seen.NEUTRAL:
                return replace(self, probe_until=0.0)
            case Seen.DENIED:
                return Breaker(self.failures + 1, self.opened + 1, now + DENIED_SECONDS)
            case Seen.FAILURE:
                return self._failed(now, spread)

    def _failed(self, now: float, spread: float) -> "Breaker":
        failures = self.failures + 1
        if failures < TRIP_AFTER and not self.opened:
            return replace(self, failures=failures)
        if now < self.retry_at:
            return replace(
                self, failures=failures
            )  # asked before it opened: no probe, which alone makes it wait longer
        wait = backoff(self.opened, FIRST_SECONDS, LONGEST_SECONDS) * spread
        return Breaker(failures, self.opened + 1, max(now + wait, self.retry_at))
