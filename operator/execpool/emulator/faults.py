"""Faults that a test orders: which call, what happens to it, how often. Pure.

    before the effect           nothing happens, and the fault is the answer
    after it (`after_commit`)   it happens, and the fault takes the answer's place

A drip or a truncation changes how the answer is sent, so it always comes after. Of several that fit a call the one that was
ordered first is given.
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class Kind(StrEnum):
    """What happens."""

    STATUS = "status"
    """An error with `status`, `retry_after`, `should_retry` and `message`."""
    RESET = "reset"
    """The connection is reset. After the effect of a stream: once some of it has been sent."""
    HANG = "hang"
    """No answer for `seconds`, then a reset."""
    DRIP = "drip"
    """The answer comes in pieces of `bytes`, `seconds` apart."""
    DELAY = "delay"
    """All goes well, after `seconds`."""
    MALFORMED = "malformed"
    """A body that is not what it says it is, with the status of a good answer."""
    TRUNCATE = "truncate"
    """The answer ends after `bytes`, as if it were complete."""


ALWAYS_AFTER = frozenset({Kind.DRIP, Kind.TRUNCATE})


@dataclass(frozen=True)
class Fault:
    """One order.

    Attributes:
        call: the call that it is for (`routes.Call`); `*` for every one.
        after_commit: whether the effect happens.
        status, retry_after, should_retry, message: of an error; seconds, and None for no such header.
        seconds: of a hang, a delay, or between the pieces of a drip.
        bytes: of a piece, or until the end.
        times: how often it is given; None for any number of times.
        until: given until then, seconds since the epoch; None for ever.
    """

    call: str
    kind: Kind
    after_commit: bool = False
    status: int = 500
    retry_after: int | None = None
    should_retry: bool | None = None
    message: str = "a fault was ordered"
    seconds: float = 30.0
    bytes: int = 16
    times: int | None = 1
    until: float | None = None

    @property
    def comes_after(self) -> bool:
        """True when the call's effect happens."""
        return self.after_commit or self.kind in ALWAYS_AFTER

    def fits(self, call: str, now: float) -> bool:
        """True when it is for this call, now."""
        return self.call in ("*", call) and (self.until is None or now < self.until)


class Faults:
    """What has been ordered."""

    def __init__(self) -> None:
        self._ordered: dict[int, Fault] = {}
        self._last = 0

    def order(self, fault: Fault) -> int:
        """Add a fault and return its number."""
        self._last += 1
        self._ordered[self._last] = fault
        return self._last

    def cancel(self, number: int) -> bool:
        """Take one back; False when there is none."""
        return self._ordered.pop(number, None) is not None

    def clear(self) -> None:
        """Take all of them back."""
        self._ordered.clear()

    def take(self, call: str, now: float) -> Fault | None:
        """Return the fault for a call, used up by one; None when all is to be well."""
        self._ordered = {
            number: fault for number, fault in self._ordered.items() if fault.until is None or now < fault.until
        }
        for number, fault in self._ordered.items():
            if fault.fits(call, now):
                self._use(number, fault)
                return fault
        return None

    def all(self) -> dict[int, Fault]:
        """Return what is still to be given, by number."""
        return dict(self._ordered)

    def _use(self, number: int, fault: Fault) -> None:
        if fault.times is None:
            return
        if fault.times > 1:
            self._ordered[number] = replace(fault, times=fault.times - 1)
        else:
            del self._ordered[number]
