"""Ports that strangers reach: uvicorn, with bounds on what a connection may cost before and after a request.

uvicorn bounds neither the size of a request's head nor the time that it takes, nor what is still to be written when an
answer is complete. Here

- a head has at most MAX_HEAD_BYTES and must be complete within HEAD_SECONDS of its connection or of its first byte;
- what comes after an answer (the rest of its body, blank lines) has no longer than that either;
- a request that comes before the last answer is complete ends its connection: each would wait in memory, unread;
- a connection beyond the limit is closed at once;
- little is buffered for writing, and closing never waits for a peer that does not read;
- a server may refuse whoever calls from its own address (`refuses_itself`): code beside it that no network policy stops.

An application ends a connection through `abort_of(scope)`. Used by every part that serves HTTP, the executor too, so it imports none of them.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 << 10
HEAD_SECONDS = 10.0
MAX_CONNECTIONS = 2048
WRITE_BUFFER_BYTES = 16 << 10
"""More than this waiting to be written makes the next write wait."""

_ABORT = "execpool.abort"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 33\r\nConnection: close\r\n\r\nThe request's head is too large.\n"
)


def abort_of(scope: MutableMapping[str, Any]) -> Callable[[], None]:
    """Return what ends a request's connection at once, dropping what has not been written."""
    return cast("Callable[[], None]", scope["extensions"][_ABORT])


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `max_connections` holds per server; `bounded` makes a class with another limit."""

    max_connections = MAX_CONNECTIONS
    head_seconds = HEAD_SECONDS
    refuses_itself = False
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Bytes of a head that is not complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head, unless there are too many connections."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if len(self.connections) > self.max_connections or (self.refuses_itself and _is_own(transport)):
            transport.abort()
        else:
            self._wait_for_peer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came; while the application has nothing to do, the peer is on the clock."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_answering():
            self._stop_waiting()
        elif self._head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        else:
            self._wait_for_peer()

    def on_message_begin(self) -> None:
        """Begin a request."""
        if self._is_answering():
            raise ValueError("a request before the last answer")
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT: self.transport.abort}  # type: ignore[dict-item]

    def on_headers_complete(self) -> None:
        """Let the application begin."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEAD_BYTES:  # it came in one piece
            self._refuse_head()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of a body."""
        self._head_bytes = 0
        if self._is_answering():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Take in a body's end."""
        self._head_bytes = 0
        if self._is_answering():
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request, or see to it that the connection ends."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._wait_for_peer()  # it may not read what is left

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, but not into the middle of an answer."""
        if self._is_answering():
            self.transport.abort()
        elif not self.transport.is_closing():
            super().send_400_response(msg)
            self._wait_for_peer()

    def timeout_keep_alive_handler(self) -> None:
        """End a connection that has been idle, read or not."""
        self.transport.abort()

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse_head(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
            self._wait_for_peer()

    def _wait_for_peer(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class Port(uvicorn.Server):
    """Serves an application until it is closed, without uvicorn's signal handlers and its ten wake-ups a second.

    Args:
        application: ASGI.
        protocol: of `bounded`.
        host: where to listen, unless `serve` is given a socket.
        port: the same; 0 takes a free one.
        keep_alive_seconds: how long an idle connection is kept.
        close_seconds: how long answers in progress may go on once it is closed.

    Attributes:
        listening: set once it takes connections.
    """

    def __init__(
        self,
        application: Any,
        protocol: type[BoundedProtocol],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        keep_alive_seconds: int,
        close_seconds: int,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                host=host,
                port=port,
                http=protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,  # it is made in the loop that this does without
                proxy_headers=False,
                timeout_keep_alive=keep_alive_seconds,
                timeout_graceful_shutdown=close_seconds,
            )
        )
        self.listening = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def number(self) -> int:
        """The port that it listens on."""
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self._closing.wait()

    def close(self) -> None:
        """Take no more connections, finish the answers in progress, end."""
        self.should_exit = True
        self._closing.set()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Leave the signals to whoever has started it."""
        yield


def bounded(max_connections: int, *, refuses_itself: bool = False) -> type[BoundedProtocol]:
    """Return the protocol of a server with at most so many connections."""
    limits = {"max_connections": max_connections, "refuses_itself": refuses_itself}
    return type("BoundedProtocol", (BoundedProtocol,), limits)


def _is_own(transport: asyncio.BaseTransport) -> bool:
    """True when a connection comes from the address that it goes to, or over loopback."""
    peer, own = (_address(transport.get_extra_info(end)) for end in ("peername", "sockname"))
    return peer == own or peer is None or peer.is_loopback


def _address(end: tuple[str, int] | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if not end:
        return None
    address = ipaddress.ip_address(end[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
