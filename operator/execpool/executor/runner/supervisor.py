"""One process per run, between the zygote and the code: starts it, watches the clock, ends everything, says how it went.

    forked by the zygote -> own session, adopts orphans -> forks the child (child.py)
    waits for: the child's end | the wall-clock limit | SIGTERM (the server said stop, or the zygote has ended)
    then ends every process below it, whether the child ended by itself or not: a run leaves no daemon behind
    then writes Ended on the status pipe, which nothing below it holds, and removes the run's directory

The server keeps a second clock. Should this process be stopped or ended by user code (it has the same uid until Landlock
keeps signals apart), then the zygote ends it and what is below it, and the status pipe closes without Ended.

Single-threaded; signals are blocked and taken synchronously, so no handler ever runs between two lines.
"""

import logging
import os
import resource
import secrets
import shutil
import signal
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from execpool.executor import frames
from execpool.executor.runner import child, limits, processes, sandbox

log = logging.getLogger("execpool.executor")

SURVIVORS = 71
"""Exit status when processes were left that would not end: the runner must exit as a whole."""

RUN_PREFIX = "run-"
WATCHED = frozenset({signal.SIGCHLD, signal.SIGTERM})
"""Blocked by the zygote before it forks."""


@dataclass(frozen=True)
class _Exit:
    """How the child's wait came to its end: its exit code is None when it had to be ended."""

    code: int | None
    timed_out: bool = False
    stopped: bool = False


def run(start: frames.Start, pipes: child.Pipes, tools: child.Tools, work_dir: Path) -> NoReturn:
    """Be the supervisor of one run; the caller has just forked."""
    status = child.BROKEN
    try:
        status = _supervise(start, pipes, tools, work_dir)
    except Exception:
        # The server sees the status pipe close without Ended, the zygote this exit status.
        log.exception("supervisor failed", extra={"run": start.run})
    finally:
        os._exit(status)


def _supervise(start: frames.Start, pipes: child.Pipes, tools: child.Tools, work_dir: Path) -> int:
    began = time.monotonic()
    os.setsid()
    sandbox.adopt_orphans()
    sandbox.end_with_parent(signal.SIGTERM)
    directory = work_dir / f"{RUN_PREFIX}{secrets.token_hex(12)}"
    try:
        directory.mkdir(mode=0o700)
        pid = _fork(lambda: child.run(tools, pipes, directory, start.timeout_seconds))
    except OSError as error:
        _say(pipes.status, frames.Refused(f"the run could not be started: {error.strerror}"))
        remove(directory)
        return 0
    for descriptor in (pipes.request, pipes.stdout, pipes.stderr, pipes.report):
        os.close(descriptor)
    _say(pipes.status, frames.Started())
    kills_before = limits.out_of_memory_kills()
    exit_ = _wait(pid, began + start.timeout_seconds)
    clean = processes.end_descendants()
    _say(pipes.status, _ended(exit_, began, limits.out_of_memory_kills() > kills_before))
    os.close(pipes.status)
    remove(directory)
    return 0 if clean else SURVIVORS


def _fork(body: Callable[[], NoReturn]) -> int:
    """Fork a child that runs `body` and can never return into this code."""
    pid = os.fork()
    if pid:
        return pid
    try:
        body()
    except Exception:
        log.exception("run could not be made safe")
    finally:
        os._exit(child.BROKEN)


def _wait(pid: int, deadline: float) -> _Exit:
    """Wait until the child ends, the deadline passes, or we are told to stop; the first of them counts."""
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return _Exit(os.waitstatus_to_exitcode(status))
        left = deadline - time.monotonic()
        if left <= 0:
            return _Exit(None, timed_out=True)
        info = signal.sigtimedwait(WATCHED, left)
        if info is not None and info.si_signo == signal.SIGTERM:
            return _Exit(None, stopped=True)


def _ended(exit_: _Exit, began: float, out_of_memory: bool) -> frames.Ended:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return frames.Ended(
        exit_code=-signal.SIGKILL if exit_.code is None else exit_.code,
        timed_out=exit_.timed_out,
        stopped=exit_.stopped,
        out_of_memory=out_of_memory,
        wall_seconds=time.monotonic() - began,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        max_rss_bytes=usage.ru_maxrss * 1024,
    )


def _say(status: int, frame: frames.Frame) -> None:
    with suppress(OSError):
        os.write(status, frames.encode(frame) + b"\n")


def remove(path: Path) -> None:
    """Remove what a run left, a file or a tree, whatever modes it gave to it; never follows a link."""
    with suppress(OSError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        path.rmdir()  # most runs leave nothing
        return
    shutil.rmtree(path, onerror=_open_up_and_retry)


def _open_up_and_retry(function: Callable[..., Any], path: str, _error: object) -> None:
    with suppress(OSError):
        Path(path).parent.chmod(0o700)
        if not Path(path).is_symlink():
            Path(path).chmod(0o700)
        if function in (os.open, os.scandir, os.listdir, os.rmdir):
            shutil.rmtree(path, ignore_errors=True)
        else:
            function(path)
