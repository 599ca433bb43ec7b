"""What refusals teach about an account: its real rates, and its real number of sandboxes. Pure.

Documented limits are not the ones in force: others use the same account, plans change, and the service protects itself. So
a refusal lowers what is asked for, and success raises it again, up to what was declared and never above.

A *rate* is searched for between the highest that was let through (`good`) and the lowest that was refused (`bad`):

    refused at      | which was let through             | then
    ----------------|-----------------------------------|---------------------------------------------------------
    no rate at all  |                                   | what was asked for in the last second, as a guess
    more than good  | not yet                           | halved while nothing is good; a step up from good otherwise
    good            | DOUBT times, for DOUBT_SECONDS    | nothing: it may be chance; the time to wait is kept
    good            | STEADY times, but less often      | a little less
    good            | not even that                     | the limit has fallen: as if nothing were good

STEADY in a row, for STEADY_SECONDS, make a rate good. From there it climbs in steps that double until something is refused, and
then in small ones, never beyond the middle of good and bad: a refusal costs more than a while at too low a rate. Once the
two are CLOSE it stays, and tries a little more every PROBE_AFTER_SECONDS. An answer to something that was asked before the
present rate held says nothing of it: refusals of one storm count once. Nor does success while less was asked for than
may be.

The *number* is what there was of ours when the account said that it is full. One more is tried after PROBE_AFTER_SECONDS,
and each that comes raises it by one.
"""

import math
from dataclasses import dataclass, replace

