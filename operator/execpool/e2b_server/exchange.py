"""One HTTP request and its answer, as raw ASGI: the data plane streams both ways, and every answer may be tampered with."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs

import orjson
from starlette.types import Receive, Scope, Send

from execpool.e2b_server.errors import InvalidError, RefusedError
from execpool.serving import abort_of

MAX_BODY_BYTES = 1 << 20
_QUEUED_PARTS = 4
_JSON = "application/json"

RawHeaders = list[tuple[bytes, bytes]]


class CallerGoneError(Exception):
    """The caller has closed its connection, or it was broken off."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def raw_headers(self) -> RawHeaders:
        """Return the headers as they are sent, without the body's length."""
        return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self.headers.items()]

    @classmethod
    def json(cls, status: int, body: object, headers: dict[str, str] | None = None) -> "Answer":
        """Return an answer with a JSON body."""
        return cls(status, orjson.dumps(body), {"Content-Type": _JSON, **(headers or {})})

    @classmethod
    def text(cls, status: int, body: str) -> "Answer":
        """Return an answer in plain text."""
        return cls(status, body.encode(), {"Content-Type": "text/plain; charset=utf-8"})

    @classmethod
    def refusal(cls, error: RefusedError) -> "Answer":
        """Return the answer for an error, in the one form that every client reads."""
        return cls.json(
            error.status, {"code": error.status, "message": error.message, **error.more}, dict(error.headers)
        )


class Exchange:
    """A request and the means to answer it."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self.method: str = scope["method"]
        # A client whose base URL ends in a slash asks for //files.
        self.path: str = "/" + scope["path"].lstrip("/")
        self.raw_path: bytes = b"/" + cast("bytes", scope["raw_path"]).lstrip(b"/")
        self.raw_query: bytes = scope["query_string"]
        self.query: dict[str, list[str]] = parse_qs(self.raw_query.decode("latin-1"), keep_blank_values=True)
        self.raw_headers: RawHeaders = list(scope["headers"])
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers
        }
        self.reset: Callable[[], None] = abort_of(scope)
        self._receive = receive
        self._send = send
        self._is_complete = False
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_PARTS)

    @property
    def has_body(self) -> bool:
        """True when the request has a body."""
        return "transfer-encoding" in self.headers or self.headers.get("content-length", "0") != "0"

    async def body(self, limit: int = MAX_BODY_BYTES) -> bytes:
        """Read the whole body.

        Raises:
            InvalidError: it is too long.
            CallerGoneError: it did not come.
        """
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerGoneError
            body += message.get("body", b"")
            if len(body) > limit:
                raise InvalidError(f"the body has more than {limit} bytes")
            if not message.get("more_body", False):
                return bytes(body)

    async def json(self) -> dict[str, Any]:
        """Read a body that is a JSON object; an empty one is an empty object.

        Raises:
            InvalidError: it is not.
            CallerGoneError: it did not come.
        """
        body = await self.body()
        try:
            value = orjson.loads(body) if body else {}
        except orjson.JSONDecodeError as error:
            raise InvalidError("the body is not JSON") from error
        if not isinstance(value, dict):
            raise InvalidError("the body is not a JSON object")
        return value

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, while `cancelled_when_gone` reads it."""
        while (part := await self._parts.get()) is not None:
            yield part

    @contextmanager
    def cancelled_when_gone(self) -> Iterator[None]:
        """Cancel what is inside when the caller goes away.

        Raises:
            CallerGoneError: it did.
        """
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        watch = asyncio.create_task(self._read_until_gone(task))
        try:
            yield
        except asyncio.CancelledError:
            if not watch.done():
                raise
            task.uncancel()
            raise CallerGoneError from None
        finally:
            watch.cancel()

    async def until_gone(self) -> None:
        """Wait until the caller is gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, answer: Answer) -> None:
        """Give a whole answer."""
        headers = [(b"content-length", b"%d" % len(answer.body))] if answer.status != 204 else []
        await self.begin(answer.status, [*answer.raw_headers(), *headers])
        await self.part(answer.body, last=True)

    async def begin(self, status: int, headers: RawHeaders) -> None:
        """Begin an answer that is sent in parts."""
        mine = (b"x-request-id", self.request_id.encode())
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, mine]})

    async def part(self, body: bytes, *, last: bool = False) -> None:
        """Send a part; waits while the caller reads too slowly."""
        self._is_complete |= last
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})

    async def _read_until_gone(self, task: "asyncio.Task[Any]") -> None:
        while (message := await self._receive())["type"] != "http.disconnect":
            if part := message.get("body", b""):
                await self._parts.put(part)
            if not message.get("more_body", False):
                await self._parts.put(None)
        if not self._is_complete:  # a complete answer reads as a caller that is gone
            task.cancel()
