"""E2B's REST surface, as much of it as the operator uses, over one aiohttp session.

Answers come from another company's service over the internet: bounded in size and time, typed or discarded, and nothing
in them becomes part of an address unless it has the form of an id. No redirects: an account's key goes to the address that
was allowed, and nowhere else. No retries: whether a call may be made again is for the slot protocol to say.

aiohttp rather than the `e2b` package (docs/decisions.md, 24).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from yarl import URL

from execpool.core.slots import ASK_TIMEOUT_SECONDS
from execpool.kube.errors import FencedError
from execpool.providers.e2b.errors import E2BError, GoneError, UnknownError, UnsentError, answered
from execpool.providers.e2b.wire import Created, Listed, read_created, read_listed

CALL_TIMEOUT_SECONDS = 10.0
CONNECT_TIMEOUT_SECONDS = 5.0
KEEPALIVE_SECONDS = 4.0
"""Short, since a request on a connection that the other side has just closed is one whose outcome is unknown."""
PAGE = 100
MOST_PAGES = 200
LIST_BYTES = 2 << 20
"""Of one page; an entry has about 500 bytes."""
ANSWER_BYTES = 64 << 10
WORDS = 200
"""Characters of E2B's own message that are passed on."""


class E2BApi(Protocol):
    """What the operator asks of E2B. Every method raises E2BError, and FencedError when effects are not allowed."""

    async def create(
        self, template: str, seconds: int, tag: Mapping[str, str], key: str, on_sent: Callable[[], None]
    ) -> Created:
        """Ask for a sandbox that lives so long and carries a tag; `key` is an Idempotency-Key, which E2B may ignore.

        `on_sent` is called when the request leaves, which is after a connection has been made for it.
        """

    async def connect(self, sandbox_id: str, seconds: int) -> Created:
        """Return the tokens of a running sandbox; its deadline may move on, never back."""

    async def list(self, tag: Mapping[str, str]) -> tuple[Listed, ...]:
        """Return all sandboxes that carry a tag, running and paused ones, of all pages."""

    async def extend(self, sandbox_id: str, seconds: int) -> None:
        """Set a deadline to so many seconds from now."""

    async def kill(self, sandbox_id: str) -> bool:
        """End a sandbox; False when E2B says that there is none."""

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds until a call is given up."""

    connect: float = CONNECT_TIMEOUT_SECONDS
    create: float = ASK_TIMEOUT_SECONDS
    others: float = CALL_TIMEOUT_SECONDS


class E2BClient:
    """The real one. `may_act` is the fence: a call to E2B is an effect like a write to the API server."""

    def __init__(
        self,
        api_url: str,
        api_key: str,
        *,
        may_act: Callable[[], bool] = lambda: True,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self._api_url = api_url.rstrip("/")
        self._api_key = api_key
        self._may_act = may_act
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"E2BClient({self._api_url})"

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def create(
        self,
        template: str,
        seconds: int,
        tag: Mapping[str, str],
        key: str,
        on_sent: Callable[[], None] = lambda: None,
    ) -> Created:
        body = {"templateID": template, "timeout": seconds, "metadata": dict(tag), "envVars": {}}
        headers = {"Idempotency-Key": key}
        seconds_to_wait = self._timeouts.create
        payload = await self._effect(
            "POST", "/v2/sandboxes", body, wanted=(201,), headers=headers, seconds=seconds_to_wait, on_sent=on_sent
        )
        return read_created(payload)

    async def connect(self, sandbox_id: str, seconds: int) -> Created:
        path = f"/v2/sandboxes/{sandbox_id}/connect"
        return read_created(await self._effect("POST", path, {"timeout": seconds}, wanted=(200, 201)))

    async def list(self, tag: Mapping[str, str]) -> tuple[Listed, ...]:
        query = {"state": "running,paused", "limit": str(PAGE)} | ({"metadata": _packed(tag)} if tag else {})
        found: dict[str, Listed] = {}
        seen: set[str] = set()
        for _ in range(MOST_PAGES):
            headers, payload = await self._page(query)
            found |= {one.sandbox_id: one for one in read_listed(payload)}
            token = headers.get("X-Next-Token", "")
            if not token:
                return tuple(found.values())
            if token in seen:
                break
            seen.add(token)
            query = {**query, "nextToken": token}
        raise UnknownError(f"a list of sandboxes has no end: {len(seen)} pages, {len(found)} sandboxes")

    async def extend(self, sandbox_id: str, seconds: int) -> None:
        await self._effect("POST", f"/sandboxes/{sandbox_id}/timeout", {"timeout": seconds}, wanted=(204,))

    async def kill(self, sandbox_id: str) -> bool:
        try:
            await self._effect("DELETE", f"/sandboxes/{sandbox_id}", None, wanted=(204,))
        except GoneError:
            return False
        return True

    async def _effect(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        *,
        wanted: tuple[int, ...],
        headers: Mapping[str, str] | None = None,
        seconds: float | None = None,
        on_sent: Callable[[], None] | None = None,
    ) -> bytes:
        if not self._may_act():
            raise FencedError(f"{method} {path}: the Lease has run out")
        url = URL(self._api_url + path, encoded=True)
        data = None if body is None else orjson.dumps(body)
        typed = {"Content-Type": "application/json"} if body is not None else {}
        wait = seconds or self._timeouts.others
        status, answer, payload = await self._send(
            method, url, data, {**typed, **(headers or {})}, wait, most=ANSWER_BYTES, on_sent=on_sent
        )
        if status not in wanted:
            raise _unwanted(status, answer, payload)
        return payload

    async def _page(self, query: Mapping[str, str]) -> tuple[Mapping[str, str], bytes]:
        # The value of `metadata` is encoded already, and is encoded once more, as E2B's own clients do.
        url = URL(f"{self._api_url}/v2/sandboxes?{urlencode(query)}", encoded=True)
        status, headers, payload = await self._send("GET", url, None, {}, self._timeouts.others, most=LIST_BYTES)
        if status != 200:
            raise _unwanted(status, headers, payload)
        return headers, payload

    async def _send(
        self,
        method: str,
        url: URL,
        data: bytes | None,
        headers: Mapping[str, str],
        seconds: float,
        *,
        most: int,
        on_sent: Callable[[], None] | None = None,
    ) -> tuple[int, Mapping[str, str], bytes]:
        timeout = aiohttp.ClientTimeout(total=seconds, connect=self._timeouts.connect)
        try:
            session = self._ready_session()
            async with session.request(
                method,
                url,
                data=data,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=on_sent,
            ) as response:
                payload = await _bounded(response, most)
                return response.status, response.headers, payload
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise UnsentError(f"no connection to {url.origin()}: {type(error).__name__}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, ConnectionError, ValueError) as error:
            raise UnknownError(f"{method} {url.path}: no answer: {type(error).__name__}") from error

    def _ready_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=32, keepalive_timeout=KEEPALIVE_SECONDS),
                headers={"X-API-Key": self._api_key, "Accept": "application/json", "User-Agent": "execpool"},
                # A proxy variable meant for something else must not carry the account's key to a proxy.
                trust_env=False,
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding",),
                trace_configs=[_telling_of_departures()],
            )
        return self._session


def _telling_of_departures() -> aiohttp.TraceConfig:
    """Return what calls a request's `on_sent` when its head has been written."""
    trace = aiohttp.TraceConfig()

    async def tell(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    trace.on_request_headers_sent.append(tell)
    return trace


async def _bounded(response: aiohttp.ClientResponse, most: int) -> bytes:
    payload = bytearray()
    async for chunk in response.content.iter_any():
        payload += chunk
        if len(payload) > most:
            response.close()
            raise UnknownError(f"an answer of more than {most} bytes")
    return bytes(payload)


def _unwanted(status: int, headers: Mapping[str, str], payload: bytes) -> E2BError:
    return answered(status, _words(payload), headers.get("Retry-After"))


def _words(payload: bytes) -> str:
    """Return E2B's own words: printable, cut short."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        document = None
    text = str(document.get("message", "")) if isinstance(document, dict) else payload.decode(errors="replace")
    return "".join(letter if letter.isprintable() else " " for letter in text[:WORDS]) or "no message"


def _packed(tag: Mapping[str, str]) -> str:
    return urlencode({quote(key, safe=""): quote(value, safe="") for key, value in tag.items()})
