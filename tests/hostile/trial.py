"""Runs hostile programs on a ground and says what did not hold. The same for a local executor and for a real pod."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from tests.hostile.client import MAX_BODY, Answer, Holder
from tests.hostile.commands import Commands
from tests.hostile.footprint import Footprint
from tests.hostile.model import ENDS, MARK, Program, Targets

ANSWER_SECONDS = 1.0
"""After a run's limit."""
_MEASURING_SECONDS = 0.2
"""What this process may lose itself on a busy machine; reports show the longest time as it was."""
_QUIET_SECONDS = 15.0
"""A thread of Monty's pool that is not needed ends after 10."""
_CONTEXT_SECONDS = 10.0
"""To make one after a fork bomb whose supervisor the kernel ended, for want of memory: the runner itself ends it then."""
_TRIES = 2
_EMPTY_PLACES = """
import os, shutil
for place in (os.path.expanduser("~"), os.environ["TMPDIR"], "/dev/shm"):
    for entry in os.scandir(place):
        shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else os.unlink(entry.path)
"""
_MOST_SLOW = 8
"""Programs that may be slow once. The machine is shared; what a program does to its executor, it does every time."""
_MONTY_ENDS = ENDS | {"NotSupported"}
Size = tuple[int, int, tuple[tuple[str, int, int], ...]]


class Ground(Protocol):
    """Where programs are tried, seen from outside of it."""

    holder: Holder
    targets: Targets
    canaries: tuple[str, ...]
    """What no program may ever learn."""
    calm_seconds: float
    """How long the footprint must stay the same before it counts as that of an idle executor."""

    def footprint(self) -> Footprint:
        """Return what there is now."""

    def files(self) -> list[str]:
        """Return what lies in the directories that runs share."""


@dataclass
class Report:
    """What a campaign found."""

    tried: int = 0
    problems: list[str] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)
    latest: float = 0.0
    """Longest time from a limit to the answer."""
    waited: float = 0.0
    """Longest wait for a start."""
    polite: list[float] = field(default_factory=list)
    """Seconds of the polite runs beside."""
    baseline: Size = (0, 0, ())
    """Processes, tasks, and bytes and names on file systems, before the first program."""
    afterwards: Size = (0, 0, ())
    """The same after the last one."""


