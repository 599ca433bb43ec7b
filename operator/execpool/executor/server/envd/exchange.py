"""One HTTP request and its answer, with what envd needs beyond the other ports: a query, a body as it comes, streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import orjson

from execpool.executor.agent_wire import Code
from execpool.executor.server.envd import codec
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.http import ClientGone, Receive, Request, Scope, Send

Headers = list[tuple[bytes, bytes]]

KEEPALIVE_SECONDS = 90.0
"""Silence before a keepalive, unless the client asks for another."""

_JSON = [(b"content-type", b"application/json")]
_CONNECT = [(b"content-type", b"application/connect+json")]


@asynccontextmanager
async def deadline(seconds: float | None) -> AsyncIterator[None]:
    """End what is inside after a time; None is for ever.

    Raises:
        EnvdError: the time was over.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise EnvdError(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from error


class Exchange(Request):
    """A request; exactly one answer is given."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.method: str = scope["method"]
        # A client whose base URL ends in a slash asks for //files.
        self.path: str = "/" + scope["path"].lstrip("/")
        raw = scope["query_string"].decode("latin-1")
        self.query = dict(parse_qsl(raw, keep_blank_values=True, max_num_fields=32) if raw else ())
        self._header_list: Headers = scope["headers"]

    def headers_with(self, prefix: str) -> dict[str, str]:
        """Return the headers whose names begin so, without the prefix."""
        wanted = prefix.lower().encode()
        return {
            name[len(wanted) :].decode("latin-1"): value.decode("latin-1")
            for name, value in self._header_list
            if name.startswith(wanted)
        }

    def milliseconds(self, name: str) -> float | None:
        """Return a header that is a whole number of milliseconds, in seconds; None when it is missing or 0."""
        text = self.header(name)
        if not text:
            return None
        if not (text.isascii() and text.isdigit()) or len(text) > 10:
            raise EnvdError(Code.INVALID_ARGUMENT, f"{name} is not a whole number of at most ten digits")
        return int(text) / 1000 or None

    def keepalive_seconds(self) -> float:
        """Return the silence after which this client wants a sign of life."""
        text = self.header("Keepalive-Ping-Interval")
        return max(float(text), 1.0) if text.isascii() and text.isdigit() and len(text) < 6 else KEEPALIVE_SECONDS

    async def chunks(self, limit: int) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            EnvdError: it is longer than `limit`.
            ClientGone: it did not come.
        """
        size = 0
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise EnvdError(Code.TOO_LARGE, f"the body has more than {limit} bytes")
            more = message.get("more_body", False)
            if chunk:
                yield chunk

    async def message(self) -> codec.Message:
        """Read the one message of a unary call."""
        body = bytearray()
        async for chunk in self.chunks(codec.MAX_MESSAGE_BYTES):
            body += chunk
        return codec.parse(bytes(body))

    async def messages(self) -> AsyncIterator[codec.Message]:
        """Yield the messages of a stream."""
        envelopes = codec.Envelopes()
        async for chunk in self.chunks(1 << 50):
            for message in envelopes.feed(chunk):
                yield message
        envelopes.finish()

    async def only_message(self) -> codec.Message:
        """Read the one message of a stream that the server will answer at length."""
        found = [message async for message in self.messages()]
        if len(found) != 1:
            raise EnvdError(Code.INVALID_ARGUMENT, f"{len(found)} messages came where one is due")
        return found[0]

    async def answer_json(self, body: object, status: int = 200, headers: Headers | None = None) -> None:
        """Give the whole answer as JSON."""
        await self.answer(status, orjson.dumps(body), [*_JSON, *(headers or [])])

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer that is sent in pieces."""
        await self._begin(status, headers)

    async def begin_messages(self) -> None:
        """Begin a stream of messages."""
        await self._begin(200, _CONNECT)
