"""Executors in pods: prove, claim, execute, ask, retire.

Any answer with an error status comes before the first event and proves that nothing started; 409 to a run says that it began
before. Idle connections are kept for less long than executors keep them, so that a request is hardly ever written into a
connection that is being closed.
"""

import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar

import aiohttp
import orjson

from execpool.core.claiming import Target
from execpool.core.proof import KeyRing
from execpool.core.sessions import About, Opening, Session, is_session_id
from execpool.gateway.events import LineSplitter
from execpool.gateway.executors import (
    BrokenReplyError,
    BusyError,
    GoneError,
    Holding,
    ImpostorError,
    LostError,
    NotStartedError,
    RejectedError,
    StaleError,
    TakenError,
    UnreachableError,
)
from execpool.gateway.requests import Order, execute_body
from execpool.gateway.wire import bounded, execute_timeout, make_session, payload, translated
from execpool.protocol import (
    CONTROL_PORT,
    DATA_PORT,
    HEADER_EPOCH,
    HEADER_EXECUTION,
    HEADER_TOKEN,
    Challenge,
    ClaimGrant,
    ClaimRequest,
    Expect,
    Proof,
    RetireRequest,
    SessionRequest,
    SessionState,
    State,
    WireError,
    proof_holds,
    secret_hash,
)

CONNECT_SECONDS = 2.0
CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=5, sock_connect=CONNECT_SECONDS)
EXECUTE_TIMEOUT = execute_timeout(CONNECT_SECONDS)
MAX_SLOTS = 1024
ALREADY_STARTED = 409
"""Answer of /execute to an id that has been started, so our request came twice."""

Message = TypeVar("Message", Proof, ClaimGrant, State)


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


class PodClient:
    """Talks to executors in pods over kept-alive connections. Follows no redirects, uses no proxies, keeps no cookies."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._session = make_session()

    async def close(self) -> None:
        await self._session.close()

    async def claim(self, target: Target, principal: str, opening: Opening | None = None) -> ClaimGrant:
        """Make the executor prove itself before it is told anything, then claim it."""
        secret = self._secret(target)
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
        if opening is not None:
            request = SessionRequest(opening.id, opening.seconds, opening.about.wire(), dict(opening.env_vars))
            await self._control(target, "session", request.encode(), _headers(grant))
        return grant

    async def holder(self, target: Target) -> Holding | None:
        state = _decoded(State, await self._control(target, "state", None))
        if state.claim is None:
            return None
        principal = state.claim.get("principal") if isinstance(state.claim, dict) else None
        if not isinstance(principal, str):
            raise BrokenReplyError(f"{target.name} does not say for whom it is claimed")
        return Holding(principal, _session(target, state))

    async def move_end(self, target: Target, grant: ClaimGrant, session: str, seconds: float) -> None:
        await self._control(target, "session", SessionRequest(session, seconds).encode(), _headers(grant))

    async def retire(self, target: Target) -> None:
        await self._control(target, "retire", RetireRequest(self._secret(target), Expect.ANY).encode())

    async def execute(self, target: Target, grant: ClaimGrant, run_id: str, order: Order) -> AsyncGenerator[bytes]:
        headers = {**_headers(grant), HEADER_EXECUTION: run_id}
        url = _url(target, DATA_PORT, "execute")
        with translated(target):
            async with self._session.post(
                url, data=payload(execute_body(order)), headers=headers, timeout=EXECUTE_TIMEOUT, allow_redirects=False
            ) as response:
                if response.status == ALREADY_STARTED:
                    raise LostError(f"{target.name} says that the run began there before")
                _raise_unless_ok(target, response.status)
                yield b""
                splitter = LineSplitter()
                async for chunk in response.content.iter_any():
                    for line in splitter.feed(chunk):
                        yield line

    def _secret(self, target: Target) -> str:
        key = self._keys.named(target.key_id)
        if key is None:
            raise ImpostorError(f"{target.name} was made with key {target.key_id}, which is no longer in force")
        return key.claim_secret(target.pool_uid, target.executor_id)

    async def _control(
        self, target: Target, call: str, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        method = "GET" if body is None else "POST"
        url = _url(target, CONTROL_PORT, call)
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, timeout=CONTROL_TIMEOUT, allow_redirects=False
            ) as response:
                _raise_unless_ok(target, response.status)
                reply = await bounded(response.content)
        except (aiohttp.ClientConnectionError, TimeoutError, OSError) as error:
            raise UnreachableError(f"/{call} of {target.name} was not answered") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise BrokenReplyError(f"{target.name} does not speak HTTP as agreed") from error
        return _json(target, reply)


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


def _headers(grant: ClaimGrant) -> dict[str, str]:
    """Return what a call under a claim carries."""
    return {HEADER_TOKEN: grant.token, HEADER_EPOCH: str(grant.epoch)}


def _session(target: Target, state: State) -> Session | None:
    """Return the session that an executor says it serves."""
    if state.session is None:
        return None
    try:
        said = SessionState.decode(state.session)
    except WireError as error:
        raise BrokenReplyError(str(error)) from error
    about = About.read(said.about)
    if about is None or not isinstance(said.id, str) or not is_session_id(said.id) or not _is_number(said.left_seconds):
        raise BrokenReplyError(f"{target.name} does not say for which session it is held")
    return Session(said.id, time.time() + said.left_seconds, about)


def _is_number(value: object) -> bool:
    return type(value) in (int, float)


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
