"""Who may call: the holder of the claim, told by a token, or whoever has a URL that the token signed.

    X-Execpool-Token + X-Execpool-Epoch     the gateway; fenced by the epoch as on the data port
    X-Access-Token                          the same token where E2B's clients put theirs; not fenced
    signature, signature_expiration         `/files` only, for one path and one direction

Everything runs as one user, so a client may name that one or none: another would be a promise that is not kept.
"""

import base64
import binascii
import hmac
import time

from execpool.executor.agent_wire import Code
from execpool.executor.server import errors, requests
from execpool.executor.server.claim import Ownership
from execpool.executor.server.envd import signatures
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.exchange import Exchange
from execpool.protocol import HEADER_EPOCH, HEADER_TOKEN

USER = "user"
_ACCESS_TOKEN = "X-Access-Token"  # noqa: S105 - a header's name


class Access:
    """Checks callers against the claim."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership

    def check(self, exchange: Exchange) -> None:
        """Accept a caller who holds the claim.

        Raises:
            EnvdError: the caller does not.
            Refusal: the claim is over, or a newer one fences this caller.
        """
        if self.is_ours(exchange):
            try:
                self._ownership.authorize(exchange.header(HEADER_TOKEN), requests.epoch(exchange.header(HEADER_EPOCH)))
            except errors.Unauthorized as error:
                raise _unauthorized() from error
        else:
            self._check_token(exchange.header(_ACCESS_TOKEN), _unauthorized())
        _check_user(_named(exchange.header("Authorization")))

    def check_file(self, exchange: Exchange, operation: str) -> None:
        """Accept a caller who holds the claim, or a signed URL.

        Raises:
            EnvdError: neither is so.
            Refusal: as `check`.
        """
        query = exchange.query
        if self.is_ours(exchange):
            self.check(exchange)
        elif exchange.header(_ACCESS_TOKEN):
            refusal = EnvdError(Code.UNAUTHENTICATED, "access token present in header but does not match")
            self._check_token(exchange.header(_ACCESS_TOKEN), refusal)
        elif "signature" not in query:
            raise EnvdError(Code.UNAUTHENTICATED, "missing signature query parameter")
        else:
            self._must_be_claimed(EnvdError(Code.UNAUTHENTICATED, "invalid signature"))
            expiration = query.get("signature_expiration")
            path, user = query.get("path", ""), query.get("username", "")
            expected = signatures.sign(path, operation, user, self._ownership.token, expiration)
            signatures.check(query["signature"], expected, expiration, time.time())
        _check_user(query.get("username", ""))

    @staticmethod
    def is_ours(exchange: Exchange) -> bool:
        """True for a caller of our own, as opposed to a client of E2B's."""
        return bool(exchange.header(HEADER_TOKEN))

    def _check_token(self, token: str, refusal: EnvdError) -> None:
        self._must_be_claimed(refusal)
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._ownership.token.encode()):
            raise refusal

    def _must_be_claimed(self, refusal: EnvdError) -> None:
        if not self._ownership.token:
            raise refusal
        self._ownership.must_be_live()


def _unauthorized() -> EnvdError:
    return EnvdError(
        Code.UNAUTHENTICATED,
        "unauthorized access, please provide a valid access token or method signing if supported",
    )


def _named(authorization: str) -> str:
    """Return the user of an Authorization header; empty when there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[0]
    except (binascii.Error, ValueError) as error:
        raise EnvdError(Code.UNAUTHENTICATED, "invalid authorization header") from error


def _check_user(name: str) -> None:
    if name not in ("", USER):
        shown = name[:64]
        raise EnvdError(
            Code.UNAUTHENTICATED,
            f"error looking up user '{shown}': unknown user {shown}, this executor has only '{USER}'",
        )
