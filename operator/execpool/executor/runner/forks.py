"""The children of a zygote: which slot each serves, how they are ended, and what is done when one ended by force."""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from execpool.executor import frames
from execpool.executor.runner import agents, child, clean, processes, supervisor
from execpool.executor.runner.isolate import Tools

log = logging.getLogger("execpool.executor")


class Forks:
    """Supervisors and agents, by process."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._slots: dict[int, str] = {}
        self._survivors = False

    def fork(self, frame: frames.Fork, descriptor: int) -> None:
        """Fork what a slot needs; when that is impossible, the server sees the end of the slot's socket."""
        kind = frames.Kind(frame.kind)
        body: Callable[[], NoReturn]
        if kind is frames.Kind.AGENT:
            body = lambda: agents.run(descriptor, self._tools)  # noqa: E731 - two bodies of the same form
        else:
            body = lambda: supervisor.run(kind, descriptor, self._tools)  # noqa: E731 - as above
        try:
            self._slots[fork_for(body)] = frame.slot
        except OSError as error:
            log.warning("fork refused", extra={"slot": frame.slot, "reason": error.strerror})

    def end(self, slot: str) -> bool:
        """End a slot's process by force; False when there is none here."""
        for pid, name in self._slots.items():
            if name == slot:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                return True
        return False

    def ended(self, pid: int, status: int) -> bool:
        """Take note that a child has ended; True when it was one of these and may have left others behind."""
        slot = self._slots.pop(pid, None)
        if slot is None or status == 0:
            return False
        code = os.waitstatus_to_exitcode(status)
        log.warning("slot lost", extra={"slot": slot, "exit_code": code})
        self._survivors |= code == supervisor.SURVIVORS
        return True

    def end_orphans(self, spared: set[int]) -> bool:
        """End all children but these and those in `spared`; False when some would not end."""
        return processes.end_descendants(spare=spared | set(self._slots)) and not self._survivors

    def end_all(self, work_dir: Path) -> None:
        """End every child and what is below it, and what they leave in the work directory."""
        processes.end_descendants()
        for path in work_dir.glob(f"{clean.RUN_PREFIX}*"):
            clean.remove(path)


def fork_for(body: Callable[[], object]) -> int:
    """Fork a child that does one thing and ends; it can never return into the caller's code."""
    pid = os.fork()
    if pid:
        return pid
    status = child.BROKEN
    try:
        body()
        status = 0
    finally:
        os._exit(status)
