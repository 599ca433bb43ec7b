"""What refusals teach about an account: its real creation rate, and its real number of sandboxes. Pure.

Documented limits are not the ones in force: others use the same account, plans change, and the service protects itself. So
a refusal lowers what is asked for, and success raises it again, up to what was declared and never above.

- The *rate* follows AIMD (additive increase, multiplicative decrease; Chiu and Jain 1989), as TCP does: halved when a
  creation is refused with a time to wait, which is kept besides; raised by a twentieth of the declared rate with each creation
  that is let through. Refusals of one storm, which were all sent before the first of them came back, count once.
- The *number* is what there was of ours when the account said that it is full. One more is tried after PROBE_AFTER_SECONDS,
  and each that comes raises it by one.
"""

from dataclasses import dataclass, replace

STEPS = 20
LONGEST_PAUSE_SECONDS = 300.0
"""A time to wait beyond this is not believed: a wrong header must not stop a pool for a day."""
PROBE_AFTER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class LearnedRate:
    """Creations per minute. Times are seconds on the caller's clock."""

    per_minute: int | None = None
    """None while what was declared is let through."""
    paused_until: float = 0.0

    def most(self, declared: int) -> int:
        """Return how many a minute may be asked for, one at least."""
        return max(min(declared, self.per_minute or declared), 1)

    def wait(self, now: float) -> float:
        """Return the seconds until any may be asked for."""
        return max(self.paused_until - now, 0.0)

    def refused(self, declared: int, retry_after: float, now: float) -> "LearnedRate":
        """Return it after a refusal with a time to wait."""
        until = max(self.paused_until, now + min(max(retry_after, 0.0), LONGEST_PAUSE_SECONDS))
        if now < self.paused_until:
            return replace(self, paused_until=until)
        return LearnedRate(max(self.most(declared) // 2, 1), until)

    def let_through(self, declared: int) -> "LearnedRate":
        """Return it after a creation that was not refused."""
        if self.per_minute is None:
            return self
        raised = self.per_minute + max(declared // STEPS, 1)
        return replace(self, per_minute=None if raised >= declared else raised)


@dataclass(frozen=True, slots=True)
class LearnedNumber:
    """Sandboxes of ours. Times are seconds on the caller's clock."""

    sandboxes: int | None = None
    """At which the account last said that it is full; None while it has not."""
    probe_at: float = 0.0

    def most(self, declared: int, now: float) -> int:
        """Return how many of ours there may be at `now`."""
        if self.sandboxes is None:
            return declared
        return min(declared, self.sandboxes + (now >= self.probe_at))

    def wait(self, now: float) -> float:
        """Return the seconds until one more is tried."""
        return max(self.probe_at - now, 0.0) if self.sandboxes is not None else 0.0

    def full(self, ours: int, now: float) -> "LearnedNumber":
        """Return it after the account said that it is full while there were so many of ours."""
        return LearnedNumber(max(ours, 0), now + PROBE_AFTER_SECONDS)

    def came(self, ours: int, declared: int) -> "LearnedNumber":
        """Return it after one more came; there are so many of ours now."""
        if self.sandboxes is None or ours <= self.sandboxes:
            return self
        return LearnedNumber() if ours >= declared else replace(self, sandboxes=ours)
