"""E2B's signed URLs: whoever has one may read or write one path, for a time, without a token. Pure.

    signature = "v1_" + unpadded base64 of SHA-256("path:operation:user:token[:expiration]")

The path is the one in the URL, not what it resolves to; user is empty when the URL names none. SHA-256 over a secret of
256 bits with the secret in the middle: E2B's form, kept.
"""

import base64
import hashlib
import hmac

from execpool.executor.agent_wire import Code
from execpool.executor.server.envd.errors import EnvdError

READ, WRITE = "read", "write"


def sign(path: str, operation: str, user: str, token: str, expiration: str | None = None) -> str:
    """Return the signature of a URL; `expiration` is the text in it."""
    parts = [path, operation, user, token] + ([] if expiration is None else [expiration])
    digest = hashlib.sha256(":".join(parts).encode("utf-8", "surrogateescape")).digest()
    return "v1_" + base64.b64encode(digest).rstrip(b"=").decode()


def check(signature: str, expected: str, expiration: str | None, now: float) -> None:
    """Accept a signature.

    Raises:
        EnvdError: it is not the expected one, or its time is over.
    """
    if not hmac.compare_digest(signature.encode("utf-8", "replace"), expected.encode()):
        raise EnvdError(Code.UNAUTHENTICATED, "invalid signature")
    if expiration is not None and not _still_valid(expiration, now):
        raise EnvdError(Code.UNAUTHENTICATED, "signature is already expired")


def _still_valid(expiration: str, now: float) -> bool:
    return expiration.isascii() and expiration.isdigit() and len(expiration) < 16 and int(expiration) >= int(now)
