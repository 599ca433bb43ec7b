"""The runner: imports what most programs import, once, and forks a supervisor for every slot that the server asks for.

    wipe the writable directories -> import, freeze, try the measures (prepare.py) -> connect to the server -> loop
                              └── branch.py: a fork that imports more, and is a zygote for its parent as this is for the server

Invariants:
- one thread, asserted before the first fork: a fork carries only the calling thread, and locks of others stay held;
- no code and no output passes through here, only descriptors (`frames`);
- exit 0 means that the executor has ended for good. With everything else, also when this process is killed, the container
  ends and the kubelet starts it again: it is the container's first process. A branch that ends is forked again here.

A select loop without asyncio: it must be cheap to fork and hold no state that a child would have to undo.
"""

import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from execpool.executor import frames, settings
from execpool.executor.runner import branch, clean, forks, limits, prepare
from execpool.executor.runner.isolate import Tools
from execpool.executor.runner.sandbox import Measures

log = logging.getLogger("execpool.executor")

GONE, LOST = 0, 1
"""Exit statuses: ended for good; to be started again."""

_POLL_SECONDS = 0.02


def run(options: settings.RunnerSettings, measures: Measures | None = None) -> int:
    """Serve one server until it says goodbye, or is lost; return the exit status. Only tests leave measures out."""
    if _gone(options):
        return _leave("Gone", GONE)
    clean.sweep(filter(None, {options.work_dir, options.home_dir, *options.sweep_dirs}), all_of_it=True)
    tools = prepare.prepare(options, measures or Measures())
    connection = _connect(options)
    if connection is None:
        return _leave("Gone", GONE)
    zygote = Zygote(tools, connection, gone=lambda: _gone(options))
    with prepare.inventory() as inventory:
        zygote.say(frames.Hello(os.getpid(), limits.data_bytes(), tools.limits.data_bytes), [inventory.fileno()])
    if prepare.has_science(options):
        zygote.branch = branch.Branch(lambda server: _branch_off(options, tools, server))
    return _leave(*zygote.serve())


def _branch_off(options: settings.RunnerSettings, tools: Tools, parent: socket.socket) -> None:
    """Be the branch: import more, say so, and fork for the parent until it is gone."""
    prepare.prepare_science(options, tools)
    # What a science fork would copy in advance, it has less often use for.
    zygote = Zygote(replace(tools, touches_deeply=False), parent, gone=lambda: False)
    zygote.say(frames.Ready(frames.Imports.SCIENCE))
    zygote.serve()


class Zygote:
    """The loop: frames from the server, or from the zygote that this one is a branch of, and ends of children."""

    def __init__(self, tools: Tools, server: socket.socket, gone: Callable[[], bool]) -> None:
        self.branch: branch.Branch | None = None
        self._tools = tools
        self._server = server
        self._gone = gone
        self._forks = forks.Forks(tools)
        self._sweeper = 0
        """Process that sweeps now, 0 for none."""
        self._cleaners: set[int] = set()
        """Processes that remove what lost supervisors left."""
        self._exit: tuple[str, int] | None = None

    def serve(self) -> tuple[str, int]:
        """Loop until something ends it; return why and the exit status."""
        wake = _wake_on_children()
        selector = selectors.DefaultSelector()
        selector.register(self._server, selectors.EVENT_READ, self._hear)
        selector.register(wake, selectors.EVENT_READ, lambda: wake.recv(4096))
        while self._exit is None:
            patience = self.branch.tend(selector, self._hear_branch) if self.branch else None
            for key, _ in selector.select(patience):
                key.data()
            self._reap()
        signal.set_wakeup_fd(-1)
        selector.close()
        wake.close()
        self._forks.end_all(self._tools.work_dir)
        return self._exit

    def say(self, frame: frames.Frame, descriptors: Sequence[int] = ()) -> None:
        """Send a frame; a server that does not take it is found to be gone by the loop."""
        with suppress(OSError):
            socket.send_fds(self._server, [frames.encode(frame)], descriptors)

    def _hear(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._server, frames.MAX_FRAME_BYTES + 1, 8)
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self._exit = ("Gone", GONE) if self._gone() else ("ServerLost", LOST)
            return
        try:
            self._obey(frames.decode(packet), descriptors)
        except frames.FrameError as error:
            log.error("bad frame", extra={"reason": str(error)})  # noqa: TRY400 - the sentence says it all
            self._exit = ("BadFrame", LOST)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _obey(self, frame: frames.Frame, descriptors: list[int]) -> None:
        match frame:
            case frames.Fork() if len(descriptors) == 1:
                if not (self.branch and self.branch.takes(frame, descriptors)):
                    self._forks.fork(frame, descriptors[0])
            case frames.End():
                if not (self._forks.end(frame.slot) or self.branch is None):
                    self.branch.takes(frame, ())
            case frames.Sweep():
                self._sweep()
            case frames.Shutdown():
                self._exit = ("Shutdown", GONE)
            case _:
                raise frames.FrameError(f"{type(frame).__name__} is not for me")

    def _sweep(self) -> None:
        """Empty the shared directories: in a child, for there may be a million files."""
        if self._tools.scratch and clean.anything_left(self._tools.scratch):
            with suppress(OSError):
                self._sweeper = forks.fork_for(lambda: clean.sweep(self._tools.scratch))
                return
        self.say(frames.Swept())

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended(*ended)

    def _ended(self, pid: int, status: int) -> None:
        if pid == self._sweeper:
            self._sweeper = 0
            self.say(frames.Swept())
        elif pid in self._cleaners:
            self._cleaners.discard(pid)
        elif self.branch is not None and pid == self.branch.pid:
            self.branch.ended()
            self._end_orphans()
            self.say(frames.Away(frames.Imports.SCIENCE))
        elif self._forks.ended(pid, status):
            self._end_orphans()

    def _hear_branch(self) -> None:
        assert self.branch is not None  # noqa: S101 - told to the type checker
        if ready := self.branch.hear():
            self.say(ready)

    def _end_orphans(self) -> None:
        """End what is left of a child that was ended by force, and remove its files."""
        spared = {pid for pid in (self._sweeper, self.branch.pid if self.branch else 0) if pid}
        if not self._forks.end_orphans(spared | self._cleaners):
            self._exit = ("Survivors", LOST)
            return
        with suppress(OSError):  # the next loss takes them along
            self._cleaners.add(forks.fork_for(lambda: clean.remove_lost(self._tools.work_dir)))


def _connect(options: settings.RunnerSettings) -> socket.socket | None:
    """Wait for the server's socket and connect; None when the executor ended in the meantime."""
    while not _gone(options):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(frames.socket_in(options.socket_dir))
        except OSError:
            connection.close()
            time.sleep(_POLL_SECONDS)
        else:
            return connection
    return None


def _gone(options: settings.RunnerSettings) -> bool:
    return (options.socket_dir / frames.GONE_NAME).exists()


def _leave(why: str, status: int) -> int:
    log.info("exiting", extra={"why": why})
    return status


def _wake_on_children() -> socket.socket:
    """Return a socket that becomes readable when a child ends; SIGTERM is ignored from here on.

    A pod's end reaches the server too, which then says goodbye, and user code of the same uid can send signals where the
    kernel has no domains.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return reader
