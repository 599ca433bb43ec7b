"""A port: uvicorn with bounded connections, without its signal handlers and its ten wake-ups a second."""

import asyncio
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from execpool.serving import bounded

KEEP_ALIVE_SECONDS = 640
"""As E2B's, above the 300 s for which clients keep an idle connection."""


class Listener(uvicorn.Server):
    """Serves until it is closed."""

    def __init__(self, app: ASGIApp, host: str, port: int, max_connections: int) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=bounded(max_connections),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,
            )
        )
        self.listening = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def bound_port(self) -> int:
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
        """Leave the signals to `main`."""
        yield
