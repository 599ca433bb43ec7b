"""The data plane: passes calls on to a sandbox's executor, streaming both ways, and says what E2B's edge says.

A caller that goes away breaks the connection to the executor, which then interrupts what ran for it. A sandbox that ends
breaks the callers' connections in the middle of whatever was being sent.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
from yarl import URL

from execpool.e2b_server import signatures
from execpool.e2b_server.errors import ForbiddenError, GoneError, InvalidError, PortClosedError, UnauthorizedError
from execpool.e2b_server.exchange import Exchange, RawHeaders
from execpool.e2b_server.routes import Call, Inside
from execpool.emulator.holding import Held
from execpool.emulator.ledger import Entry, Event
from execpool.emulator.sandboxes import Sandboxes
from execpool.protocol import (
    DATA_PORT,
    ENVD_PORT,
    HEADER_EPOCH,
    HEADER_EXECUTION,
    HEADER_TOKEN,
    MAX_TIMEOUT_SECONDS,
)

CONNECT_SECONDS = 5.0
_MAX_EXECUTE_BYTES = 3 << 19
_E2B_FIELDS = ("code", "context_id", "language", "env_vars")
_OF_ONE_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host")
)
_OURS = frozenset(name.lower().encode() for name in (HEADER_TOKEN, HEADER_EPOCH, HEADER_EXECUTION))
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

Sink = Callable[[int, RawHeaders, AsyncIterator[bytes]], Any]
"""Takes an answer from a sandbox: status, headers, and the body as it comes."""


class BrokenOffError(Exception):
    """The connection to the sandbox ended in the middle of an answer."""


class DataPlane:
    """Calls to sandboxes."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_NOT_ADDED,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    def find_signer(self, exchange: Exchange) -> Inside:
        """Return the sandbox whose token signed a URL.

        Raises:
            UnauthorizedError: none did.
        """
        for sandbox_id, token in self._sandboxes.tokens().items():
            if signatures.is_signed_by(token, exchange.method, exchange.query):
                return Inside(sandbox_id, ENVD_PORT)
        raise UnauthorizedError("invalid signature")

    async def relay(self, call: Call, target: Inside, exchange: Exchange, sink: Sink) -> None:
        """Pass a call on, and its answer to `sink`.

        Raises:
            RefusedError: it does not reach a sandbox.
            BrokenOffError: the sandbox ended while it answered.
            CallerGoneError: the caller left.
        """
        held = await self._sandboxes.reach(target.sandbox_id)
        self._check(target, held, exchange)
        data = await self._request_body(call, target, exchange)
        held.relays.add(exchange.reset)
        try:
            with exchange.cancelled_when_gone():
                await self._pass_on(target, held, exchange, data, sink)
        finally:
            held.relays.discard(exchange.reset)

    def _check(self, target: Inside, held: Held, exchange: Exchange) -> None:
        if target.port not in (DATA_PORT, ENVD_PORT):
            raise PortClosedError.of(target.sandbox_id, target.port)
        given = exchange.headers.get("e2b-traffic-access-token", "")
        wanted = held.traffic_token
        if target.port != ENVD_PORT and wanted and not secrets.compare_digest(given.encode(), wanted.encode()):
            word = "invalid" if given else "missing"
            raise ForbiddenError(f"{word} traffic access token", sandboxId=target.sandbox_id)

    async def _request_body(self, call: Call, target: Inside, exchange: Exchange) -> bytes | None:
        """Count an execution, and return its body; None for a body that is streamed."""
        if call is not Call.EXECUTE or exchange.method != "POST":
            return None
        now = self._sandboxes.now()
        self._sandboxes.account.count_execution(now)
        body = _execution(await exchange.body(_MAX_EXECUTE_BYTES))
        entry = Entry(now, Event.EXECUTION_STARTED, target.sandbox_id, call.value, exchange.request_id)
        self._sandboxes.ledger.write(entry)
        return body

    async def _pass_on(self, target: Inside, held: Held, exchange: Exchange, data: bytes | None, sink: Sink) -> None:
        streamed = exchange.parts() if data is None and exchange.has_body else None
        query = f"?{exchange.raw_query.decode('latin-1')}" if exchange.raw_query else ""
        url = f"http://{held.executor.address}:{target.port}{exchange.raw_path.decode('latin-1')}{query}"
        try:
            async with self._session.request(
                exchange.method,
                URL(url, encoded=True),
                headers=_headers(exchange, held, target.port, whole=data is not None),
                data=data if streamed is None else streamed,
                allow_redirects=False,
            ) as response:
                await sink(response.status, _kept(response.raw_headers), _pieces(response))
        except aiohttp.ClientConnectionError as error:
            raise GoneError.of(target.sandbox_id) from error


async def _pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except (aiohttp.ClientError, ConnectionError) as error:
        raise BrokenOffError from error


def _execution(body: bytes) -> bytes:
    """Return an execution's body with what clients of E2B say, and the longest time that there is: they set none."""
    try:
        wire = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidError("the body is not JSON") from error
    if not isinstance(wire, dict):
        raise InvalidError("the body is not a JSON object")
    asked = {name: wire[name] for name in _E2B_FIELDS if name in wire}
    return orjson.dumps({**asked, "timeout_seconds": MAX_TIMEOUT_SECONDS})


def _headers(exchange: Exchange, held: Held, port: int, *, whole: bool) -> list[tuple[str, str]]:
    dropped = _OF_ONE_HOP | _OURS | ({b"content-length"} if whole else set())
    headers = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.raw_headers if name not in dropped
    ]
    if port == DATA_PORT:
        headers += [
            (HEADER_TOKEN, held.grant.token),
            (HEADER_EPOCH, str(held.grant.epoch)),
            (HEADER_EXECUTION, exchange.request_id),
        ]
    return headers


def _kept(headers: tuple[tuple[bytes, bytes], ...]) -> RawHeaders:
    return [(name.lower(), value) for name, value in headers if name.lower() not in _OF_ONE_HOP]
