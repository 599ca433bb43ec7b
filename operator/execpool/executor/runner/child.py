"""The process that runs the code: puts on every limit, then hands over to the shell and never returns.

The order is the point. Descriptors first, so that nothing of the runner's stays open; then the limits that can be given
up by nobody; the filter last before the code, since the steps before need what it refuses. An error on the way, of
ours, ends the process with `BROKEN` before any code ran.
"""

import json
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from execpool.executor import settings
from execpool.executor.runner import limits, sandbox, shell

BROKEN = 70
"""Exit status when this process could not be made safe; no code ran."""

_REPORT = 3


@dataclass(frozen=True)
class Tools:
    """What the zygote has prepared once for all runs."""

    limits: limits.Limits
    sandbox: sandbox.Sandbox
    network: bool
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Pipes:
    """Descriptors of one run, in the order of `frames.DESCRIPTORS`."""

    request: int
    stdout: int
    stderr: int
    report: int
    status: int


def run(tools: Tools, pipes: Pipes, directory: Path, timeout_seconds: float) -> NoReturn:
    """Become the program of a run."""
    request = json.loads(os.pread(pipes.request, os.fstat(pipes.request).st_size, 0))
    _own_logging()
    _own_descriptors(pipes)
    _own_signals()
    os.umask(0o022)
    os.chdir(directory)
    settings.replace_environment(_environment(tools, directory) | request["env"])
    sandbox.set_dumpable(True)
    limits.apply(tools.limits, timeout_seconds)
    tools.sandbox.enter()
    well = shell.run(request["code"], _emit, network=tools.network)
    _flush()
    os._exit(0 if well else 1)


def _environment(tools: Tools, directory: Path) -> dict[str, str]:
    return {**tools.environment, "HOME": str(directory), "TMPDIR": str(directory), "PWD": str(directory)}


def _own_descriptors(pipes: Pipes) -> None:
    """Keep standard input (empty), output, errors and the report; close everything else."""
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (pipes.stdout, 1), (pipes.stderr, 2)):
        os.dup2(source, target)
    os.dup2(pipes.report, _REPORT, inheritable=False)
    os.closerange(_REPORT + 1, os.sysconf("SC_OPEN_MAX"))
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    # Line by line, so that output arrives while the program works on.
    sys.stdout = sys.__stdout__ = _text(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2)  # type: ignore[misc]


def _text(descriptor: int) -> Any:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _own_logging() -> None:
    """Leave the program a logging module as it finds it in a fresh interpreter."""
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)


def _own_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _emit(event: shell.Event) -> None:
    """Write one event; a program that closed the descriptor has chosen to report nothing."""
    # Lone surrogates, which text of a program may hold, are no JSON to a strict reader.
    view = memoryview(json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    with suppress(OSError):
        while view:
            view = view[os.write(_REPORT, view) :]


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with shell.Captured():
            stream.flush()
