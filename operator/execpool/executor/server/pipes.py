"""The descriptors of one run: the server keeps every read end, the runner gets the rest, and both are closed once.

Reading never waits. `read_available` takes what is there up to a bound, so that neither a flood nor a write end that
leaked into another process can hold the server.
"""

import asyncio
import errno
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress

_CHUNK = 1 << 16
_MOST_AT_ONCE = 1 << 19


class RunPipes:
    """Three pipes of the program and one of its supervisor, with the program itself in a memory file."""

    def __init__(self, code: str, env: Mapping[str, str]) -> None:
        """Make them.

        Raises:
            OSError: when descriptors or memory are used up; nothing stays open.
        """
        self._open: set[int] = set()
        self._watched: set[int] = set()
        try:
            self._request = self._keep(os.memfd_create("request"))
            os.write(self._request, json.dumps({"code": code, "env": dict(env)}).encode())
            self.stdout, self._stdout_end = self._pipe()
            self.stderr, self._stderr_end = self._pipe()
            self.report, self._report_end = self._pipe()
            self.status, self._status_end = self._pipe()
        except OSError:
            self.close()
            raise

    def for_runner(self) -> tuple[int, ...]:
        """Return the runner's descriptors in the order of `frames.DESCRIPTORS`."""
        return self._request, self._stdout_end, self._stderr_end, self._report_end, self._status_end

    def close_runner_ends(self) -> None:
        """Close our copies of what the runner has, so that its ends are the last."""
        for descriptor in self.for_runner():
            self._close(descriptor)

    def close_program_ends(self) -> None:
        """Close what the program writes to: nobody listens to it any more."""
        for descriptor in (self.stdout, self.stderr, self.report):
            self._close(descriptor)

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Call back when a read end, which is open, has something or its last writer is gone."""
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

    def close(self) -> None:
        """Close whatever is open."""
        for descriptor in list(self._open):
            self._close(descriptor)

    def _pipe(self) -> tuple[int, int]:
        read_end, write_end = os.pipe()
        self._keep(read_end)
        self._keep(write_end)
        os.set_blocking(read_end, False)
        return read_end, write_end

    def _keep(self, descriptor: int) -> int:
        self._open.add(descriptor)
        return descriptor

    def _close(self, descriptor: int) -> None:
        if descriptor in self._open:
            self.unwatch(descriptor)
            self._open.discard(descriptor)
            with suppress(OSError):
                os.close(descriptor)
