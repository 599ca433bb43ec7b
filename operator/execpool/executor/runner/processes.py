"""Ends every process of a run, whatever it did to hide: double forks, sessions of its own, a fork per millisecond.

The caller is a child subreaper, so that all that a run ever starts stays below it. Children come from
`/proc/PID/task/TID/children`, which is read in microseconds: a process is killed first and its children are listed
after that, since the kernel lets no process with a pending SIGKILL fork. A moving target is thus lost only in the
window between the read and the kill, and the walk repeats until the kernel says that no child is left.
Where the kernel lacks these files, one pass over /proc/*/stat stands in.

Not race-free by construction (a Landlock signal domain with `kill(-1)` will be); a walk that does not get there within
its budget says so, and the runner then exits as a whole.
"""

import os
import signal
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

_PAUSE_SECONDS = 0.002
_NO_SUCH_PROCESS = (FileNotFoundError, ProcessLookupError, PermissionError, NotADirectoryError)

HAS_CHILDREN_FILES = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def end_descendants(spare: Container[int] = (), budget_seconds: float = 3.0) -> bool:
    """Kill and reap everything below this process, except the children in `spare` and what is below those.

    Returns:
        False when processes were left after the budget.
    """
    deadline = time.monotonic() + budget_seconds
    while _has_children():
        ours = [pid for pid in children_of(os.getpid()) if pid not in spare]
        if not ours:
            return True
        for pid in ours:
            _kill_tree(pid)
        if not _reap(ours):
            time.sleep(_PAUSE_SECONDS)
        if time.monotonic() > deadline:
            return False
    return True


def children_of(pid: int) -> list[int]:
    """Return the children of a process, of all its threads, zombies included; none when it is gone."""
    return _from_children_files(pid) if HAS_CHILDREN_FILES else _from_stat(pid)


def _has_children() -> bool:
    """True while a child is left; asks the kernel without taking a child's status away."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _kill_tree(pid: int) -> None:
    """Kill a process, then those below it: in this order none of them can have one more child than we see."""
    pending = [pid]
    while pending:
        current = pending.pop()
        with suppress(ProcessLookupError, PermissionError):
            os.kill(current, signal.SIGKILL)
        pending += children_of(current)


def _reap(pids: list[int]) -> bool:
    """Reap those of our children that have ended; True when one had."""
    reaped = False
    for pid in pids:
        with suppress(ChildProcessError):
            reaped |= os.waitpid(pid, os.WNOHANG)[0] == pid
    return reaped


def _from_children_files(pid: int) -> list[int]:
    found: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - the hot path of ending a fork bomb
    except _NO_SUCH_PROCESS:
        return found
    for thread in threads:
        with suppress(*_NO_SUCH_PROCESS), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 - as above
            found += map(int, file.read().split())
    return found


def _from_stat(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):  # noqa: PTH208 - as above
        if name.isdigit():
            with suppress(*_NO_SUCH_PROCESS):
                # "pid (name) state parent ...": the name may hold anything, so read after its last bracket.
                after = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if int(after[1]) == pid:
                    found.append(int(name))
    return found
