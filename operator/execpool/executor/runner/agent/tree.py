"""Ends a command with everything that it started and that can still be told to be its own.

That is: its session (a command leads one), its process group, and what descends from it. What it put into a session of
its own and then abandoned (`setsid daemon &`) survives, as it does in E2B, and ends with the claim.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_BUDGET_SECONDS = 1.0
"""A command that forks as fast as it is killed is given up after this; the agent's end takes it."""
_PAUSE_SECONDS = 0.002
_EMPTY_LOOKS = 2
"""One is not enough: what was listed may have ended, and its children been born, between the list and the look."""


def end(leader: int) -> bool:
    """Kill a command and all that is its own, until nothing of it is found; False when it was given up."""
    deadline, empty = time.monotonic() + _BUDGET_SECONDS, 0
    while empty < _EMPTY_LOOKS:
        victims = _members(leader)
        empty = 0 if victims else empty + 1
        for pid in victims:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True


def _members(leader: int) -> list[int]:
    """Return the living processes of a command."""
    table = {pid: (parent, group, session) for pid, parent, group, session in _processes()}
    members = {pid for pid, (_, group, session) in table.items() if leader in (pid, group, session)}
    grown = True
    while grown:
        more = {pid for pid, (parent, _, _) in table.items() if parent in members} - members
        members |= more
        grown = bool(more)
    return sorted(members)


def _processes() -> Iterator[tuple[int, int, int, int]]:
    """Yield (pid, parent, group, session) of all that have not ended."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - read often
        if name.isdigit():
            with suppress(OSError):
                # "pid (name) state parent group session ...": the name may hold anything, so read after its last bracket.
                after = Path(f"/proc/{name}/stat").read_bytes().rpartition(b")")[2].split()
                if after[0] not in (b"Z", b"X"):
                    yield int(name), int(after[1]), int(after[2]), int(after[3])
