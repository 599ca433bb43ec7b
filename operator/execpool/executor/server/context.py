"""One context: a name for a process that keeps its state, and may be another process after each restart.

    no process ──start──► starting ──set up──► idle ⇄ running one execution
        ▲                                            │ the process ends, or has to be ended
        └────────────────────────────────────────────┘ state lost: ContextRestarting

Whoever starts it or hands it an execution holds its `turn`, so there is one at a time. An execution that is to stop is
interrupted first (KeyboardInterrupt), since the state is worth keeping; the process is ended when that does not help.
What a context says of its executions' ends is its own word.
"""

import asyncio
import logging
from contextlib import suppress

from execpool.executor import frames
from execpool.executor.frames import Imports, Kind
from execpool.executor.server import errors
from execpool.executor.server.run import Run
from execpool.executor.server.runner_link import RunnerUnavailable
from execpool.executor.server.runs import Runs
from execpool.executor.server.slot import Slot, SlotGone, Watcher
from execpool.protocol import ExecuteRequest, RunReason, RunStatus

log = logging.getLogger("execpool.executor")

_GRACE_SECONDS = 0.4
"""Between an interrupt and the end of the process; with what the end takes, an answer comes within a second."""
_START_SECONDS = 15.0
_KILLED = frames.Ended(exit_code=-9)


class Context:
    """One context; both `Occupant` of its slot and `Keeper` of its executions."""

    def __init__(self, name: str, language: str, cwd: str | None, runs: Runs) -> None:
        self.name = name
        self.language = language
        self.cwd = cwd
        self.turn = asyncio.Lock()
        self.waiting = 0
        """Executions that have not begun."""
        self.restarts = 0
        """What was accepted before one of them is not run after it."""
        self._runs = runs
        self._slot: Slot | None = None
        self._arrived = asyncio.Event()
        self._current: Run | None = None
        self._executions = 0
        self._watcher = Watcher(parked=self._has_parked, ended=self._has_ended, gone=self._has_gone)

    async def start(self) -> None:
        """Have a process, set up in its directory, unless there is one.

        Raises:
            Refusal: there is none, or it could not be set up.
        """
        if self._slot is not None:
            return
        self._executions = 0
        self._arrived.clear()
        imports = self._runs.lot.best([Imports.SCIENCE]) if self.language == "python" else Imports.BASE
        self._slot = self._runs.lot.fork(Kind.CONTEXT, imports, self._watcher)
        self._runs.file_keepers += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(_START_SECONDS):
                await self._arrived.wait()
        await self._set_up()

    def close(self) -> None:
        """End its process; the state is lost."""
        slot = self._slot
        if slot is not None:
            slot.occupant = None
            self.ended(_KILLED)
            slot.close()
            self._has_gone(slot, "Closed")

    async def execute(self, run: Run) -> None:
        """Have its process run something, and wait until that is over. The turn is held.

        Raises:
            Refusal: there is no process to do so.
            SlotGone: its process ended before it began.
        """
        await self.start()
        slot = self._slot
        if slot is None:
            raise SlotGone
        await slot.calm()
        if run.over:
            return
        request = run.request
        env = request.env_vars or {}
        order = frames.Request(request.code, self.language, env, float(request.timeout_seconds), run.nonce)
        self._executions += 1
        await self._do(order, run, self._executions)

    def ended(self, ended: frames.Ended | None) -> None:
        """Part of `Occupant`: its process is over."""
        current, self._current = self._current, None
        if current is not None:
            current.ended(ended)

    def stop_run(self, run: Run) -> None:
        """Part of `Keeper`: interrupt it, and end the process when that has not helped."""
        if self._slot is None or run is not self._current:
            return
        if run.wish is RunReason.RETIRED:
            self._slot.stop()
            return
        self._slot.interrupt()
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._stop_still, run)

    def force_run(self, run: Run) -> None:
        """Part of `Keeper`."""
        if self._slot is not None and run is self._current:
            with suppress(RunnerUnavailable):
                self._runs.link.send(frames.End(self._slot.name))

    def run_over(self, run: Run) -> None:
        """Part of `Keeper`."""
        if run is self._current:
            self._current = None
            if self._slot is not None and self._slot.pipes is not None:
                self._slot.pipes.discard()
        self._runs.remove(run)

    def run_stuck(self, why: str) -> None:
        """Part of `Keeper`."""
        self._runs.link.drop(why)

    def _stop_still(self, run: Run) -> None:
        if self._slot is not None and run is self._current:
            self._slot.stop()

    async def _do(self, order: frames.Request, run: Run, number: int) -> None:
        slot = self._slot
        if slot is None or slot.pipes is None:  # its process ended meanwhile
            raise SlotGone
        slot.pipes.release()
        slot.hand_over(order)
        self._current = run
        run.begin(slot.pipes, number)
        await run.is_over()

    async def _set_up(self) -> None:
        """Change to its directory and keep the variables of the claim, by an execution that nobody hears of."""
        run = Run("", ExecuteRequest("", timeout_seconds=_START_SECONDS), self, in_context=True)
        env, cwd = dict(self._runs.env), self.cwd or ""
        order = frames.Request("", self.language, env, _START_SECONDS, run.nonce, setup=True, cwd=cwd)
        with suppress(SlotGone):
            await self._do(order, run, 0)
        if run.end is None or run.end.status != RunStatus.SUCCEEDED:
            self.close()
            where = f" in {self.cwd[:200]!r}" if self.cwd else ""
            raise errors.ContextFailed("ContextFailed", f"the context could not be started{where}")

    def _has_parked(self, slot: Slot) -> None:
        slot.occupant = self
        self._arrived.set()

    def _has_ended(self, slot: Slot, _ended: frames.Ended) -> None:
        slot.close()
        self._has_gone(slot, "Ended")

    def _has_gone(self, slot: Slot, why: str) -> None:
        if slot is self._slot:
            log.info("context ended", extra={"context": self.name, "why": why})
            self._slot = None
            self._runs.file_keepers -= 1
        self._arrived.set()
