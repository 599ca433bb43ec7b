"""A process that has imported what executors import, and forks them: one takes 0.1 s, and shares its memory with the rest.

    owner ── SOCK_SEQPACKET, JSON ──> nursery ── fork ──> a module's `__main__`, in a session of its own

    <- {"ready": pid, "mounts": whether `private_mounts` works here}
    {"start": key, "module": ..., "arguments": [...], "environment": {...}, "directory": ..., "log": ..., "mounts": {...}}
    <- {"started": key, "pid": n}, or {"refused": key, "reason": "..."} when the fork failed
    <- {"ended": pid, "status": exit code, negative for a signal}

Started by `processes.py` as `python -m execpool.providers.nursery DESCRIPTOR OWNER MOUNTS MODULES`: MODULES are imported in advance
(MODULE:FUNCTION is called, too), and MOUNTS are tried. It knows executors by name only. Standard library only.

Invariants:
- one thread, for a fork carries only the calling one;
- it ends when its owner ends, however that comes, and everything that it forked ends with it (PR_SET_PDEATHSIG);
- a fork never returns into the loop.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from execpool.providers import private_mounts

MAX_REQUEST_BYTES = 128 << 10
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_BROKEN = 70
_NAME_BYTES = 15
"""What the kernel keeps of a process's name."""

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    """Import, then fork on request until the owner is gone."""
    descriptor, owner, mounts, *modules = arguments
    _end_with(int(owner))
    for name in modules:
        with suppress(ImportError):
            _do_in_advance(*name.split(":"))
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(descriptor)) as connection:
        Nursery(connection).serve(mounts=_can_mount(json.loads(mounts)))


def _do_in_advance(module: str, function: str = "") -> None:
    loaded = importlib.import_module(module)
    if function:
        getattr(loaded, function)()


class Nursery:
    """The loop: requests of the owner, ends of children."""

    def __init__(self, owner: socket.socket) -> None:
        self._owner = owner
        self._pid = os.getpid()
        self._wake, wake_writer = socket.socketpair()
        for end in (self._wake, wake_writer):
            end.setblocking(False)
        self._wake_writer = wake_writer
        signal.set_wakeup_fd(wake_writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)

    def serve(self, *, mounts: bool) -> None:
        """Say what works here, then serve until the owner's end of the socket is closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._owner, selectors.EVENT_READ)
            selector.register(self._wake, selectors.EVENT_READ)
            self._say({"ready": os.getpid(), "mounts": mounts})
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._wake in ready:
                    self._wake.recv(4096)
                    self._reap()
                if self._owner in ready and not self._hear():
                    return

    def _hear(self) -> bool:
        packet = self._owner.recv(MAX_REQUEST_BYTES)
        if not packet:
            return False
        request = json.loads(packet)
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"refused": request["start"], "reason": error.strerror})
            return True
        if pid == 0:
            self._be(request)
        self._say({"started": request["start"], "pid": pid})
        return True

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._say({"ended": ended[0], "status": os.waitstatus_to_exitcode(ended[1])})

    def _say(self, message: dict[str, Any]) -> None:
        self._owner.send(json.dumps(message).encode())

    def _be(self, request: dict[str, Any]) -> NoReturn:
        """Become what was asked for; only its end is left to do afterwards."""
        status = _BROKEN
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self._owner, self._wake, self._wake_writer):
                end.close()
            _settle(request, self._pid)
            status = _run(request["module"], request["arguments"])
        finally:
            if sys.exc_info()[0] is not None:
                traceback.print_exc()
            with suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def _settle(request: dict[str, Any], nursery: int) -> None:
    """Take on the place, the environment and the streams of the new process."""
    os.setsid()
    if request["mounts"]:
        private_mounts.enter(request["mounts"])
    _end_with(nursery)
    name = "-".join(["execpool", *request["arguments"]])
    _libc.prctl(_PR_SET_NAME, name.encode()[:_NAME_BYTES], 0, 0, 0)
    os.chdir(request["directory"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target, inheritable=True)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["environment"])


def _can_mount(mounts: dict[str, str]) -> bool:
    """Try it in a fork, which ends in the namespace that it made."""
    if not mounts:
        return False
    pid = os.fork()
    if pid == 0:
        status = _BROKEN
        try:
            private_mounts.enter(mounts)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _run(module: str, arguments: list[str]) -> int:
    """Run a module as a program and return its exit status."""
    sys.argv[:] = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=False)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _end_with(parent: int) -> None:
    """End when the parent does, which may have ended already."""
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
