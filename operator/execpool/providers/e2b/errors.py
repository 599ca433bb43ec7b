"""What can go wrong with a call to E2B, by what may have become of it.

    E2BError
     +-- UnsentError      provably nothing was sent: no connection, or we held it back; asking again is safe
     |    +-- HeldBackError   our own limits said no; `reason`, and when to try again
     +-- UnknownError     it may have happened: time-out, reset, 5xx, an answer that makes no sense. Never asked again
     |                    blindly: what came of it is looked for (core.slots)
     +-- AnsweredError    E2B said no, and nothing came of it
          +-- PacedError      429 with Retry-After: too fast
          +-- FullError       429 without: too many sandboxes; waiting alone does not help
          +-- DeniedError     401, 403: the key
          +-- GoneError       404: no such sandbox, or template
          +-- RefusedError    every other 4xx: this request, not the service

Callers decide by type. The text is for people; it carries E2B's own words, cut short, and never a key or a token.
"""

from execpool.api.names import Reason


class E2BError(Exception):
    """Anything that kept a call from having its effect and answer."""


class UnsentError(E2BError):
    """Nothing of the call has left this process."""


class HeldBackError(UnsentError):
    """Our own limits do not let the call out now."""

    def __init__(self, reason: Reason, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class UnknownError(E2BError):
    """It may have happened."""


class AnsweredError(E2BError):
    """E2B refused it. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"E2B answered {status}: {message}")
        self.status = status


class PacedError(AnsweredError):
    """Too many of these calls in a time; `retry_after` in seconds."""

    def __init__(self, status: int, message: str, retry_after: float) -> None:
        super().__init__(status, message)
        self.retry_after = retry_after


class FullError(AnsweredError):
    """The account has as many sandboxes as it may have."""


class DeniedError(AnsweredError):
    """The key is not valid, or may not do this."""


class GoneError(AnsweredError):
    """There is no such thing."""


class RefusedError(AnsweredError):
    """This request will not be served."""


def answered(status: int, message: str, retry_after: str | None) -> E2BError:
    """Return the error for an answer that is not the one that was wanted."""
    seconds = seconds_of(retry_after)
    if status == 429:
        return FullError(status, message) if seconds is None else PacedError(status, message, seconds)
    if status in (401, 403):
        return DeniedError(status, message)
    if status == 404:
        return GoneError(status, message)
    if 400 <= status < 500 and status != 408:
        return RefusedError(status, message)
    return UnknownError(f"E2B answered {status}: {message}")


def seconds_of(retry_after: str | None) -> float | None:
    """Return what a Retry-After says; a date, or what is no number, counts as one second."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1.0
