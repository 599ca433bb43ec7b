"""Runs hostile programs on a ground and says what did not hold. The same for a local executor and for a real pod."""

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from tests.hostile.client import MAX_BODY, Answer, Holder
from tests.hostile.model import ENDS, MARK, Program, Targets

ANSWER_SECONDS = 1.0
"""After a run's limit."""
_MEASURING_SECONDS = 0.2
"""What this process may lose itself on a busy machine; reports show the longest time as it was."""
_QUIET_SECONDS = 8.0
_CONTEXT_SECONDS = 3.0
_MONTY_ENDS = ENDS | {"NotSupported"}


class Ground(Protocol):
    """Where programs are tried, seen from outside of it."""

    holder: Holder
    targets: Targets
    canaries: tuple[str, ...]
    """What no program may ever learn."""
    calm_seconds: float
    """How long the number of processes must stay the same before it counts as that of an idle executor."""

    def processes(self) -> list[str]:
        """Return the processes that user code may have made, those of the runner itself included."""

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


class Campaign:
    """Programs of one variant (stateless, context, monty) on one ground."""

    def __init__(self, ground: Ground, variant: str) -> None:
        self._ground = ground
        self._variant = variant
        self._baseline = 0
        self._current = ""
        """The program being tried, which a polite run beside may suffer from."""
        self.report = Report()

    async def run(self, programs: Iterable[Program], *, beside: bool = True) -> Report:
        """Try every program, one after the other, with a polite run beside all the time."""
        await self._settle()
        polite = asyncio.create_task(self._be_polite()) if beside else None
        for program in programs:
            await self._try(program)
        if polite is not None:
            polite.cancel()
            with suppress(asyncio.CancelledError):
                await polite
        await self._quiet("the campaign")
        return self.report

    async def _settle(self) -> None:
        """Learn how many processes there are when nothing runs and nothing is being prepared any more."""
        await self._ground.holder.run("1", 5)
        calm_since, deadline = time.monotonic(), time.monotonic() + 60
        while time.monotonic() - calm_since < self._ground.calm_seconds and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            count = len(self._ground.processes())
            if count != self._baseline:
                self._baseline, calm_since = count, time.monotonic()

    async def _try(self, program: Program) -> None:
        self.report.tried += 1
        self._current = program.name
        code = self._ground.targets.code(program)
        context = await self._context(program) if self._variant == "context" else None
        try:
            answer = await self._ground.holder.run(code, program.seconds, context)
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
                return await self._ground.holder.open_context()
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
            self._found(program.name, f"answered {answer.seconds - program.seconds:.2f} s after its limit")
        allowed = {"stateless": program.ends, "context": ENDS, "monty": _MONTY_ENDS}[self._variant]
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
                self._found(program.name, f"the server took {slow:.2f} s to say that it lives")
            after = await self._ground.holder.run("1 + 1", 5)
            if (after.status, after.shown()) != ("Succeeded", "2"):
                self._found(program.name, f"after it, 1 + 1 gave {after.status} {after.shown()!r} {after.end}")
        except (AssertionError, OSError, TimeoutError) as error:
            self._found(program.name, f"after it: {type(error).__name__} {error}")

    async def _quiet(self, what: str) -> None:
        """Wait until nothing of any program is left."""
        deadline = time.monotonic() + _QUIET_SECONDS
        while True:
            processes, files = self._ground.processes(), self._ground.files()
            if len(processes) <= self._baseline and not files:
                return
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.1)
        if len(processes) > self._baseline:
            self._found(what, f"left {len(processes) - self._baseline} processes: {processes[:20]}")
        if files:
            self._found(what, f"left files: {files[:20]}")

    async def _be_polite(self) -> None:
        while True:
            began = time.monotonic()
            try:
                answer = await self._ground.holder.run("sum(range(10))", 10)
                if (answer.status, answer.shown()) != ("Succeeded", "45"):
                    self._found(f"a polite run beside {self._current}", f"{answer.status} {answer.end}")
            except (AssertionError, OSError, TimeoutError) as error:
                self._found(f"a polite run beside {self._current}", f"{type(error).__name__} {error}")
            self.report.polite.append(time.monotonic() - began)
            await asyncio.sleep(0.05)

    def _found(self, where: str, what: str) -> None:
        self.report.problems.append(f"[{self._variant}] {where}: {what}")
