"""What can go wrong with the API server, by what a caller can do about it.

KubeError
 +-- Unreachable      no answer: the server, or the way to it, is away; a write may have happened
 +-- Fenced           refused by ourselves: the Lease that allows writes has run out
 +-- Refused          the server answered and said no
      +-- NotFound    404
      +-- Conflict    409: somebody wrote in between, or the name is taken
      +-- Gone        410: the resourceVersion is too old; list again
      +-- Forbidden   401, 403: RBAC, quota or Pod Security; see `reason` and `message`
      +-- Invalid     400, 422: our own object is wrong
      +-- Overloaded  429, 5xx: try again later
"""

from typing import Any


class KubeError(Exception):
    """Anything that kept a request to the API server from having its effect and answer."""


class UnreachableError(KubeError):
    """No answer came. A write may or may not have happened."""


class FencedError(KubeError):
    """We may not write: our Lease's deadline has passed. Nothing was sent."""


class RefusedError(KubeError):
    """The server answered with an error status.

    Attributes:
        status: HTTP status code.
        reason: the machine-readable reason of the `Status` object, such as `AlreadyExists`.
        message: the server's sentence.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFoundError(RefusedError):
    """The object does not exist, or not with the UID that was asked for."""


class ConflictError(RefusedError):
    """Somebody else wrote first, a precondition failed, or the name is taken."""


class GoneError(RefusedError):
    """The resourceVersion has been compacted away: list again."""


class ForbiddenError(RefusedError):
    """RBAC, a quota or an admission rule says no."""

    @property
    def is_quota(self) -> bool:
        """True when a ResourceQuota is exhausted; the server says so only in words."""
        return "exceeded quota" in self.message

    @property
    def is_young_namespace(self) -> bool:
        """True when a namespace has no `default` ServiceAccount yet, which its controller makes within a second."""
        return "error looking up service account" in self.message


class InvalidError(RefusedError):
    """The object we sent is not acceptable."""


class OverloadedError(RefusedError):
    """The server cannot serve this now."""


_BY_STATUS: dict[int, type[RefusedError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: OverloadedError,
}


def refusal(status: int, body: dict[str, Any]) -> RefusedError:
    """Return the error for an HTTP status and the `Status` object that came with it."""
    kind = _BY_STATUS.get(status, OverloadedError if status >= 500 else RefusedError)
    return kind(status, str(body.get("reason", "")), str(body.get("message", "")))
