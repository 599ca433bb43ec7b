"""The runner: imports what most programs import, once, and forks a supervisor for every run that the server starts.

    wipe the work directory -> import -> freeze -> try the sandbox -> connect to the server -> loop

Invariants:
- one thread, asserted before the first fork: a fork carries only the calling thread, and locks of others stay held;
- no code and no output passes through here, only descriptors (`frames`);
- direct children are supervisors; any other child is an orphan of a supervisor that was ended, and is ended too;
- exit 0 means that the executor has ended for good. Everything else makes the kubelet start the runner again.

A select loop without asyncio: it must be cheap to fork and hold no state that a child would have to undo.
"""

import gc
import importlib
import logging
import os
import selectors
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from execpool.executor import frames, settings
from execpool.executor.runner import child, figures, limits, processes, sandbox, supervisor

log = logging.getLogger("execpool.executor")

GONE, LOST = 0, 1
"""Exit statuses: ended for good; to be started again."""

_FONTS = ".matplotlib"
_PRELOADED = ("numpy", "pandas")
_POLL_SECONDS = 0.02
_SUPERVISOR_SECONDS = 0.6
"""How long a supervisor may take to end its run before it is ended itself."""
_TERMINATION_SECONDS = 3.0
"""After SIGTERM, how long the server (which gets one too) has to say goodbye before we leave by ourselves."""


class NotSingleThreadedError(RuntimeError):
    """An import started a thread; forking would lose it and keep its locks."""


def run(options: settings.RunnerSettings) -> int:
    """Serve one server until it says goodbye, or is lost; return the exit status."""
    if _gone(options):
        return _leave("Gone", GONE)
    for directory in options.sweep_dirs:
        sweep(directory)
    tools = prepare(options)
    connection = _connect(options)
    if connection is None:
        return _leave("Gone", GONE)
    zygote = Zygote(options, tools, connection)
    return _leave(*zygote.serve())


def prepare(options: settings.RunnerSettings) -> child.Tools:
    """Import, freeze and check everything that runs share.

    Raises:
        NotSingleThreadedError: when an import started a thread.
        SandboxError: when the kernel does not take the filter.
    """
    began = time.monotonic()
    settings.keep_to_one_thread()
    loaded = _preload()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise NotSingleThreadedError(f"{threads} threads after importing {', '.join(loaded)}")
    cpus = limits.cpu_count()
    tools = child.Tools(
        limits=limits.derive(
            options.memory_bytes,
            options.slots,
            limits.data_bytes(),
            own_namespace=limits.in_own_namespace(),
            cpus=cpus,
        ),
        sandbox=sandbox.Sandbox(internet=options.network is settings.Network.EGRESS),
        network=options.network is settings.Network.EGRESS,
        environment=_environment(options, cpus),
    )
    sandbox.adopt_orphans()
    sandbox.set_dumpable(False)
    _try_in_child(tools.sandbox.enter)
    _reseed()
    gc.collect()
    gc.freeze()
    log.info("imports done", extra={"imports": loaded, "seconds": round(time.monotonic() - began, 3)})
    return tools


def sweep(directory: Path) -> None:
    """Empty a directory of this container."""
    with suppress(OSError):
        for path in list(directory.iterdir()):
            supervisor.remove(path)


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
        self._leave_at: float | None = None

    def serve(self) -> tuple[str, int]:
        """Loop until something ends it; return why and the exit status."""
        wake = _wake_on(signal.SIGCHLD, signal.SIGTERM, on_term=self._terminated)
        selector = selectors.DefaultSelector()
        selector.register(self._server, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        self._say(
            frames.Hello(os.getpid(), limits.data_bytes(), self._tools.limits.data_bytes),
        )
        while self._exit is None:
            for key, _ in selector.select(self._patience()):
                if key.fileobj is self._server:
                    self._hear()
                else:
                    wake.recv(4096)
            self._reap()
            self._enforce()
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
        _reseed()

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
        if self._leave_at is not None and now >= self._leave_at:
            self._exit = ("Terminated", LOST)

    def _patience(self) -> float | None:
        due = list(self._overdue.values()) + ([self._leave_at] if self._leave_at is not None else [])
        return max(min(due) - time.monotonic(), 0.01) if due else None

    def _terminated(self) -> None:
        self._leave_at = time.monotonic() + _TERMINATION_SECONDS

    def _say(self, frame: frames.Frame) -> None:
        with suppress(OSError):
            self._server.send(frames.encode(frame))

    def _end_all(self) -> None:
        """End every run, their supervisors included, and what they leave in the work directory."""
        processes.end_descendants()
        for path in self._options.work_dir.glob(f"{supervisor.RUN_PREFIX}*"):
            supervisor.remove(path)


def _preload() -> list[str]:
    loaded = []
    for name in _PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
            loaded.append(name)
    if "pandas" in loaded:
        # The first rendering of a frame costs 10 ms; paid here, no run pays it again.
        frame = importlib.import_module("pandas").DataFrame({"a": [1.5]})
        repr(frame)
        frame._repr_html_()
    figures.quiet_show()
    return loaded


def _reseed() -> None:
    """Draw a new state for numpy's global generator, which the next run inherits; `random` does so at every fork.

    Here and not in the run, where it would cost half a millisecond before the first line.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _environment(options: settings.RunnerSettings, cpus: int) -> dict[str, str]:
    """Return what every run starts with; matplotlib gets a writable copy of the image's list of fonts."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **dict(options.user_environment)}
    environment |= {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": str(cpus)}
    fonts = options.work_dir / _FONTS
    with suppress(OSError):
        if options.font_cache is None:
            fonts.mkdir(exist_ok=True)
        else:
            shutil.copytree(options.font_cache, fonts, dirs_exist_ok=True)
        environment["MPLCONFIGDIR"] = str(fonts)
    return environment


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


def _try_in_child(step: Callable[[], None]) -> None:
    """Do something irrevocable in a child, to learn here whether it works."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            step()
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1] != 0:
        raise sandbox.SandboxError("the kernel refused the filter")


def _wake_on(*numbers: signal.Signals, on_term: Callable[[], None]) -> socket.socket:
    """Return a socket that becomes readable when one of the signals arrives."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda number, _: on_term() if number == signal.SIGTERM else None)
    return reader
