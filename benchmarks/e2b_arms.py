"""One arm of a run: an emulator of its own, and a process of workers on it. `e2b_limits.py` plays several beside each other.

begin      limits far away; a sandbox for each worker that executes; the process connects and says `ready`
go         the limits of the scene, a line to the process, and from then on the ledger counts
end        the process' standard input is closed; it tells who got how much and is gone
"""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.component.emulator_world import KEY, EmulatorWorld

from benchmarks.figures import BenchmarkError

CODE, VALUE = "1+1", "2"
REPOSITORY = Path(__file__).resolve().parents[1]
READY_SECONDS = 60.0
FAR_AWAY = {"sandboxes": 100, "creates": 100, "creates_burst": 100, "executions_per_minute": 0}


@dataclass(frozen=True)
class Errand:
    """What a process of workers is told.

    Attributes:
        sandboxes: E2B's answers to their creation, one for each worker that executes.
        creates_per_second: what our account declares.
        executions_per_minute: the same; None where nobody knows.
    """

    url: str
    sandboxes: list[dict[str, Any]]
    creates_per_second: int
    executions_per_minute: int | None

    @property
    def connection(self) -> dict[str, str]:
        """What the SDK is told."""
        return {"api_key": KEY, "api_url": self.url, "sandbox_url": self.url}

    @classmethod
    def read(cls, text: str) -> Self:
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Tally:
    """How often each worker got what it wanted."""

    creates: list[int] = field(default_factory=list)
    executions: list[int] = field(default_factory=list)

    @classmethod
    def empty(cls, errand: Errand) -> Self:
        workers = len(errand.sandboxes)
        return cls([0] * workers, [0] * workers)

    def written(self) -> str:
        return json.dumps(asdict(self))


@dataclass
class Arm:
    """One policy on an account of its own."""

    name: str
    world: EmulatorWorld
    program: tuple[str, ...]
    _process: asyncio.subprocess.Process | None = None

    async def begin(self, workers: int, creates_per_second: int, executions_per_minute: int | None) -> None:
        """Start the workers; they wait."""
        self.limit(**FAR_AWAY)
        sandboxes = [self._made() for _ in range(workers)]
        errand = Errand(self.world.url, sandboxes, creates_per_second, executions_per_minute)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", *self.program, json.dumps(asdict(errand))),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=REPOSITORY,
        )
        if await self._said() != "ready":
            raise BenchmarkError(f"{self.name} did not get ready")

    def limit(self, **changes: int) -> None:
        """Set limits of the account; its rates begin anew."""
        reply = self.world.admin("PATCH", "/account", changes)
        if reply.status != 200:
            raise BenchmarkError(f"the emulator does not take {changes}: {reply.body!r}")

    def go(self) -> None:
        """Let the workers begin."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def end(self) -> Tally:
        """End the workers and all sandboxes."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        told = await self._said()
        await self.stop()
        self.world.clear()
        return Tally(**json.loads(told))

    async def stop(self) -> None:
        """See that the process is gone."""
        if self._process is None:
            return
        with suppress(ProcessLookupError, TimeoutError):
            await asyncio.wait_for(self._process.wait(), 10)
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None

    async def _said(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS)
        if not line:
            raise BenchmarkError(f"the workers of {self.name} ended early")
        return line.decode().strip()

    def _made(self) -> dict[str, Any]:
        reply = self.world.rest("POST", "/v2/sandboxes", {"templateID": "code-interpreter-v1", "timeout": 3600})
        if reply.status != 201:
            raise BenchmarkError(f"the emulator made no sandbox: {reply.body!r}")
        made: dict[str, Any] = reply.json()
        return made
