"""What an answer of E2B's edge or of a sandbox that is not 200 says: whether code may have started, and what to do.

    SandboxLostError    a GoneError: there is no such sandbox any more; its record is ended
    FailingError        a BusyError: E2B's edge or the sandbox answers 5xx

Before `/execute` nothing has started, whatever comes. Of `/execute` itself that is sure only for answers that are given
without the code having been looked at.
"""

from dataclasses import dataclass

from execpool.core.breaker import Seen
from execpool.gateway.executors import (
    BusyError,
    ExecutorError,
    GoneError,
    ImpostorError,
    LostError,
    NotStartedError,
    RejectedError,
    UnreachableError,
)

LONGEST_PACE_SECONDS = 60.0
_LOST = b"was not found"
_CLOSED = b"port is not open"


class SandboxLostError(GoneError):
    """E2B knows no such sandbox."""


class FailingError(BusyError):
    """It answers that it fails."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What a request that has ended says about its account."""

    seen: Seen
    is_answer: bool = True
    """False when there was none."""
    retry_after: float = 0.0
    asked_at: float = 0.0
    """When it was sent, by the loop's clock."""


def sight_of(error: ExecutorError | None, asked_at: float = 0.0) -> Sight:
    """Return what a request says that was sent then, and ended in this error or was taken."""
    match error:
        case None:
            return Sight(Seen.SUCCESS, asked_at=asked_at)
        case UnreachableError():
            return Sight(Seen.FAILURE, is_answer=False)
        case FailingError() | ImpostorError() | LostError():
            return Sight(Seen.FAILURE)
        case BusyError():
            return Sight(Seen.NEUTRAL, retry_after=error.retry_after, asked_at=asked_at)
        case _:
            return Sight(Seen.NEUTRAL)


def error_before(name: str, status: int, body: bytes, retry_after: str) -> NotStartedError:
    """Return the error for an answer to anything before `/execute`."""
    sure = _sure(name, status, body, retry_after)
    return sure if sure is not None else FailingError(f"{name} answered {status}")


def error_of_execute(name: str, status: int, body: bytes, retry_after: str) -> ExecutorError:
    """Return the error for an answer to `/execute`."""
    sure = _sure(name, status, body, retry_after)
    return sure if sure is not None else LostError(f"{name} answered {status} to a run")


def _sure(name: str, status: int, body: bytes, retry_after: str) -> NotStartedError | None:
    match status:
        case 502 if _LOST in body:
            return SandboxLostError(f"E2B has no sandbox {name} any more")
        case 502 if _CLOSED in body:
            return BusyError(f"{name} does not listen")
        case 401 | 403:
            return ImpostorError(f"{name} does not accept its tokens ({status})")
        case 429:
            return BusyError(f"{name} answered 429", _seconds(retry_after))
        case 404 | 409:
            return BusyError(f"{name} answered {status}")
        case 400 | 413:
            return RejectedError(f"{name} answered {status}")
    return None


def _seconds(retry_after: str) -> float:
    """Read a Retry-After in seconds; what is no number says only that there is one."""
    return min(float(retry_after), LONGEST_PACE_SECONDS) if retry_after.isascii() and retry_after.isdigit() else 1.0
