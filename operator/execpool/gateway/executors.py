"""The gateway's side of the wire to an executor: prove, claim, execute, ask, retire.

What matters about an error is whether the code may have started, so the tree is drawn by that:

    ExecutorError
     +-- NotStartedError     proven: the execution may go elsewhere
     |    +-- StaleError         401, 412: our token or epoch is not the latest; claim again
     |    +-- TakenError         409 to a claim: it serves another principal, or nobody may have it
     |    +-- GoneError          410, 421: it has been retired, or is not the pod that was watched
     |    +-- RejectedError      400, 404, 413: the request itself is refused; it would be everywhere
     |    +-- BusyError          429, 503: no free slot, or not able to right now
     |    +-- ImpostorError      it could not prove who it is, or does not accept our proof: no code was sent
     |    +-- UnreachableError   no connection
     |    +-- NotSupportedError  NotSupported as the run's end: Monty lacks what the code needs, and nothing has happened
     +-- LostError           the request was written, its end never came; or 409 to a run, which began before: unknown
     |    +-- UnresponsiveError  silence past every limit; it is retired
     +-- BrokenReplyError    it answers in a form that the protocol does not know: unknown

Any other answer with an error status comes before the first event and proves that nothing started. Idle connections are kept
for less long than executors keep them, so that a request is hardly ever written into a connection that is being closed.
"""

import io
import secrets
from collections.abc import AsyncGenerator
from typing import Any, TypeVar

import aiohttp
import orjson

from execpool.core.claiming import Target
from execpool.gateway.events import LineSplitter, MisbehavedError
from execpool.protocol import (
    CONTROL_PORT,
    DATA_PORT,
    HEADER_EPOCH,
    HEADER_EXECUTION,
    HEADER_TOKEN,
    KEEPALIVE_SECONDS,
    Challenge,
    ClaimGrant,
    ClaimRequest,
    Expect,
    Proof,
    RetireRequest,
    State,
    WireError,
    proof_holds,
    secret_hash,
)

CONNECT_SECONDS = 2.0
CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=CONNECT_SECONDS)
SILENCE_SECONDS = 6 * KEEPALIVE_SECONDS
EXECUTE_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
IDLE_CONNECTION_SECONDS = 60.0
MAX_CONTROL_BYTES = 64 << 10
MAX_WHOLE_BYTES = 1 << 20
"""Longer bodies are sent in pieces, so that they do not hold up the loop."""
MAX_SLOTS = 1024
ALREADY_STARTED = 409
"""Answer of /execute to an id that has been started, so our request came twice."""

Message = TypeVar("Message", Proof, ClaimGrant, State)


class ExecutorError(Exception):
    """Anything that kept an executor from doing what it was asked to."""


class NotStartedError(ExecutorError):
    """No code has started because of this request."""


class StaleError(NotStartedError):
    """Our token or epoch is not the latest."""


class TakenError(NotStartedError):
    """Another principal holds it."""


class GoneError(NotStartedError):
    """It takes no more work, or it is another pod."""


class RejectedError(NotStartedError):
    """It does not take such a request."""


class BusyError(NotStartedError):
    """It cannot take this now."""


class ImpostorError(NotStartedError):
    """It is not the executor that the operator made, or it was made with another key."""


class UnreachableError(NotStartedError):
    """No connection could be made."""


class NotSupportedError(NotStartedError):
    """The runtime met what it lacks before anything had happened."""


class LostError(ExecutorError):
    """The request was written and its end never came."""


class UnresponsiveError(LostError):
    """Nothing came for longer than any limit allows."""


class BrokenReplyError(ExecutorError):
    """Its reply breaks the protocol."""


_BY_STATUS: dict[int, type[NotStartedError]] = {
    400: RejectedError,
    401: StaleError,
    403: ImpostorError,
    404: RejectedError,
    409: TakenError,
    410: GoneError,
    412: StaleError,
    413: RejectedError,
    421: GoneError,
}


