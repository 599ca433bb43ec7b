"""Why the account refuses a call. Each error is an HTTP answer with the words of the real service, which clients read.

RefusedError                 status, message, headers
 +-- InvalidError            400
 +-- UnauthorizedError       401
 +-- ForbiddenError          403
 +-- NotFoundError           404   there is no such sandbox, or it is over
 |    +-- NoTemplateError    404
 +-- ConflictError           409   it is paused already, or is not
 +-- MismatchError           422   an idempotency key that came with another request before
 +-- RateLimitedError        429   with Retry-After: waiting helps
 +-- CapReachedError         429   without it: something has to end first
 +-- NotOfferedError        501   the real service has it, this one does not
 +-- GoneError               502   on the data plane: the sandbox is over
 +-- PortClosedError         502   on the data plane: nobody listens there
 +-- NoCapacityError         503   no process could be started on this machine
"""

import math
from collections.abc import Mapping
from typing import Any


class RefusedError(Exception):
    """A call that is answered with an error.

    Attributes:
        status: of the answer.
        message: in its body.
        headers: of the answer, beside those of every answer.
        more: further fields of its body.
    """

    status = 500

    def __init__(self, message: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(message)
        self.message = message
        self.headers = headers or {}
        self.more = more


class InvalidError(RefusedError):
    """The request is not as it has to be."""

    status = 400


class UnauthorizedError(RefusedError):
    """The key is none of this account's."""

    status = 401


class ForbiddenError(RefusedError):
    """The traffic token is not the sandbox's."""

    status = 403


class NotFoundError(RefusedError):
    """There is no such thing."""

    status = 404

    @classmethod
    def of(cls, sandbox_id: str) -> "NotFoundError":
        """Return the error for a sandbox."""
        return cls(f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")


class NoTemplateError(NotFoundError):
    """There is no such template."""


class ConflictError(RefusedError):
    """The sandbox is not in a state for this."""

    status = 409


class MismatchError(RefusedError):
    """An idempotency key was used for something else."""

    status = 422


class RateLimitedError(RefusedError):
    """Too many calls in a time; waiting helps."""

    status = 429

    @classmethod
    def after(cls, seconds: float, message: str = "Rate limit exceeded") -> "RateLimitedError":
        """Return the error for a call that may come again after so many seconds."""
        return cls(message, {"Retry-After": str(max(math.ceil(seconds), 1))})


class CapReachedError(RefusedError):
    """Too many sandboxes at the same time."""

    status = 429

    @classmethod
    def at(cls, most: int) -> "CapReachedError":
        """Return the error of an account that may have so many."""
        return cls(
            f"you have reached the maximum number of concurrent E2B sandboxes ({most}). "
            "If you need more, please contact support."
        )


class NotOfferedError(RefusedError):
    """The real service answers this, the emulator does not."""

    status = 501


class GoneError(RefusedError):
    """The sandbox of a call on the data plane is over."""

    status = 502

    @classmethod
    def of(cls, sandbox_id: str) -> "GoneError":
        """Return the error for a sandbox."""
        return cls("The sandbox was not found", sandboxId=sandbox_id)


class PortClosedError(RefusedError):
    """Nobody listens at that port of the sandbox."""

    status = 502

    @classmethod
    def of(cls, sandbox_id: str, port: int) -> "PortClosedError":
        """Return the error for a port of a sandbox."""
        return cls("The sandbox is running but port is not open", sandboxId=sandbox_id, port=port)


class NoCapacityError(RefusedError):
    """No sandbox could be started."""

    status = 503
