"""One error for the whole port, told in two ways: E2B's plain JSON, or Connect's.

    plain HTTP     status, {"code": 404, "message": "..."}        what /files, /envs and a refused token answer
    Connect unary  status, {"code": "not_found", "message": ...}
    Connect stream 200, then an end-of-stream envelope {"error": {"code": "not_found", "message": ...}}

Clients choose their exception by the code; people read the message.
"""

from typing import Any

from execpool.executor.agent_wire import Code

_PLAIN = {
    Code.CANCELED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 416,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
    Code.NO_SPACE: 507,
    Code.TOO_LARGE: 413,
}
# Connect has no words for these two: a client takes `resource_exhausted` for a rate limit and would try again.
_CONNECT = {Code.NO_SPACE: Code.INTERNAL, Code.TOO_LARGE: Code.OUT_OF_RANGE}
_CONNECT_STATUS = {**_PLAIN, Code.OUT_OF_RANGE: 400}


class EnvdError(Exception):
    """A call that was not done, or not to its end."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def plain_status(self) -> int:
        """The HTTP status outside Connect."""
        return _PLAIN.get(self.code, 500)

    def plain(self) -> dict[str, Any]:
        """The body outside Connect."""
        return {"code": self.plain_status, "message": self.message}

    @property
    def connect_status(self) -> int:
        """The HTTP status of a unary Connect call."""
        return _CONNECT_STATUS.get(self.connect_code, 500)

    @property
    def connect_code(self) -> Code:
        """The code that Connect's clients know."""
        return _CONNECT.get(self.code, self.code)

    def connect(self) -> dict[str, Any]:
        """The body of a unary Connect call, and the error of a stream."""
        return {"code": self.connect_code.value, "message": self.message}


def invalid(message: str) -> EnvdError:
    """Return the error for a request that does not have the form it must have."""
    return EnvdError(Code.INVALID_ARGUMENT, message)
