"""What became of a request that names itself: asked again it has the same answer, and nothing happens twice. Pure.

Kept for a day, as such keys usually are; E2B publishes no figure.
"""

from dataclasses import dataclass

from execpool.e2b_server.errors import ConflictError, MismatchError

KEPT_SECONDS = 86_400.0


@dataclass
class _Known:
    fingerprint: str
    since: float
    sandbox_id: str = ""


class Keys:
    """The keys of one account."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def begin(self, key: str, fingerprint: str, now: float) -> str:
        """Note a request; return the sandbox that it made before, empty when it has to be made.

        Raises:
            MismatchError: the key came with another request.
            ConflictError: the same request is on its way.
        """
        self._known = {name: known for name, known in self._known.items() if now - known.since < KEPT_SECONDS}
        known = self._known.get(key)
        if known is None:
            self._known[key] = _Known(fingerprint, now)
            return ""
        if known.fingerprint != fingerprint:
            raise MismatchError(
                "the idempotency key came with another request", error_code="idempotency_request_mismatch"
            )
        if not known.sandbox_id:
            raise ConflictError("the same request is in progress", error_code="idempotency_in_progress")
        return known.sandbox_id

    def made(self, key: str, sandbox_id: str) -> None:
        """Note what a request made."""
        self._known[key].sandbox_id = sandbox_id

    def failed(self, key: str) -> None:
        """Note that it made nothing, so that it may be tried again."""
        self._known.pop(key, None)
