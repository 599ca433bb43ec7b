"""The read ends of what one process writes: output, errors, report. Closed once, whoever asks first.

Reading never waits. `read_available` takes what is there up to a bound, so that neither a flood nor a write end that
leaked into another process can hold the server.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import suppress

_CHUNK = 1 << 16
_MOST_AT_ONCE = 1 << 19


class RunPipes:
    """Three pipes of one process."""

    def __init__(self, stdout: int, stderr: int, report: int) -> None:
        self.stdout, self.stderr, self.report = stdout, stderr, report
        self._open = {stdout, stderr, report}
        self._watched: set[int] = set()
        for descriptor in self._open:
            os.set_blocking(descriptor, False)

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back when a read end, if it is open, has something or its last writer is gone."""
        if descriptor in self._open:
            asyncio.get_running_loop().add_reader(descriptor, callback)
            self._watched.add(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """Stop calling back."""
        if descriptor in self._watched:
            asyncio.get_running_loop().remove_reader(descriptor)
            self._watched.discard(descriptor)

    def read_available(self, descriptor: int) -> tuple[bytes, bool]:
        """Return what can be read now, and whether that was the last of it."""
        chunks: list[bytes] = []
        size = 0
        while descriptor in self._open and size < _MOST_AT_ONCE:
            try:
                chunk = os.read(descriptor, _CHUNK)
            except OSError as error:
                return b"".join(chunks), error.errno != errno.EAGAIN
            if not chunk:
                return b"".join(chunks), True
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks), descriptor not in self._open

    def discard(self) -> None:
        """Read and forget whatever comes from now on, so that nobody who writes waits for ever."""
        for descriptor in self._open:
            self.unwatch(descriptor)
            self.watch(descriptor, lambda descriptor=descriptor: self._discard(descriptor))  # type: ignore[misc]

    def release(self) -> None:
        """Stop all calling back; everything stays open."""
        for descriptor in list(self._watched):
            self.unwatch(descriptor)

    def close(self) -> None:
        """Close whatever is open: nobody listens any more."""
        for descriptor in list(self._open):
            self.unwatch(descriptor)
            self._open.discard(descriptor)
            with suppress(OSError):
                os.close(descriptor)

    def _discard(self, descriptor: int) -> None:
        if self.read_available(descriptor)[1]:
            self.unwatch(descriptor)
