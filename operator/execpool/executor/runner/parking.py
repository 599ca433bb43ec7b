"""Parks one process: makes its pipes and its directory, forks it, and waits until it says that it is safe.

Done before anybody waits for it. What is parked has run no code of anybody, and holds nothing but its own ends.
"""

import os
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from execpool.executor import frames
from execpool.executor.runner import child, clean, prepare
from execpool.executor.runner.isolate import Tools

_READY_SECONDS = 10.0


class ParkingError(Exception):
    """No process could be parked; nothing of it is left but perhaps a child to be reaped."""


@dataclass
class Parked:
    """A process that waits for a request."""

    number: int
    pid: int
    pidfd: int
    directory: Path
    server_ends: tuple[int, int, int, int]
    """In the order of `frames.PARKED`; to be handed over, then closed."""

    def hand_over(self, control: socket.socket) -> None:
        """Tell the server, and keep nothing."""
        try:
            socket.send_fds(control, [frames.encode(frames.Parked(self.number))], self.server_ends)
        finally:
            for descriptor in self.server_ends:
                os.close(descriptor)

    def remove_directories(self) -> None:
        """Remove what it had to itself."""
        clean.remove(self.directory)
        clean.remove(_fonts_of(self.directory))


def park(tools: Tools, kind: frames.Kind, number: int) -> Parked:
    """Fork a process that isolates itself and waits.

    Raises:
        ParkingError: it did not come that far.
    """
    directory = tools.work_dir / clean.name_for_a_run()
    opened: list[int] = []
    try:
        _make_directories(directory, tools)
        server_ends, ends, ready = _connect(opened)
        pid = _fork(lambda: child.run(tools, kind, ends, directory))
        for descriptor in set(opened) - {*server_ends, ready}:
            os.close(descriptor)
        opened[:] = [*server_ends, ready]
        _await(ready)
        os.close(ready)
        return Parked(number, pid, os.pidfd_open(pid), directory, server_ends)
    except OSError as error:
        for descriptor in opened:
            with suppress(OSError):
                os.close(descriptor)
        clean.remove(directory)
        clean.remove(_fonts_of(directory))
        raise ParkingError(error.strerror or str(error)) from error


def _connect(opened: list[int]) -> tuple[tuple[int, int, int, int], child.Ends, int]:
    """Return the server's ends, the program's, and the read end of what it says when it is ready."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request, its_request = ours.detach(), theirs.detach()
    opened += [request, its_request]
    pipes = []
    for _ in range(4):
        pipes.append(os.pipe())
        opened += pipes[-1]
    (stdout, out), (stderr, err), (report, its_report), (ready, its_ready) = pipes
    return (request, stdout, stderr, report), child.Ends(out, err, its_report, its_request, its_ready), ready


def _make_directories(directory: Path, tools: Tools) -> None:
    """Make the directory of a run, and beside it one that has the image's list of fonts."""
    directory.mkdir(mode=0o700)
    prepare.link_fonts(_fonts_of(directory), tools.fonts)


def _fonts_of(directory: Path) -> Path:
    return directory.with_name(directory.name + clean.FONTS_SUFFIX)


def _fork(body: Callable[[], NoReturn]) -> int:
    """Fork a child that runs `body` and can never return into this code."""
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
    finally:  # whatever it is, this process ends here, and no code has run
        reason = type(sys.exc_info()[1]).__name__
        with suppress(OSError):
            os.write(2, f'{{"message": "run could not be made safe", "reason": "{reason}"}}\n'.encode())
        os._exit(child.BROKEN)


def _await(ready: int) -> None:
    """Wait for the word of a new process; its end of file means that it failed."""
    poll = select.poll()
    poll.register(ready, select.POLLIN)
    if not poll.poll(_READY_SECONDS * 1000) or not os.read(ready, 1):
        raise OSError(0, "it could not be made safe")
