"""A second zygote with more imports, forked from the first one so that they share what both have.

It is started in the background, when the first one serves already; until it is ready, and while it is away, its forks are
made by the first: slower to import, not wrong. When it ends it is started again, each time after a longer pause.
"""

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from execpool.executor import frames
from execpool.executor.runner import forks, isolate, sandbox

log = logging.getLogger("execpool.executor")

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0


class Branch:
    """The first zygote's side of it."""

    def __init__(self, body: Callable[[socket.socket], None]) -> None:
        """`body` is what the branch does with its end of a socket."""
        self.pid = 0
        """Its process; 0 while there is none."""
        self._body = body
        self._socket: socket.socket | None = None
        self._ready = False
        self._due = 0.0
        self._pause = _FIRST_PAUSE_SECONDS

    def tend(self, selector: selectors.BaseSelector, hear: Callable[[], None]) -> float | None:
        """Start it when it is due; return how long until this is to be called again, None for no such need."""
        if self._socket is not None and self.pid == 0:
            selector.unregister(self._socket)
            self._socket.close()
            self._socket = None
        if self.pid:
            return None
        left = self._due - time.monotonic()
        if left > 0:
            return left
        self._start()
        if self._socket is not None:
            selector.register(self._socket, selectors.EVENT_READ, hear)
        return None

    def takes(self, frame: frames.Fork | frames.End, descriptors: Sequence[int]) -> bool:
        """Pass a frame on, when it is for the branch and that is ready; False when it was not."""
        wanted = isinstance(frame, frames.End) or frame.imports == frames.Imports.SCIENCE
        if not (self._ready and wanted and self._socket is not None):
            return False
        try:
            socket.send_fds(self._socket, [frames.encode(frame)], descriptors)
        except OSError:
            return False
        return True

    def hear(self) -> frames.Ready | None:
        """Take a frame of the branch: it is ready. Its end is seen by its process' end."""
        assert self._socket is not None  # noqa: S101 - told to the type checker
        with suppress(OSError, frames.FrameError):
            frame = frames.decode(self._socket.recv(frames.MAX_FRAME_BYTES + 1))
            if isinstance(frame, frames.Ready):
                self._ready = True
                self._pause = _FIRST_PAUSE_SECONDS
                return frame
        return None

    def ended(self) -> None:
        """Take note that its process has ended."""
        log.warning("branch lost", extra={"pause_seconds": self._pause})
        self.pid, self._ready = 0, False
        self._due = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self.pid = forks.fork_for(lambda: self._run(theirs))
            self._socket = ours
        except OSError:
            ours.close()
            self._due = time.monotonic() + self._pause
        finally:
            theirs.close()

    def _run(self, parent: socket.socket) -> None:
        """Be the branch."""
        isolate.own_signals()
        sandbox.end_with_parent(signal.SIGKILL)
        sandbox.adopt_orphans()
        isolate.keep((0, 1, 2, parent.detach()))
        self._body(socket.socket(fileno=3))
        os._exit(0)
