"""Starts and ends the component processes.

A process is known by its pid and its start time, which together name it uniquely for as
long as the machine runs. Signals go through a pidfd opened before the start time is
compared, so a recycled pid is never hit. Nothing is ever looked up by name.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cgroups
from .errors import ClusterError
from .layout import NETNS_FILE

PROC = Path("/proc")
SWEEP_SECONDS = 20.0


@dataclass(frozen=True)
class Process:
    """One process: its pid and its start time in clock ticks since boot."""

    pid: int
    started: int


def start(argv: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> Process:
    """Start a program in a session of its own, so that it outlives us and our terminal."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
    started = start_time(child.pid)
    # It is ours until we exit; nobody else waits for it, and Popen would warn that we do not.
    child.returncode = 0
    return Process(child.pid, started or 0)


def start_time(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat, or None for a process that is gone or a zombie."""
    try:
        stat = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the command in brackets, and may itself hold blanks and brackets.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def alive(process: Process) -> bool:
    """Say whether exactly this process still runs."""
    return start_time(process.pid) == process.started


def memory_mib(process: Process) -> float:
    """Return the resident memory in MiB, 0 for a process that is gone."""
    try:
        pages = int((PROC / str(process.pid) / "statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def end(process: Process, number: signal.Signals = signal.SIGKILL, wait: float = 10.0) -> None:
    """Signal this process if it still runs, and wait until it is gone."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if alive(process):
            signal.pidfd_send_signal(handle, number)
            # A pidfd turns readable when the process ends.
            if not select.select([handle], [], [], wait)[0]:
                raise ClusterError(f"process {process.pid} did not end within {wait:.0f} s of {number.name}")
    finally:
        os.close(handle)


def sweep() -> None:
    """Kill every process in the node's network namespace or in a pod, shims and strays included."""
    deadline = time.monotonic() + SWEEP_SECONDS
    while True:
        found = _identify(_in_node_network() | cgroups.members())
        if not found:
            return
        if time.monotonic() > deadline:
            raise ClusterError(f"processes of the cluster did not end: {sorted(p.pid for p in found)}")
        for process in found:
            _kill(process)
        time.sleep(0.02)


def _in_node_network() -> set[int]:
    try:
        node = NETNS_FILE.stat()
    except FileNotFoundError:
        return set()
    return {pid for pid in _all_pids() if _network_of(pid) == (node.st_dev, node.st_ino)}


def _network_of(pid: int) -> tuple[int, int] | None:
    try:
        status = (PROC / str(pid) / "ns" / "net").stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _all_pids() -> Iterable[int]:
    return (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _identify(pids: set[int]) -> list[Process]:
    return [Process(pid, started) for pid in pids if (started := start_time(pid)) is not None]


def _kill(process: Process) -> None:
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if alive(process):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended between the look and the signal
    finally:
        os.close(handle)
