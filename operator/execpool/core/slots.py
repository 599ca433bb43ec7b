"""The slot protocol: one record, one sandbox of an account; never two, and none that nobody knows. Pure.

A creation at E2B may have happened although its answer never came, and E2B knows no idempotency. So the record comes first,
each request carries a tag with the record's UID and attempt, and the first deadline of a sandbox is short:

    record Intent -> ask -> id into the record -> Ready, deadline extended again and again -> ... -> Terminating -> kill -> drop

                  | nothing was sent | may have been sent, nothing seen              | seen
    --------------|------------------|-----------------------------------------------|---------------------------------
    Intent        | ask              | look until it is sure that nothing came of it, | adopt the first, kill the others
                  |                  | then the next attempt                         |
    Terminating   | drop             | look until it is sure, then drop              | kill all of them, look again

What a process knows beyond the record (`Knowledge`) is lost with it, and a process that finds a record without an id assumes
that something was sent. *Sure* is: two empty looks, BETWEEN_LOOKS_SECONDS apart, the last one VISIBLE_SECONDS after the
attempt began. That holds since a request is sent at most ASK_WITHIN_SECONDS after the attempt was written, is given up
after ASK_TIMEOUT_SECONDS, and shows in lists at most VISIBILITY_LAG_SECONDS later. Should all of that be wrong, the short
deadline ends the sandbox (reliability: at most SHORT_TTL_SECONDS without anybody's help), and the sweep kills it before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from execpool.api.e2b import SandboxPhase

ASK_WITHIN_SECONDS = 10.0
ASK_TIMEOUT_SECONDS = 20.0
VISIBILITY_LAG_SECONDS = 30.0
VISIBLE_SECONDS = ASK_WITHIN_SECONDS + ASK_TIMEOUT_SECONDS + VISIBILITY_LAG_SECONDS
BETWEEN_LOOKS_SECONDS = 10.0
SHORT_TTL_SECONDS = 120
"""Deadline that a creation asks for: what a crash at the worst moment costs."""
LONG_TTL_SECONDS = 900
REFRESH_SECONDS = 300
"""How often the long deadline is renewed; so a sandbox outlives the operator by 10 minutes."""


@dataclass(frozen=True)
class Slot:
    """A record as stored. Times are UNIX seconds."""

    uid: str
    phase: SandboxPhase
    attempt: int
    attempt_at: float
    """When this attempt was written."""
    sandbox_id: str = ""
    expires_at: float = 0.0
    """The deadline that E2B last confirmed."""


@dataclass(frozen=True)
class Knowledge:
    """What this process knows of a slot's attempt beyond its record; what a process begins with is the default."""

    is_unsent: bool = False
    """Nothing of this attempt was written to a connection."""
    first_empty_look: float | None = None
    last_look: float | None = None
    is_gone: bool = False
    """E2B has confirmed that the recorded sandbox is not there."""

    def looked_in_vain(self, now: float) -> "Knowledge":
        """Return it after a look that showed nothing."""
        first = now if self.first_empty_look is None else self.first_empty_look
        return replace(self, first_empty_look=first, last_look=now)


@dataclass(frozen=True)
class Sighting:
    """A sandbox of the account with a tag of ours."""

    sandbox_id: str
    record: str
    attempt: int
    started_at: float


@dataclass(frozen=True)
class Ask:
    """Ask for a sandbox, with the short deadline."""


@dataclass(frozen=True)
class Look:
    """List what carries the record's tag, in all states and all pages, and decide again with it."""


@dataclass(frozen=True)
class Adopt:
    """Record this sandbox, and kill the others."""

    sandbox_id: str
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class NextAttempt:
    """Write the next attempt into the record."""


@dataclass(frozen=True)
class Extend:
    """Renew the deadline."""

    sandbox_id: str


@dataclass(frozen=True)
class Kill:
    """End these sandboxes."""

    sandbox_ids: tuple[str, ...]


@dataclass(frozen=True)
class MarkLost:
    """Note in the record that its sandbox is gone."""


