"""Commands: started in a session of their own on pipes or a terminal that the server made, reaped, signalled.

The agent keeps nothing of a command but its pid: output and input are between it and the server. A terminal comes as an
open descriptor too, since opening one by its path is more than user code may do; the child only makes it the terminal of
its session.
"""

import fcntl
import os
import resource
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from execpool.executor.agent_wire import MAX_PROCESSES, Code
from execpool.executor.runner.agent import tree
from execpool.executor.runner.agent.files import Answer, Arguments
from execpool.executor.runner.agent.paths import USER, expand, readable
from execpool.executor.runner.agent.trouble import Trouble

_SIGNALS = {"SIGNAL_SIGTERM": signal.SIGTERM, "SIGNAL_SIGKILL": signal.SIGKILL}


class Commands:
    """Those that run."""

    def __init__(self, home: str, environment: Mapping[str, str]) -> None:
        self._home = home
        # The notebook's own backend shows figures in a notebook, which a command has not.
        ours = {"HOME": home, "USER": USER, "LOGNAME": USER, "MPLBACKEND": "Agg"}
        self._environment = {**environment, **ours}
        self._most_processes = _share_of_processes()
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, arguments: Arguments, descriptors: list[int]) -> Answer:
        """Start one; the descriptors are closed by the caller.

        Raises:
            Trouble: it did not start.
        """
        if len(self._running) >= MAX_PROCESSES:
            raise Trouble(Code.RESOURCE_EXHAUSTED, f"{MAX_PROCESSES} commands are running, no more are allowed")
        directory = expand(arguments.get("cwd") or self._home, self._home)
        if not os.path.isdir(directory):  # noqa: PTH112 - text throughout
            raise Trouble(Code.INVALID_ARGUMENT, f"cwd '{readable(directory)}' does not exist")
        command = [arguments["cmd"], *arguments["args"]]
        terminal = bool(arguments.get("tty"))
        stdin, stdout, stderr = _streams(descriptors, terminal)
        try:
            started = subprocess.Popen(
                command,
                cwd=directory,
                env={**self._environment, **arguments["envs"]},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=self._prepared(terminal=terminal),  # noqa: PLW1509 - there is one thread
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise Trouble(
                Code.INVALID_ARGUMENT, f"error starting process '{command[0][:200]}': {why.lower()}"
            ) from error
        self._running[started.pid] = started
        return {"pid": started.pid}

    def _prepared(self, *, terminal: bool) -> Callable[[], None] | None:
        """Return what a new process does before it becomes the command; None for nothing, which starts faster."""
        if self._most_processes == resource.RLIM_INFINITY:
            return _take_terminal if terminal else None
        most = self._most_processes

        def prepare() -> None:
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
            if terminal:
                _take_terminal()

        return prepare

    def signal(self, arguments: Arguments) -> bool:
        """Signal one: SIGTERM to its process group, SIGKILL to all that is its own.

        Returns:
            False when it resists being killed.

        Raises:
            Trouble: there is no such command, or no such signal.
        """
        pid = arguments.get("pid")
        number = _SIGNALS.get(str(arguments.get("signal")))
        if pid not in self._running:
            raise Trouble(Code.NOT_FOUND, f"process with pid {pid} not found")
        if number is None:
            raise Trouble(Code.UNIMPLEMENTED, f"invalid signal: {arguments.get('signal')}")
        if number is signal.SIGKILL:
            return tree.end(pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, number)
        return True

    def reap(self) -> Iterator[tuple[int, int]]:
        """Yield (pid, status) of commands that have ended; orphans that came to us are reaped on the way."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            ended = self._running.pop(pid, None)
            if ended is not None:
                ended.returncode = os.waitstatus_to_exitcode(status)
                yield pid, status

    def end(self) -> None:
        """Kill all."""
        for pid in list(self._running):
            tree.end(pid)


def _streams(descriptors: list[int], terminal: bool) -> tuple[int, int, int]:
    """Return stdin, stdout and stderr: one terminal for all, or pipes of which the first may be missing."""
    if terminal and len(descriptors) == 1:
        return descriptors[0], descriptors[0], descriptors[0]
    if not terminal and len(descriptors) in (2, 3):
        stdin, stdout, stderr = [subprocess.DEVNULL, *descriptors][-3:]
        return stdin, stdout, stderr
    raise Trouble(Code.INTERNAL, "the descriptors of the command did not come")


def _share_of_processes() -> int:
    """Return how many processes may be there when a command starts one more: less than when the agent does, or a run.

    So a command that has taken all it can get, or left them behind, cannot keep us from starting the one that ends them.
    """
    most = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    return most if most == resource.RLIM_INFINITY else most - most // 6


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
