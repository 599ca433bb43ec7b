"""The runs of this executor: takes a slot, hands over, and gives the slot back however the run ends.

Between `Ownership` (which may refuse), `Lot` (which has the processes) and `Run` (which reads what they say). Invariant: a
run counts in `Ownership` from before its start until it is over, by its own word or its supervisor's; a slot stays taken
(`Tenancy`) until nothing of it is left.

What runs leave in the directories that they share is swept when nobody runs; a run that starts meanwhile waits for that,
5 s at most. Contexts and the agent keep theirs for as long as they live.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from execpool.executor import frames
from execpool.executor.server import errors
from execpool.executor.server.claim import Ownership
from execpool.executor.server.lot import Lot
from execpool.executor.server.run import Run
from execpool.executor.server.runner_link import RunnerLink, RunnerUnavailable
from execpool.executor.server.scan import wanted_imports
from execpool.executor.server.slot import SlotGone
from execpool.executor.server.tenancy import Tenancy
from execpool.protocol import ExecuteRequest, RunReason

log = logging.getLogger("execpool.executor")

_SWEEP_SECONDS = 5.0


class Runs:
    """All executions in progress. `on_change` is called when a claim's idle time may have begun or ended."""

    def __init__(self, ownership: Ownership, socket_dir: Path, on_change: Callable[[], None]) -> None:
        self._ownership = ownership
        self._on_change = on_change
        self._running: dict[str, Run] = {}
        self._tenancies: dict[str, Tenancy] = {}
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._clean = asyncio.Event()
        self._clean.set()
        self.link = RunnerLink(socket_dir, self)
        self.lot = Lot(self.link, ownership.slots)
        self.file_keepers = 0
        """Contexts that may have files in the directories that runs share."""
        self.env: dict[str, str] = {}
        """Variables of all that runs under the claim, shared with envd, which may change them."""

    @property
    def ready(self) -> bool:
        """True when executions can be started."""
        return self.link.ready and self.lot.usable

    async def start(self, execution_id: str, request: ExecuteRequest) -> Run:
        """Start a run in a fresh process; it has begun, or has already been stopped, when this returns.

        Raises:
            Refusal: it did not start.
        """
        number = self.admit(execution_id)
        run = None
        try:
            await self._swept()
            run = await self._hand_over(execution_id, number, request)
        finally:
            if run is None:
                self._ownership.disprove(execution_id, now=time.monotonic())
                self._on_change()
        return run

    def admit(self, execution_id: str, *, in_context: bool = False) -> int:
        """Take a slot, unless a context is what runs it; return the execution's number.

        Raises:
            Refusal: it may not start now.
        """
        if not self.ready:
            raise errors.NotReady("RunnerNotReady", "the runner is starting")
        if any(run.end is not None for run in self._running.values()):
            raise errors.NotReady("RunnerNotReady", "the runner is ending a run that resists")
        return self._ownership.begin(execution_id, now=time.monotonic(), takes_slot=not in_context)

    def add(self, run: Run) -> None:
        """Count an execution as in progress, until `remove`."""
        self._running[run.execution_id] = run
        self._none_left.clear()
        log.info("run started", extra={"principal": self._ownership.principal, "execution_id": run.execution_id})

    def remove(self, run: Run) -> None:
        """Count it no more."""
        if self._running.pop(run.execution_id, None) is None:
            return
        self._ownership.end(run.execution_id, now=time.monotonic())
        if run.end is not None:
            log.info(
                "run ended",
                extra={"execution_id": run.execution_id, "status": run.end.status, "reason": run.end.reason},
            )
        if not self._running:
            self._none_left.set()
        self._on_change()

    def stop_all(self, wish: RunReason) -> None:
        """End every execution."""
        for run in list(self._running.values()):
            run.stop(wish)

    async def none_left(self) -> None:
        """Wait until no execution is in progress."""
        await self._none_left.wait()

    @property
    def was_ready(self) -> bool:
        """True once executions could be started; before that, the executor is starting."""
        return self.lot.was_usable

    def runner_ready(self) -> None:
        """Part of the link's `Listener`."""
        self._clean.set()
        self.lot.open()

    def imports_ready(self, imports: frames.Imports) -> None:
        """Part of the link's `Listener`."""
        self.lot.imports_ready(imports)

    def imports_away(self, imports: frames.Imports) -> None:
        """Part of the link's `Listener`."""
        self.lot.imports_away(imports)

    def runner_swept(self) -> None:
        """Part of the link's `Listener`."""
        self._clean.set()

    def runner_lost(self) -> None:
        """Part of the link's `Listener`: whatever ran there is over."""
        self._clean.set()
        self.lot.empty()

    def stop_run(self, run: Run) -> None:
        """Part of a run's `Keeper`."""
        self._tenancies[run.execution_id].slot.stop()

    def force_run(self, run: Run) -> None:
        """Part of a run's `Keeper`."""
        tenancy = self._tenancies.get(run.execution_id)
        if tenancy is not None:
            with suppress(RunnerUnavailable):
                self.link.send(frames.End(tenancy.slot.name))

    def run_over(self, run: Run) -> None:
        """Part of a run's `Keeper`."""
        tenancy = self._tenancies.get(run.execution_id)
        if tenancy is not None:
            tenancy.linger(self)
        self.remove(run)

    def run_stuck(self, why: str) -> None:
        """Part of a run's `Keeper`."""
        self.link.drop(why)

    def sweep(self) -> None:
        """Have the shared directories emptied, if nobody has files there that are still wanted."""
        if self._tenancies or self.file_keepers or self.link.agents_started:
            return
        with suppress(RunnerUnavailable):
            self.link.send(frames.Sweep())
            self._clean.clear()

    async def _swept(self) -> None:
        if not self._clean.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._clean.wait()

    async def _hand_over(self, execution_id: str, number: int, request: ExecuteRequest) -> Run:
        imports = wanted_imports(request.code)
        env = {**self.env, **(request.env_vars or {})}
        run = Run(execution_id, request, self)
        language, limit = request.language or "python", float(request.timeout_seconds)
        order = frames.Request(request.code, language, env, limit, run.nonce)
        while True:
            slot = await self.lot.take(imports)
            try:
                slot.hand_over(order)
            except SlotGone:
                slot.lose()
                continue
            self._tenancies[execution_id] = slot.occupant = Tenancy(run, slot, self._vacated)
            self.add(run)
            assert slot.pipes is not None  # noqa: S101 - it was parked
            run.begin(slot.pipes, number)
            return run

    def _vacated(self, run: Run, ended: frames.Ended | None) -> None:
        self._tenancies.pop(run.execution_id, None)
        if ended is not None and ended.left_files:
            self.sweep()
