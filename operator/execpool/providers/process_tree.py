"""A process and everything below it: frozen, thawed, ended and measured as one, by pid, without root.

Frozen from the top down: a process that is stopped forks no more, so once a pass finds nobody running nothing has been
missed. An orphan moves up to the nearest ancestor that adopts (runners do), which is in the tree as well.
"""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

_GONE = (FileNotFoundError, ProcessLookupError, PermissionError, NotADirectoryError)
_OVER = frozenset("ZX")
_STOPPED = frozenset("Tt") | _OVER
_STOP_SECONDS = 1.0
"""Longest wait for one process to stop; one that is in the kernel for longer is passed over."""
_POLL_SECONDS = 0.0005
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """What a tree uses.

    Attributes:
        cpu_seconds: of the processes that live, and of those that they have reaped.
        memory_bytes: resident, not shared with a file, and beyond what each had from the process that all were forked from.
    """

    processes: int
    cpu_seconds: float
    memory_bytes: int


def members(roots: Iterable[int]) -> list[int]:
    """Return the processes and all below them, parents first."""
    found = list(roots)
    for pid in found:  # grows while it is walked
        found += _children(pid)
    return found


def freeze(roots: Iterable[int]) -> None:
    """Stop a tree. Blocks for about 1 ms a process."""
    roots, stopped = list(roots), set[int]()
    while True:
        running = [pid for pid in members(roots) if pid not in stopped]
        if not running:
            return
        for pid in running:
            _signal(pid, signal.SIGSTOP)
            _wait_until_stopped(pid)
            stopped.add(pid)


def thaw(roots: Iterable[int]) -> None:
    """Let a frozen tree go on, children first, so that nobody finds a child stopped."""
    for pid in reversed(members(roots)):
        _signal(pid, signal.SIGCONT)


def end(roots: Iterable[int]) -> list[int]:
    """Kill a tree and return who was in it. Nobody who is stopped can run away in between, nor has to cooperate."""
    roots = list(roots)
    freeze(roots)
    killed = members(roots)
    for pid in killed:
        _signal(pid, signal.SIGKILL)
    return killed


def are_over(pids: Iterable[int]) -> bool:
    """True when none of these processes runs any more."""
    return all(_state(pid) in _OVER for pid in pids)


def usage(roots: Iterable[int], common_bytes: int = 0) -> Usage:
    """Measure a tree; `common_bytes` is what `memory_bytes` says of the process that all of it was forked from."""
    pids = members(roots)
    memory = sum(max(memory_bytes(pid) - common_bytes, 0) for pid in pids)
    return Usage(len(pids), sum(map(_cpu_seconds, pids)), memory)


def memory_bytes(pid: int) -> int:
    """Return what a process has resident that no file backs; 0 when it is gone."""
    size, resident, shared, *_ = [*map(int, _read(f"/proc/{pid}/statm").split()), 0, 0, 0]
    return (resident - shared) * _PAGE_BYTES if size else 0


def _children(pid: int) -> list[int]:
    with suppress(*_GONE):
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - walked for every process of every sandbox
        return [child for thread in threads for child in map(int, _read(f"/proc/{pid}/task/{thread}/children").split())]
    return []


def _wait_until_stopped(pid: int) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    while _state(pid) not in _STOPPED and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else "X"


def _cpu_seconds(pid: int) -> float:
    # After state: ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime cstime (proc(5)).
    return sum(map(int, _stat(pid)[11:15])) / _TICKS


def _stat(pid: int) -> list[str]:
    """Return what /proc says after a process's name, which may hold anything; empty when it is gone."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    with suppress(*_GONE), open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as above
        return file.read()
    return ""
