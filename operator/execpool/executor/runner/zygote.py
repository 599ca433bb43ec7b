"""The runner: imports what most programs import, once, and forks a supervisor for every run that the server starts.

    wipe /tmp and /dev/shm -> import, freeze, try the sandbox (prepare.py) -> connect to the server -> loop

Invariants:
- one thread, asserted before the first fork: a fork carries only the calling thread, and locks of others stay held;
- no code and no output passes through here, only descriptors (`frames`);
- direct children are supervisors; any other child is an orphan of a supervisor that was ended, and is ended too;
- exit 0 means that the executor has ended for good. Everything else makes the kubelet start the runner again.

A select loop without asyncio: it must be cheap to fork and hold no state that a child would have to undo.
"""

import logging
import os
import selectors
import signal
import socket
import time
from contextlib import suppress

from execpool.executor import frames, settings
from execpool.executor.runner import child, limits, prepare, processes, supervisor

log = logging.getLogger("execpool.executor")

GONE, LOST = 0, 1
"""Exit statuses: ended for good; to be started again."""

_POLL_SECONDS = 0.02
_SUPERVISOR_SECONDS = 0.6
"""How long a supervisor may take to end its run before it is ended itself."""


def run(options: settings.RunnerSettings) -> int:
    """Serve one server until it says goodbye, or is lost; return the exit status."""
    if _gone(options):
        return _leave("Gone", GONE)
    prepare.sweep(options.sweep_dirs)
    tools = prepare.prepare(options)
    connection = _connect(options)
    if connection is None:
        return _leave("Gone", GONE)
    zygote = Zygote(options, tools, connection)
    return _leave(*zygote.serve())


class Zygote:
    """The loop: frames from the server, ends of supervisors, and the clock of those told to stop."""

    def __init__(self, options: settings.RunnerSettings, tools: child.Tools, server: socket.socket) -> None:
        self._options = options
        self._tools = tools
        self._server = server
        self._runs: dict[str, int] = {}
        self._overdue: dict[int, float] = {}
        """Supervisors told to stop, and when each is ended itself."""
        self._exit: tuple[str, int] | None = None
        self._dirty = False
        """True when a run may have left files outside its directory since the last sweep."""

    def serve(self) -> tuple[str, int]:
        """Loop until something ends it; return why and the exit status."""
        wake = _wake_on_children()
        selector = selectors.DefaultSelector()
        selector.register(self._server, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        self._say(frames.Hello(os.getpid(), limits.data_bytes(), self._tools.limits.data_bytes))
        while self._exit is None:
            for key, _ in selector.select(self._patience()):
                if key.fileobj is self._server:
                    self._hear()
                else:
                    wake.recv(4096)
            self._reap()
            self._enforce()
            self._tidy()
        self._end_all()
        return self._exit

    def _hear(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._server, frames.MAX_FRAME_BYTES + 1, 8)
        except OSError:
            packet, descriptors = b"", []
        if not packet:
            self._exit = ("Gone", GONE) if _gone(self._options) else ("ServerLost", LOST)
            return
        try:
            frame = frames.decode(packet)
        except frames.FrameError as error:
            log.error("bad frame", extra={"reason": str(error)})  # noqa: TRY400 - the sentence says it all
            self._exit = ("BadFrame", LOST)
            return
        self._obey(frame, descriptors)

    def _obey(self, frame: frames.Frame, descriptors: list[int]) -> None:
        match frame:
            case frames.Start() if len(descriptors) == len(frames.DESCRIPTORS):
                self._start(frame, child.Pipes(*descriptors))
            case frames.Stop(run=name) if name in self._runs:
                self._stop(self._runs[name])
            case frames.Stop():
                pass
            case frames.Shutdown():
                self._exit = ("Shutdown", GONE)
            case _:
                self._exit = ("BadFrame", LOST)
        for descriptor in descriptors:
            os.close(descriptor)

    def _start(self, start: frames.Start, pipes: child.Pipes) -> None:
        # Blocked across the fork, so that a stop meant for the supervisor finds it ready to take it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.WATCHED)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            refused = frames.Refused(f"the run could not be started: {error.strerror}")
            with suppress(OSError):
                os.write(pipes.status, frames.encode(refused) + b"\n")
            return
        if pid == 0:
            self._server.close()
            supervisor.run(start, pipes, self._tools, self._options.work_dir)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._runs[start.run] = pid
        self._dirty = True
        prepare.reseed()

    def _stop(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        self._overdue.setdefault(pid, time.monotonic() + _SUPERVISOR_SECONDS)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended(*ended)

    def _ended(self, pid: int, status: int) -> None:
        name = next((name for name, known in self._runs.items() if known == pid), None)
        self._overdue.pop(pid, None)
        if name is None:
            return
        del self._runs[name]
        if status == 0:
            return
        log.warning("supervisor lost", extra={"run": name, "exit_code": os.waitstatus_to_exitcode(status)})
        clean = processes.end_descendants(spare=set(self._runs.values()))
        if not clean or os.waitstatus_to_exitcode(status) == supervisor.SURVIVORS:
            self._exit = ("Survivors", LOST)

    def _enforce(self) -> None:
        now = time.monotonic()
        for pid, due in self._overdue.items():
            if now >= due:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _tidy(self) -> None:
        """Between runs, remove what they left in /tmp and /dev/shm: nobody owns it now, and it is memory."""
        if self._dirty and not self._runs:
            prepare.sweep(self._options.sweep_dirs)
            self._dirty = False

    def _patience(self) -> float | None:
        if not self._overdue:
            return None
        return max(min(self._overdue.values()) - time.monotonic(), 0.01)

    def _say(self, frame: frames.Frame) -> None:
        with suppress(OSError):
            self._server.send(frames.encode(frame))

    def _end_all(self) -> None:
        """End every run, their supervisors included, and what they leave in the work directory."""
        processes.end_descendants()
        for path in self._options.work_dir.glob(f"{supervisor.RUN_PREFIX}*"):
            supervisor.remove(path)


def _connect(options: settings.RunnerSettings) -> socket.socket | None:
    """Wait for the server's socket and connect; None when the executor ended in the meantime."""
    path = options.socket_dir / frames.SOCKET_NAME
    while not _gone(options):
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(str(path))
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

    A pod's end reaches the server too, which then says goodbye, and user code of the same uid can send signals.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return reader