class Campaign:
    """Programs of one variant (stateless, context, monty, command) on one ground."""

    def __init__(self, ground: Ground, variant: str, commands: Commands | None = None) -> None:
        self._ground = ground
        self._variant = variant
        self._commands = commands
        self._baseline = Footprint(())
        self._current: Program | None = None
        """The program being tried, which a polite run beside may suffer from."""
        self._slow: dict[str, Program] = {}
        """Programs with which something took too long; each is tried a second time in the end."""
        self._is_second_time = False
        self.report = Report()

    async def run(self, programs: Iterable[Program], *, beside: bool = True) -> Report:
        """Try every program, one after the other, with a polite run beside all the time."""
        await self._settle()
        polite = asyncio.create_task(self._be_polite()) if beside else None
        for program in programs:
            await self._try(program)
        await self._try_slow_ones_again()
        if polite is not None:
            polite.cancel()
            with suppress(asyncio.CancelledError):
                await polite
        await self._clean_up()
        await self._use_every_slot()
        await self._quiet("the campaign")
        return self.report

    async def _try_slow_ones_again(self) -> None:
        self._is_second_time = True
        for program in list(self._slow.values()):
            await self._try(program)
            self.report.tried -= 1

    async def _settle(self) -> None:
        """Learn what there is when nothing runs and nothing is being prepared any more."""
        await self._use_every_slot()
        await self._clean_up()
        calm_since, deadline = time.monotonic(), time.monotonic() + 60
        while time.monotonic() - calm_since < self._ground.calm_seconds and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            now = self._ground.footprint()
            if now.size() != self._baseline.size():
                self._baseline, calm_since = now, time.monotonic()
        self.report.baseline = self._baseline.size()

    async def _use_every_slot(self) -> None:
        """Make what is made at a first use; the end of the last run is also when shared directories are swept."""
        await asyncio.gather(*(self._ground.holder.run("sum(range(10**5))", 5) for _ in range(4)))

    async def _clean_up(self) -> None:
        """Remove what contexts and commands wrote, which stays for the claim, as its holder would."""
        if self._commands is not None:
            await self._commands.run(_EMPTY_PLACES, 30)
            await self._commands.end_all()
        elif self._variant == "context" and (context := await self._ground.holder.open_context()) is not None:
            await self._ground.holder.run(_EMPTY_PLACES, 30, context)
            await self._ground.holder.close_context(context)

    async def _try(self, program: Program) -> None:
        self.report.tried += 1
        self._current = program
        code = self._ground.targets.code(program)
        context: str | None = None
        try:
            if self._variant == "context":
                context = await self._context(program)
            if self._commands is None:
                answer = await self._ground.holder.run(code, program.seconds, context)
            else:
                answer = await self._commands.run(code, program.seconds)
        except (AssertionError, OSError, TimeoutError) as error:
            self._found(program.name, f"no answer: {type(error).__name__} {error}")
            return
        finally:
            if context is not None:
                await self._ground.holder.close_context(context)
        self._judge(program, answer)
        await self._aftermath(program)

    async def _context(self, program: Program) -> str | None:
        """Open a context; while the one before is still being ended there may be no room for another process."""
        began = time.monotonic()
        while True:
            try:
                opened = await self._ground.holder.open_context()
                self.report.waited = max(self.report.waited, time.monotonic() - began)
                return opened
            except AssertionError as error:
                if time.monotonic() - began > _CONTEXT_SECONDS:
                    raise AssertionError(f"before {program.name}: {error}") from error
                await asyncio.sleep(0.1)

    def _judge(self, program: Program, answer: Answer) -> None:
        status = answer.status
        self.report.ends[status] = self.report.ends.get(status, 0) + 1
        self.report.latest = max(self.report.latest, answer.seconds - program.seconds)
        self.report.waited = max(self.report.waited, answer.waited)
        if answer.seconds > program.seconds + ANSWER_SECONDS + _MEASURING_SECONDS:
            self._was_slow(program, f"answered {answer.seconds - program.seconds:.2f} s after its limit")
        allowed = {"stateless": program.ends, "monty": _MONTY_ENDS}.get(self._variant, ENDS)
        if status not in allowed:
            self._found(program.name, f"ended as {status} ({answer.end}), not {sorted(allowed)}")
        if [event["type"] for event in answer.events].count("end_of_execution") != 1:
            self._found(program.name, "not exactly one end of its stream")
        if any(event.get("type") == "broken line" for event in answer.events) or len(answer.raw) > MAX_BODY:
            self._found(program.name, "a stream that is broken or too long")
        printed = answer.printed()
        for line in printed.splitlines():
            if MARK in line:
                self._found(program.name, line[:300])
        for canary in self._ground.canaries:
            if canary.encode() in answer.raw:
                self._found(program.name, f"the canary {canary[:12]}... was seen")
        if self._variant == "stateless" and program.says not in printed:
            self._found(program.name, f"did not say {program.says!r} but {printed[-300:]!r}")

    async def _aftermath(self, program: Program) -> None:
        """Look at what the program cannot report: the server, the next run."""
        try:
            slow = await self._ground.holder.healthy()
            if slow > 1.0:
                self._was_slow(program, f"the server took {slow:.2f} s to say that it lives")
            after = await self._ground.holder.run("1 + 1", 5)
            if (after.status, after.shown()) != ("Succeeded", "2"):
                self._found(program.name, f"after it, 1 + 1 gave {after.status} {after.shown()!r} {after.end}")
            if self._commands is not None:
                await self._after_a_command(program)
        except (AssertionError, OSError, TimeoutError) as error:
            self._found(program.name, f"after it: {type(error).__name__} {error}")

    async def _after_a_command(self, program: Program) -> None:
        """The next command works, and the end of the agent is the end of all that any command left."""
        assert self._commands is not None
        for _ in range(_TRIES):
            after = await self._commands.run("print('well')", 20)
            if "aborted" not in str(after.end):
                break  # said by the agent that the program had stopped, when it was found out and ended
        if "well" not in after.printed():
            self._found(program.name, f"after it, the next command gave {after.end} {after.printed()[:300]!r}")
        await self._commands.end_all()

    async def _quiet(self, what: str) -> None:
        """Wait until nothing of any program is left."""
        deadline = time.monotonic() + _QUIET_SECONDS
        while True:
            now, files = self._ground.footprint(), self._ground.files()
            left = now.beyond(self._baseline)
            if not left and not files:
                break
            if time.monotonic() > deadline:
                self._found(what, f"left {left or ''} {files[:20]}")
                break
            await asyncio.sleep(0.1)
        self.report.afterwards = now.size()

    async def _be_polite(self) -> None:
        while True:
            began = time.monotonic()
            try:
                answer = await self._ground.holder.run("sum(range(10))", 10)
                if answer.status == "TimedOut" and self._current is not None:
                    self._was_slow(self._current, f"a polite run beside it: {answer.end}")
                elif (answer.status, answer.shown()) != ("Succeeded", "45"):
                    self._found(self._beside(), f"{answer.status} {answer.end}")
            except (AssertionError, OSError, TimeoutError) as error:
                self._found(self._beside(), f"{type(error).__name__} {error}")
            self.report.polite.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    def _beside(self) -> str:
        return f"a polite run beside {self._current.name if self._current is not None else 'nothing'}"

    def _was_slow(self, program: Program, what: str) -> None:
        """Take note of a time that was not kept; it counts when it is not kept a second time, or with many programs."""
        self._slow.setdefault(program.name, program)
        if self._is_second_time or len(self._slow) > _MOST_SLOW:
            self._found(program.name, what)
        else:
            print(f"[{self._variant}] to be tried again: {program.name}: {what}")

    def _found(self, where: str, what: str) -> None:
        self.report.problems.append(f"[{self._variant}] {where}: {what}")
