"""Ends every process of a run, whatever it did to hide: double forks, sessions of its own, a fork per millisecond.

The caller is a child subreaper, so that all that a run ever starts stays below it, and is reaped here.

*In a domain* (`end_domain`): Landlock lets the caller signal only what it started, so `kill(-1, SIGKILL)` reaches exactly
that, all of it at one moment, and the kernel lets no process with a pending SIGKILL fork. Sure by construction, if the
domain is there; that is checked before every such call, for without it this would end everything of this user.

*By a walk* (`end_descendants`), where the kernel has no such domain: children come from `/proc/PID/task/TID/children`,
which is read in microseconds: a process is killed first and its children are listed after that. A moving target is lost
only in the window between the read and the kill, and the walk repeats until the kernel says that no child is left.
Where the kernel lacks these files, one pass over /proc/*/stat stands in. Not race-free; a walk that does not get there
within its budget says so, and the runner then exits as a whole.
"""

import os
import resource
import signal
import time
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from execpool.executor.runner import sandbox

_PAUSE_SECONDS = 0.002
_BUDGET_SECONDS = 3.0
_NO_SUCH_PROCESS = (FileNotFoundError, ProcessLookupError, PermissionError, NotADirectoryError)

HAS_CHILDREN_FILES = Path(f"/proc/self/task/{os.getpid()}/children").exists()


@dataclass
class Usage:
    """What reaped processes used together, and the most memory that one of them had."""

    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0

    def add(self, used: resource.struct_rusage) -> None:
        """Count one more process, with those that it reaped itself."""
        self.cpu_seconds += used.ru_utime + used.ru_stime
        self.max_rss_bytes = max(self.max_rss_bytes, used.ru_maxrss * 1024)


class NotInDomainError(RuntimeError):
    """Signals of this process reach others than its own: nothing was done."""


def end_domain(outsider: int, usage: Usage, budget_seconds: float = _BUDGET_SECONDS) -> bool:
    """Kill and reap everything that this process, which is in a signal domain of its own, has started.

    Args:
        outsider: a process of this user outside the domain, which must be out of reach.
        usage: what the reaped ones used is added here.
        budget_seconds: how long to wait for them.

    Returns:
        False when processes were left after the budget.

    Raises:
        NotInDomainError: the outsider can be reached.
    """
    deadline = time.monotonic() + budget_seconds
    while _reap_any(usage):
        if not _is_apart(outsider):
            raise NotInDomainError
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        if not _reap_any(usage):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS / 4)
    return True


def end_descendants(
    spare: Container[int] = (), usage: Usage | None = None, budget_seconds: float = _BUDGET_SECONDS
) -> bool:
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
        if not _reap(ours, usage or Usage()):
            time.sleep(_PAUSE_SECONDS)
        if time.monotonic() > deadline:
            return False
    return True


def children_of(pid: int) -> list[int]:
    """Return the children of a process, of all its threads, zombies included; none when it is gone."""
    return _from_children_files(pid) if HAS_CHILDREN_FILES else _from_stat(pid)


def _is_apart(outsider: int) -> bool:
    """True while this process is in a domain of its own; where the outsider has ended, whoever adopted us stands in."""
    try:
        return not sandbox.may_signal(outsider)
    except sandbox.SandboxError:
        return not sandbox.may_signal(os.getppid())


def _has_children() -> bool:
    """True while a child is left; asks the kernel without taking a child's status away."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _reap_any(usage: Usage) -> bool:
    """Reap what has ended; True while a child is left."""
    try:
        while True:
            pid, _, used = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return True
            usage.add(used)
    except ChildProcessError:
        return False


def _kill_tree(pid: int) -> None:
    """Kill a process, then those below it: in this order none of them can have one more child than we see."""
    pending = [pid]
    while pending:
        current = pending.pop()
        with suppress(ProcessLookupError, PermissionError):
            os.kill(current, signal.SIGKILL)
        pending += children_of(current)


def _reap(pids: list[int], usage: Usage) -> bool:
    """Reap those of our children that have ended; True when one had."""
    reaped = False
    for pid in pids:
        with suppress(ChildProcessError):
            ended, _, used = os.wait4(pid, os.WNOHANG)
            if ended:
                usage.add(used)
                reaped = True
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
