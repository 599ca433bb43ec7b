"""One process per slot, between the zygote and the code: parks a process, waits, ends everything, says how it went.

    forked by the zygote -> own signal domain, adopts orphans
      park -> Parked -> its end | Stop | Interrupt | the server's end closed -> end all of it -> Ended -> clean up -> again

Inside its domain nothing can signal it, and it can signal nothing but what it started. It runs no code of anybody, so
each fork is as clean as the first. It ends when its socket does: the server has given the slot up, or is gone itself, or
the zygote is gone and the server gave up its slots.

Where the kernel has no domains, the walk of `processes` stands in, and user code may be able to stop or end this process;
the server then sees its socket end without Ended, or has the zygote end it.
"""

import itertools
import logging
import os
import select
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from execpool.executor import frames
from execpool.executor.runner import child, clean, isolate, limits, parking, processes, sandbox
from execpool.executor.runner.isolate import Tools

log = logging.getLogger("execpool.executor")

SURVIVORS = 71
"""Exit status when processes were left that would not end: the runner must exit as a whole."""

_CONTROL = 3


@dataclass(frozen=True)
class _End:
    """How a run came to its end."""

    stopped: bool = False
    closed: bool = False
    """The server has closed its end: there will be no further run."""


def run(kind: frames.Kind, control: int, tools: Tools) -> NoReturn:
    """Be the supervisor of one slot; the caller has just forked."""
    status = child.BROKEN
    try:
        isolate.own_signals()
        isolate.keep((0, 1, 2, control))
        status = Supervisor(kind, socket.socket(fileno=_CONTROL), tools, outsider=os.getppid()).serve()
    except Exception:
        # The server sees the socket end without Ended, the zygote this exit status.
        log.exception("supervisor failed")
    finally:
        os._exit(status)


class Supervisor:
    """The loop of one slot."""

    def __init__(self, kind: frames.Kind, control: socket.socket, tools: Tools, *, outsider: int) -> None:
        os.setsid()
        sandbox.adopt_orphans()
        self._kind = kind
        self._control = control
        self._tools = tools
        self._outsider = outsider
        self._kills_seen = 0
        if tools.has_domains:
            isolate.enter_domain(tools, outsider)

    def serve(self) -> int:
        """Park and supervise until the socket ends, or the one process of a context has; return the exit status."""
        for number in itertools.count(1):
            self._kills_seen = limits.out_of_memory_kills()
            try:
                parked = parking.park(self._tools, self._kind, number)
            except parking.ParkingError as error:
                self._say(frames.Refused(str(error)))
                return child.BROKEN if self._end_all(processes.Usage()) else SURVIVORS
            with suppress(OSError):  # gone already: the wait below finds that out
                parked.hand_over(self._control)
            end = self._wait(parked)
            if not self._finish(parked, end):
                return SURVIVORS
            if end.closed or self._kind is not frames.Kind.RUN:
                break
        return 0

    def _wait(self, parked: parking.Parked) -> _End:
        """Wait until the process ends, we are told to stop, or nobody is there any more."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(parked.pidfd, select.POLLIN)
        while True:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self._control.fileno() in ready:
                match self._hear():
                    case frames.Stop(number=parked.number):
                        return _End(stopped=parked.pidfd not in ready)
                    case frames.Interrupt(number=number):
                        if number == parked.number:
                            _interrupt(parked.pid)
                        self._say(frames.Interrupted())
                    case frames.Stop():
                        pass
                    case _:
                        return _End(stopped=True, closed=True)
            if parked.pidfd in ready:
                return _End()

    def _hear(self) -> frames.Frame | None:
        """Return the server's next word; None when there will be none."""
        try:
            packet = self._control.recv(frames.MAX_FRAME_BYTES + 1)
            return frames.decode(packet) if packet else None
        except (OSError, frames.FrameError):
            return None

    def _finish(self, parked: parking.Parked, end: _End) -> bool:
        """End all that the run started, say so, and clean up after it; False when something would not end."""
        usage = processes.Usage()
        code = _reap(parked, usage) if not end.stopped else -signal.SIGKILL
        os.close(parked.pidfd)
        if not self._end_all(usage):
            return False
        killed = code == -signal.SIGKILL and not end.stopped
        ended = frames.Ended(
            exit_code=code,
            stopped=end.stopped,
            out_of_memory=killed and limits.out_of_memory_kills() > self._kills_seen,
            left_files=clean.anything_left(self._tools.scratch),
            cpu_seconds=usage.cpu_seconds,
            max_rss_bytes=usage.max_rss_bytes,
            number=parked.number,
        )
        self._say(ended)
        parked.remove_directories()
        return True

    def _end_all(self, usage: processes.Usage) -> bool:
        if not self._tools.measures.end_group:
            return True
        if self._tools.has_domains:
            return processes.end_domain(self._outsider, usage)
        return processes.end_descendants(usage=usage)

    def _say(self, frame: frames.Frame) -> None:
        with suppress(OSError):
            self._control.send(frames.encode(frame))


def _interrupt(pid: int) -> None:
    """Interrupt the program and what it started in its own process group, as a terminal would."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGINT)


def _reap(parked: parking.Parked, usage: processes.Usage) -> int:
    _, status, used = os.wait4(parked.pid, 0)
    usage.add(used)
    return os.waitstatus_to_exitcode(status)
