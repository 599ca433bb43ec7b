"""One HTTP request and its answer, with what envd needs beyond the other ports: a query, a body as it comes, streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property
from urllib.parse import parse_qsl

import orjson

from execpool.executor.agent_wire import Code
from execpool.executor.server.envd import codec
from execpool.executor.server.envd.errors import EnvdError, invalid
from execpool.executor.server.http import ClientGone, Receive, Request, Scope, Send

Headers = list[tuple[bytes, bytes]]

KEEPALIVE_SECONDS = 90.0
"""Silence before a keepalive, unless the client asks for another."""
MESSAGE_SECONDS = 10.0
"""Longest time that a message may take to come."""
_LATE = f"the message did not come within {MESSAGE_SECONDS:g} s"
UNREAD_SECONDS = 60.0
"""Longest time that a piece of an answer waits for a client to read. It may handle what it has read meanwhile."""
PIECE_BYTES = 64 * 1024
"""Most of an answer that is passed on at once; no more than this is ever left unread behind a complete one."""

_JSON = [(b"content-type", b"application/json")]
_CONNECT = [(b"content-type", b"application/connect+json")]


@asynccontextmanager
async def deadline(seconds: float | None, sentence: str = "context deadline exceeded") -> AsyncIterator[None]:
    """End what is inside after a time; None is for ever.

    Raises:
        EnvdError: the time was over.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise EnvdError(Code.DEADLINE_EXCEEDED, sentence) from error


class Exchange(Request):
    """A request; exactly one answer is given."""

    send_seconds = UNREAD_SECONDS

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self.method: str = scope["method"]
        # A client whose base URL ends in a slash asks for //files.
        self.path: str = "/" + scope["path"].lstrip("/")
        self._raw_query: bytes = scope["query_string"]
        self._header_list: Headers = scope["headers"]
        self._has_come = asyncio.Event()
        """Set when nothing of the request is to come any more: then whatever comes is the client's going."""
        if self.method == "GET":
            self._has_come.set()

    @cached_property
    def query(self) -> dict[str, str]:
        """The query; of a name that comes twice the last.

        Raises:
            EnvdError: there is too much of it.
        """
        raw = self._raw_query.decode("latin-1")
        try:
            return dict(parse_qsl(raw, keep_blank_values=True, max_num_fields=32) if raw else ())
        except ValueError as error:
            raise invalid("the query has more than 32 fields") from error

    @asynccontextmanager
    async def while_client_waits(self) -> AsyncIterator[None]:
        """End what is inside once the request has come and its client goes.

        Raises:
            ClientGone: that was so.
        """
        try:
            async with asyncio.timeout(None) as waiting:
                watch = asyncio.create_task(self._end_when_gone(waiting))
                try:
                    yield
                finally:
                    watch.cancel()
        except TimeoutError:
            if not waiting.expired():
                raise
            raise ClientGone from None

    async def _end_when_gone(self, waiting: asyncio.Timeout) -> None:
        await self._has_come.wait()
        await self.disconnected()
        waiting.reschedule(asyncio.get_running_loop().time())

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

    async def chunks(self, limit: int, seconds: float | None = None) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            EnvdError: it is longer than `limit`, or nothing of it came for so many seconds.
            ClientGone: it did not come.
        """
        size = 0
        more = True
        while more:
            async with deadline(seconds, f"nothing of the body came for {seconds} s"):
                message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise EnvdError(Code.TOO_LARGE, f"the body has more than {limit} bytes")
            more = message.get("more_body", False)
            if not more:
                self._has_come.set()
            if chunk:
                yield chunk

    async def message(self) -> codec.Message:
        """Read the one message of a unary call."""
        body = bytearray()
        async with deadline(MESSAGE_SECONDS, _LATE):
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
        envelopes = codec.Envelopes()
        only: codec.Message | None = None
        async with deadline(MESSAGE_SECONDS, _LATE):
            async for chunk in self.chunks(codec.MAX_ENVELOPE_BYTES):
                for message in envelopes.feed(chunk):
                    if only is not None:
                        raise invalid("more than one message came where one is due")
                    only = message
        envelopes.finish()
        if only is None:
            raise invalid("no message came where one is due")
        return only

    async def answer(self, status: int, body: bytes, headers: Headers = _JSON) -> None:
        """Give the whole answer, in pieces that each must be read in time."""
        await self._begin(status, [*headers, (b"content-length", str(len(body)).encode())])
        for at in range(0, max(len(body), 1), PIECE_BYTES):
            await self.send(body[at : at + PIECE_BYTES], last=at + PIECE_BYTES >= len(body))

    async def answer_json(self, body: object, status: int = 200, headers: Headers | None = None) -> None:
        """Give the whole answer as JSON."""
        await self.answer(status, orjson.dumps(body), [*_JSON, *(headers or [])])

    async def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer that is sent in pieces."""
        await self._begin(status, headers)

    async def begin_messages(self) -> None:
        """Begin a stream of messages."""
        await self._begin(200, _CONNECT)