@dataclass(frozen=True)
class Drop:
    """Let the record go: nothing of it is left."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do for so many seconds."""

    seconds: float


Step = Ask | Look | Adopt | NextAttempt | Extend | Kill | MarkLost | Drop | Wait


def decide(slot: Slot, known: Knowledge, now: float, seen: Sequence[Sighting] | None = None) -> Step:
    """Return the next step of one slot.

    Args:
        slot: its record.
        known: what this process knows beyond it.
        now: the time.
        seen: what a look has just shown; None when nobody has looked.
    """
    match slot.phase:
        case SandboxPhase.INTENT:
            return _obtain(slot, known, now, seen)
        case SandboxPhase.READY | SandboxPhase.CLAIMED:
            return _keep(slot, known, now)
        case SandboxPhase.TERMINATING | SandboxPhase.LOST:
            return _end(slot, known, now, seen)


def strangers(
    seen: Sequence[Sighting], slots: Sequence[Slot], now: float, *, grace: float = VISIBLE_SECONDS
) -> tuple[str, ...]:
    """Return the sandboxes with our tag that no record stands for: their record is gone, or has another one.

    A young one may belong to a record that is about to note it.
    """
    recorded = {slot.sandbox_id for slot in slots}
    open_ = {slot.uid for slot in slots if not slot.sandbox_id}
    return tuple(
        one.sandbox_id
        for one in seen
        if one.sandbox_id not in recorded and one.record not in open_ and now - one.started_at >= grace
    )


def _obtain(slot: Slot, known: Knowledge, now: float, seen: Sequence[Sighting] | None) -> Step:
    if known.is_unsent:
        # Late, and a process that takes over meanwhile would be sure too soon.
        return Ask() if now - slot.attempt_at < ASK_WITHIN_SECONDS else NextAttempt()
    if seen is None:
        return _look_when_due(known, now)
    if seen:
        first, *others = sorted(seen, key=lambda one: (one.attempt, one.started_at, one.sandbox_id))
        return Adopt(first.sandbox_id, tuple(one.sandbox_id for one in others))
    return NextAttempt() if _is_sure(slot, known, now) else Wait(BETWEEN_LOOKS_SECONDS)


def _keep(slot: Slot, known: Knowledge, now: float) -> Step:
    if known.is_gone or now >= slot.expires_at:
        return MarkLost()
    due = slot.expires_at - (LONG_TTL_SECONDS - REFRESH_SECONDS) - now
    return Extend(slot.sandbox_id) if due <= 0 else Wait(due)


def _end(slot: Slot, known: Knowledge, now: float, seen: Sequence[Sighting] | None) -> Step:
    if known.is_unsent or known.is_gone:
        return Drop()
    if slot.sandbox_id:
        return Kill((slot.sandbox_id,))
    if seen is None:
        return _look_when_due(known, now)
    if seen:
        return Kill(tuple(one.sandbox_id for one in seen))
    return Drop() if _is_sure(slot, known, now) else Wait(BETWEEN_LOOKS_SECONDS)


def _look_when_due(known: Knowledge, now: float) -> Step:
    if known.last_look is None:
        return Look()
    wait = known.last_look + BETWEEN_LOOKS_SECONDS - now
    return Look() if wait <= 0 else Wait(wait)


def _is_sure(slot: Slot, known: Knowledge, now: float) -> bool:
    """True when nothing can have come of the attempt, the look at `now` having been empty too."""
    first = known.first_empty_look
    return first is not None and now >= max(first + BETWEEN_LOOKS_SECONDS, slot.attempt_at + VISIBLE_SECONDS)


def has_run_out(slot: Slot, now: float) -> bool:
    """True when every deadline that was granted, or may have been, has passed: for accounts that can no longer be asked.

    An extension may have been granted whose answer was lost, until the recorded deadline at the latest.
    """
    if slot.sandbox_id:
        return now >= slot.expires_at + LONG_TTL_SECONDS + ASK_TIMEOUT_SECONDS
    return now >= slot.attempt_at + VISIBLE_SECONDS + SHORT_TTL_SECONDS
