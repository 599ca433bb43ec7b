"""As much of HTTP as two small ASGI applications need: bounded bodies, JSON answers, a table of routes.

No framework: a streamed answer costs a third of what a `StreamingResponse` does, and there are eight paths.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

from execpool.executor.server import errors
from execpool.serving import abort_of

BODY_SECONDS = 10.0
"""Longest time that a body may take."""
SEND_SECONDS = 10.0
"""Longest time that a client may take to read what has been sent, before its connection is ended."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[["Request"], Awaitable[None]]

_JSON = [(b"content-type", b"application/json")]
_TEXT = [(b"content-type", b"text/plain; charset=utf-8")]
_NDJSON = [(b"content-type", b"application/x-ndjson")]


class ClientGone(Exception):  # noqa: N818 - says what it is
    """The client went away before its request was complete; there is nobody to answer."""


class Request:
    """One request and the means to answer it."""

    send_seconds = SEND_SECONDS

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._headers = scope["headers"]
        self.path: str = scope["path"]
        self._receive = receive
        self._to_client = send
        self._abort = abort_of(scope)
        self.answering = False
        """True once the answer has begun, so that no other can be given."""

    def header(self, name: str) -> str:
        """Return a header's value; empty when it is missing."""
        wanted = name.lower().encode()
        for key, value in self._headers:
            if key == wanted:
                text: str = value.decode("latin-1")
                return text
        return ""

    async def body(self, limit: int) -> bytes:
        """Read the whole body.

        Raises:
            TooLarge: it is longer than `limit`.
            TooSlow: it did not come in time.
            ClientGone: it did not come.
        """
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read(limit)
        except TimeoutError:
            raise errors.TooSlow("TooSlow", f"the body did not come within {BODY_SECONDS:g} s") from None

    async def _read(self, limit: int) -> bytes:
        chunks = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunks += message.get("body", b"")
            if len(chunks) > limit:
                raise errors.TooLarge("TooLarge", f"the body has more than {limit} bytes")
            if not message.get("more_body", False):
                return bytes(chunks)

    async def disconnected(self) -> None:
        """Wait until the client is gone, or has its whole answer."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]] = _JSON) -> None:
        """Give the whole answer."""
        await self._begin(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._send({"type": "http.response.body", "body": body})

    async def answer_text(self, status: int, text: str) -> None:
        """Give an answer in plain text."""
        await self.answer(status, text.encode(), _TEXT)

    async def refuse(self, refusal: errors.Refusal) -> None:
        """Answer with a reason and a sentence."""
        if refusal.in_plain_text:
            await self.answer_text(refusal.status, refusal.message)
            return
        await self.answer(refusal.status, orjson.dumps({"reason": refusal.reason, "message": refusal.message}))

    async def begin_stream(self) -> None:
        """Begin an answer of NDJSON."""
        await self._begin(200, _NDJSON)

    async def send(self, chunk: bytes, *, last: bool = False) -> None:
        """Send a piece of a streamed answer; waits while the client reads too slowly."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not last})

    async def _send(self, message: Message) -> None:
        """Pass a message on; a client that does not read for long loses its connection.

        Raises:
            ClientGone: it has.
        """
        try:
            async with asyncio.timeout(self.send_seconds):
                await self._to_client(message)
        except TimeoutError:
            self._abort()
            raise ClientGone from None

    async def _begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.answering = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def find(routes: Mapping[tuple[str, str], Handler], scope: Scope) -> Handler:
    """Return the handler of a request; `*` in a route stands for any second part of a path.

    Raises:
        NotFound: there is none.
    """
    method, path = scope["method"], scope["path"]
    first, *rest = path[1:].split("/")
    named = "/".join(["", first, "*", *rest[1:]])
    handler = routes.get((method, path)) or (routes.get((method, named)) if rest and rest[0] else None)
    if handler is None:
        raise errors.NotFound("NotFound", "there is no such path here")
    return handler