class ExecutorClient:
    """Talks to executors over kept-alive connections. Follows no redirects, uses no proxies, keeps no cookies."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={
                "Content-Type": "application/json",
                "User-Agent": "execpool-gateway",
                "Accept-Encoding": "identity",
            },
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def claim(self, target: Target, secret: str, principal: str) -> ClaimGrant:
        """Make the executor prove itself, then claim it for a principal, or claim it again.

        Raises:
            ExecutorError: of the kinds above; nothing was claimed then, as far as we know.
        """
        nonce = secrets.token_hex(16)
        challenged = await self._control(target, "challenge", Challenge(nonce, target.uid).encode())
        proof = _decoded(Proof, challenged)
        hashed = secret_hash(secret)
        # An id that is not a string, or a proof outside ASCII, would raise in the comparison.
        answered = isinstance(proof.proof, str) and proof.proof.isascii() and proof.executor_id == target.executor_id
        if not answered or not proof_holds(proof.proof, hashed, nonce, target.uid, target.executor_id):
            raise ImpostorError(f"{target.name} did not prove that it is the executor we watch")
        grant = _decoded(ClaimGrant, await self._control(target, "claim", ClaimRequest(secret, principal).encode()))
        if not _is_sound(grant):
            raise BrokenReplyError(f"{target.name} answered /claim with fields of wrong types")
        return grant

    async def state(self, target: Target) -> State:
        """Ask an executor what it says of itself."""
        return _decoded(State, await self._control(target, "state", None))

    async def holder(self, target: Target) -> str | None:
        """Return the principal that an executor says it serves; None while it is warm."""
        state = await self.state(target)
        if state.claim is None:
            return None
        principal = state.claim.get("principal") if isinstance(state.claim, dict) else None
        if not isinstance(principal, str):
            raise BrokenReplyError(f"{target.name} does not say for whom it is claimed")
        return principal

    async def retire(self, target: Target, secret: str, expect: Expect) -> None:
        """Tell an executor to take no further work and exit."""
        await self._control(target, "retire", RetireRequest(secret, expect).encode())

    async def execute(self, target: Target, grant: ClaimGrant, execution: str, body: bytes) -> AsyncGenerator[bytes]:
        """Run code: yield an empty line once the executor has taken it, then its lines, unread.

        Raises:
            NotStartedError: before the first line, when it is proven that nothing started.
            LostError, BrokenReplyError: when what became of it is unknown.
        """
        headers = {HEADER_TOKEN: grant.token, HEADER_EPOCH: str(grant.epoch), HEADER_EXECUTION: execution}
        url = _url(target, DATA_PORT, "execute")
        data = body if len(body) <= MAX_WHOLE_BYTES else io.BytesIO(body)
        try:
            async with self._session.post(
                url, data=data, headers=headers, timeout=EXECUTE_TIMEOUT, allow_redirects=False
            ) as response:
                if response.status == ALREADY_STARTED:
                    raise LostError(f"{target.name} says that the run began there before")
                _raise_unless_ok(target, response.status)
                yield b""
                splitter = LineSplitter()
                async for chunk in response.content.iter_any():
                    for line in splitter.feed(chunk):
                        yield line
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise UnreachableError(f"no connection to {target.name}") from error
        except aiohttp.SocketTimeoutError as error:
            raise UnresponsiveError(f"{target.name} has been silent for {SILENCE_SECONDS:.0f} s") from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
            raise LostError(f"the connection to {target.name} was lost") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise BrokenReplyError(f"{target.name} does not speak HTTP as agreed") from error
        except MisbehavedError as error:
            raise BrokenReplyError(f"{target.name} sent {error}") from error

    async def _control(self, target: Target, call: str, body: bytes | None) -> dict[str, Any]:
        method = "GET" if body is None else "POST"
        url = _url(target, CONTROL_PORT, call)
        try:
            async with self._session.request(
                method, url, data=body, timeout=CONTROL_TIMEOUT, allow_redirects=False
            ) as response:
                _raise_unless_ok(target, response.status)
                reply = await _bounded(response.content)
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            raise UnreachableError(f"/{call} of {target.name} was not answered") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise BrokenReplyError(f"{target.name} does not speak HTTP as agreed") from error
        return _json(target, reply)


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    reply = b""
    async for chunk in content.iter_any():
        reply += chunk
        if len(reply) > MAX_CONTROL_BYTES:
            raise ValueError("reply too large")
    return reply


def _json(target: Target, reply: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(reply) if reply else {}
    except orjson.JSONDecodeError as error:
        raise BrokenReplyError(f"{target.name} answered with something that is not JSON") from error
    if not isinstance(value, dict):
        raise BrokenReplyError(f"{target.name} answered with something that is not a JSON object")
    return value


def _decoded(kind: type[Message], reply: dict[str, Any]) -> Message:
    try:
        return kind.decode(reply)
    except WireError as error:
        raise BrokenReplyError(str(error)) from error


def _is_sound(grant: ClaimGrant) -> bool:
    numbers = type(grant.epoch) is int and type(grant.slots) is int and 0 < grant.slots <= MAX_SLOTS
    # The token is sent back as a header's value.
    return numbers and isinstance(grant.token, str) and grant.token.isascii() and grant.token.isprintable()


def _raise_unless_ok(target: Target, status: int) -> None:
    if status != 200:
        raise _BY_STATUS.get(status, BusyError)(f"{target.name} answered {status}")


def _url(target: Target, port: int, call: str) -> str:
    host = f"[{target.address}]" if ":" in target.address else target.address
    return f"http://{host}:{port}/{call}"
