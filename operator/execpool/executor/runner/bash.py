"""Bash as a language: one shell per context, which keeps its directory, variables and functions from request to request.

The shell reads programs from a pipe, each ended by a NUL (which no program holds), runs them by `eval` in itself, and
writes the exit status to another pipe. Output goes straight to the context's descriptors 1 and 2. An exit status other
than 0 is an error event, as E2B's kernel makes it; a shell that exits ends its state, and the next request gets a new one.
"""

import os
import subprocess
import tempfile
from typing import IO

from execpool.executor.runner.display import Emit

_SHELL = ("bash", "--noprofile", "--norc")
_MOST_ON_THE_COMMAND_LINE = 100_000
_INTERRUPTED = 130

# The trap keeps the shell alive when an interrupt ends what it has started.
_LOOP = """
trap : INT
while IFS= read -r -d '' execpool_code <&{take}; do
  eval "$execpool_code" {take}<&- {tell}>&-
  printf '%d\\n' "$?" >&{tell}
done
"""


class Session:
    """The shell of one context, started by its first request."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._shell: subprocess.Popen[bytes] | None = None
        self._programs: IO[bytes] | None = None
        self._statuses: IO[bytes] | None = None

    def execute(self, code: str) -> bool:
        """Run one program in the shell; True when its exit status is 0."""
        if self._shell is None or self._shell.poll() is not None:
            self._start()
        return self._account_for(self._ask(code.replace("\0", "")))

    def _start(self) -> None:
        take, programs = os.pipe()
        statuses, tell = os.pipe()
        self._programs, self._statuses = os.fdopen(programs, "wb", buffering=0), os.fdopen(statuses, "rb")
        self._shell = subprocess.Popen(
            [*_SHELL, "-c", _LOOP.format(take=take, tell=tell)], pass_fds=(take, tell), stdin=subprocess.DEVNULL
        )
        os.close(take)
        os.close(tell)

    def _ask(self, code: str) -> int:
        assert self._programs is not None  # noqa: S101 - told to the type checker
        assert self._statuses is not None  # noqa: S101 - as above
        assert self._shell is not None  # noqa: S101 - as above
        try:
            rest = memoryview(code.encode() + b"\0")
            while rest:
                rest = rest[self._programs.write(rest) or 0 :]
            said = self._statuses.readline()
        except BrokenPipeError:
            said = b""
        return int(said) if said else self._shell.wait()

    def _account_for(self, status: int) -> bool:
        if status == 0:
            return True
        name, value = ("KeyboardInterrupt", "") if status == _INTERRUPTED else ("ExitStatus", str(status))
        self._emit({"type": "error", "name": name, "value": value, "traceback": f"bash: exit status {status}"})
        return False


def become(code: str) -> None:
    """Replace this process by a shell that runs one program."""
    if len(code) <= _MOST_ON_THE_COMMAND_LINE:
        os.execvp("bash", [*_SHELL, "-c", code])  # noqa: S606 - what was asked for
    script = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - read by the shell; it has no name, and ends with it
    rest = memoryview(code.encode())
    while rest:
        rest = rest[script.write(rest) or 0 :]
    os.set_inheritable(script.fileno(), True)
    os.execvp("bash", [*_SHELL, f"/proc/self/fd/{script.fileno()}"])  # noqa: S606 - as above
