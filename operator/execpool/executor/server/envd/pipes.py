"""Pipes and terminals between the server and what the agent starts: made here, one end handed over.

The server's ends never leave it, so nothing in the runner can make them wait; a terminal's master stays here for the
same reason, and because user code may not open a terminal by its path.
"""

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from functools import partial

CHUNK = 32 * 1024
_ANYBODY = 0o666
"""The runner has another uid, and a script's `> /dev/stderr` opens the pipe again. Who has no descriptor finds no path."""


class End:
    """One end that is ours: non-blocking, closed once."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._reading = False

    @property
    def open(self) -> bool:
        """True until it is closed."""
        return self._descriptor >= 0

    def on_readable(self, callback: Callable[[], None] | None) -> None:
        """Call back while there is something to read; None stops that."""
        wanted = callback is not None and self.open
        if wanted == self._reading:
            return
        self._reading = wanted
        loop = asyncio.get_running_loop()
        if callback is not None and wanted:
            loop.add_reader(self._descriptor, callback)
        else:
            loop.remove_reader(self._descriptor)

    def read(self, most: int = CHUNK) -> bytes | None:
        """Return what is there; None when that is nothing yet, empty at the end."""
        if not self.open:
            return b""
        try:
            return os.read(self._descriptor, most)
        except BlockingIOError:
            return None
        except OSError:
            return b""  # a terminal that nobody has open any more

    async def write(self, data: bytes) -> None:
        """Write all of it, as fast as it is taken.

        Raises:
            OSError: the other end is closed, or ours is.
        """
        view = memoryview(data)
        while view:
            if not self.open:
                raise BrokenPipeError(32, "Broken pipe")
            try:
                view = view[os.write(self._descriptor, view[:CHUNK]) :]
            except BlockingIOError:
                await self._writable()

    async def chunk(self) -> bytes:
        """Wait for something to read and return it; empty at the end."""
        while True:
            data = self.read()
            if data is not None:
                return data
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.on_readable(partial(settle, ready))
            try:
                await ready
            finally:
                self.on_readable(None)

    def close(self) -> None:
        """Close it."""
        if self.open:
            self.on_readable(None)
            os.close(self._descriptor)
            self._descriptor = -1

    def resize(self, columns: int, rows: int) -> None:
        """Give a terminal another size."""
        size = struct.pack("HHHH", min(rows, 0xFFFF), min(columns, 0xFFFF), 0, 0)
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, size)

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        twin = os.dup(self._descriptor)  # a reader may be registered for the other
        loop.add_writer(twin, settle, ready)
        try:
            async with asyncio.timeout(1.0):  # it may be closed meanwhile, or resized to nothing
                await ready
        except TimeoutError:
            pass
        finally:
            loop.remove_writer(twin)
            os.close(twin)


def pipe_in() -> tuple[End, int]:
    """Return (our end to write to, theirs to read from)."""
    theirs, ours = os.pipe()
    os.fchmod(theirs, _ANYBODY)
    return End(ours), theirs


def pipe_out() -> tuple[End, int]:
    """Return (our end to read from, theirs to write to)."""
    ours, theirs = os.pipe()
    os.fchmod(theirs, _ANYBODY)
    return End(ours), theirs


def terminal(columns: int, rows: int) -> tuple[End, int]:
    """Return (our end of a terminal, theirs)."""
    ours, theirs = os.openpty()
    os.fchmod(theirs, _ANYBODY)
    end = End(ours)
    end.resize(columns, rows)
    return end, theirs


def settle(future: "asyncio.Future[None]") -> None:
    """Let whoever waits go on; callbacks of a descriptor may come more than once."""
    if not future.done():
        future.set_result(None)


def close_all(descriptors: list[int]) -> None:
    """Close what was handed over."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)