LONGEST_PAUSE_SECONDS = 300.0
"""A time to wait beyond this is not believed: a wrong header must not stop a pool for a day."""
PROBE_AFTER_SECONDS = 30.0
STEADY = 3
STEADY_SECONDS = 1.0
"""A service that lets some come early refuses none of these, whatever the rate: so a second of them, at least."""
DOUBT, DOUBT_SECONDS = 50, 20.0
"""So many let through, for so long: one refusal after that may be chance, such as something that was late on its way."""
CLOSE, FIRST_STEP, LONGEST_STEP = 1.04, 1.12, 2.0
"""Factors between a good rate and the next one tried: near the limit, after halving, at most."""
LITTLE_LESS = 0.97
SPARSE = 1.5
"""Intervals after the last one at which one comes too late to show that its rate is let through."""
SMOOTHING = 0.2
"""Weight of the last answer in the time that one usually takes."""
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class LearnedRate:
    """A rate, and when the next may be asked for. Times are seconds on the caller's clock, rates are per minute."""

    rate: float | None = None
    """Asked for now; None while what was declared is let through, or anything where nothing was declared."""
    good: float = 0.0
    bad: float = math.inf
    step: float = CLOSE
    """Factor of the next probe."""
    streak: int = 0
    """Let through at this rate, one after the other."""
    probe_at: float = math.inf
    changed_at: float = -math.inf
    dense_since: float = -math.inf
    asked_at: float = -math.inf
    """When the last one was asked for; or, when that can be told, had been at the latest."""
    usual: float | None = None
    """The time that an answer takes."""
    second: tuple[float, int] = (-math.inf, 0)
    """A second, and what was asked for in it."""
    paused_until: float = 0.0

    @property
    def per_minute(self) -> int | None:
        """What has been learned, for people; None when nothing has."""
        return None if self.rate is None else max(round(self.rate), 1)

    def most(self, declared: float | None) -> float:
        """Return how many a minute may be asked for; infinite when neither was anything declared nor learned."""
        known = [each for each in (self.rate, declared) if each is not None]
        return max(min(known), 1.0) if known else math.inf

    def wait(self, declared: float | None, now: float) -> float:
        """Return the seconds until one may be asked for."""
        return max(self.paused_until - now, self.asked_at + MINUTE / self.most(declared) - now, 0.0)

    # What is done

    def asked(self, declared: float | None, now: float) -> "LearnedRate":
        """Return it once one has been asked for."""
        began, count = self.second
        is_late = now - self.asked_at > SPARSE * MINUTE / self.most(declared)
        return replace(
            self,
            asked_at=max(self.asked_at, now),
            dense_since=now if is_late else self.dense_since,
            second=(began, count + 1) if now - began < 1 else (now, 1),
        )

    def answered(self, sent: float, answered: float) -> "LearnedRate":
        """Return it once the last one, sent then, was answered by a service that answers as soon as it has counted.

        What took longer than usual may have been counted later: so much later it counts as asked for.
        """
        took = max(answered - sent, 0.0)
        usual = took if self.usual is None else self.usual + SMOOTHING * (took - self.usual)
        known = replace(self, usual=usual)
        if sent < self.asked_at:
            return known
        return replace(known, asked_at=sent + max(took - (took if self.usual is None else self.usual), 0.0))

    # What comes of it

    def refused(self, declared: float | None, retry_after: float, asked_at: float, now: float) -> "LearnedRate":
        """Return it after a refusal with a time to wait, of one that was asked for then."""
        until = max(self.paused_until, now + min(max(retry_after, 0.0), LONGEST_PAUSE_SECONDS))
        paused = replace(self, paused_until=until)
        if asked_at < self.changed_at:
            return paused
        asked = self.most(declared)
        if math.isinf(asked):
            guess = _at(paused, max(self.second[1], 1) * MINUTE, declared, now, good=0.0, bad=math.inf)
            return replace(guess, step=LONGEST_STEP)
        if asked > self.good:
            return _between(replace(paused, step=CLOSE), self.good, asked, declared, now)
        if self.streak >= DOUBT and asked_at - self.changed_at >= DOUBT_SECONDS:
            return replace(paused, streak=0, changed_at=now)
        if _is_steady(self, asked_at):
            return _at(paused, asked * LITTLE_LESS, declared, now, good=0.0, bad=asked)
        return _between(paused, 0.0, asked, declared, now)

    def let_through(self, declared: float | None, asked_at: float, now: float) -> "LearnedRate":
        """Return it after one that was not refused, and was asked for then."""
        if asked_at < self.changed_at or asked_at <= self.dense_since:
            return self
        steady = replace(self, streak=self.streak + 1)
        if not _is_steady(steady, asked_at):
            return steady
        good = max(self.good, self.most(declared))
        if self.rate is None:
            return steady if math.isinf(good) else replace(steady, good=good)
        if self.rate > self.good:
            return _between(steady, good, self.bad, declared, now)
        if now < self.probe_at:
            return steady
        return _between(steady, good, math.inf, declared, now)


def _is_steady(known: LearnedRate, asked_at: float) -> bool:
    """True when what was let through until then shows that this rate is."""
    since = max(known.changed_at, known.dense_since, known.paused_until)
    return known.streak >= STEADY and asked_at - since >= STEADY_SECONDS


def _between(known: LearnedRate, good: float, bad: float, declared: float | None, now: float) -> LearnedRate:
    """Go on with a rate that is good, or the next one to try, when these two are known."""
    if not good:
        return replace(_at(known, bad / 2, declared, now, good=0.0, bad=bad), step=FIRST_STEP)
    if bad > good * CLOSE * (1 + 1e-9):
        tried = _at(known, min(good * known.step, math.sqrt(good * bad)), declared, now, good=good, bad=bad)
        return replace(tried, step=min(known.step * known.step, LONGEST_STEP))
    settled = _at(known, good, declared, now, good=good, bad=bad)
    return replace(settled, probe_at=now + PROBE_AFTER_SECONDS, step=CLOSE)


def _at(known: LearnedRate, rate: float, declared: float | None, now: float, *, good: float, bad: float) -> LearnedRate:
    if declared is not None and rate >= declared:
        return replace(known, rate=None, good=good, bad=math.inf, streak=0, changed_at=now, probe_at=math.inf)
    return replace(known, rate=max(rate, 1.0), good=good, bad=bad, streak=0, changed_at=now, probe_at=math.inf)


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
