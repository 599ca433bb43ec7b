"""The runs of this executor: takes a slot, hands over, and gives the slot back however the run ends.

Between `Ownership` (which may refuse) and `Run` (which reads pipes). Invariant: a slot is taken exactly as long as its
run may have a process in the runner, or until the runner itself is lost.
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
from execpool.executor.server.run import Run
from execpool.executor.server.runner_link import RunnerLink, RunnerUnavailable
from execpool.protocol import ExecuteRequest, RunReason

log = logging.getLogger("execpool.executor")


class Runs:
    """All runs in progress. `on_change` is called when a claim's idle time may have begun or ended."""

    def __init__(self, ownership: Ownership, socket_dir: Path, on_change: Callable[[], None]) -> None:
        self._ownership = ownership
        self._on_change = on_change
        self._running: dict[str, Run] = {}
        self._none_left = asyncio.Event()
        self._none_left.set()
        self.link = RunnerLink(socket_dir, self)

    async def start(self, execution_id: str, request: ExecuteRequest) -> Run:
        """Start a run and return it once its code runs.

        Raises:
            Refusal: it did not start.
        """
        if not self.link.ready:
            raise errors.NotReady("RunnerNotReady", "the runner is starting")
        if any(run.end is not None for run in self._running.values()):
            raise errors.NotReady("RunnerNotReady", "the runner is ending a run that resists")
        number = self._ownership.begin(execution_id, now=time.monotonic())
        try:
            run = self._hand_over(execution_id, number, request)
        except errors.NotReady:
            self._ownership.disprove(execution_id, now=time.monotonic())
            raise
        await run.started()
        return run

    def stop_all(self, wish: RunReason) -> None:
        """End every run."""
        for run in list(self._running.values()):
            run.stop(wish)

    async def none_left(self) -> None:
        """Wait until no run is in progress."""
        await self._none_left.wait()

    def runner_ready(self) -> None:
        """Part of the link's `Listener`: nothing waits for it here."""

    def runner_lost(self) -> None:
        """Part of the link's `Listener`: whatever ran there is over."""
        for run in list(self._running.values()):
            run.lost()

    def run_started(self, run: Run) -> None:
        """Part of a run's `Keeper`."""
        log.info("run started", extra={"principal": self._ownership.principal, "execution_id": run.execution_id})

    def run_over(self, run: Run) -> None:
        """Part of a run's `Keeper`."""
        self._running.pop(run.execution_id, None)
        if run.refused is not None:
            self._ownership.disprove(run.execution_id, now=time.monotonic())
        else:
            self._ownership.end(run.execution_id, now=time.monotonic())
            self._log_end(run)
        if not self._running:
            self._none_left.set()
        self._on_change()

    def stop_run(self, run: Run) -> None:
        """Part of a run's `Keeper`."""
        with suppress(RunnerUnavailable):
            self.link.send(frames.Stop(run.execution_id))

    def run_stuck(self, why: str) -> None:
        """Part of a run's `Keeper`."""
        self.link.drop(why)

    def _hand_over(self, execution_id: str, number: int, request: ExecuteRequest) -> Run:
        try:
            run = Run(execution_id, number, request, self)
        except OSError as error:
            raise errors.NotReady("NoDescriptors", "the server has no descriptors left") from error
        try:
            self.link.send(frames.Start(execution_id, float(request.timeout_seconds)), run.pipes.for_runner())
        except RunnerUnavailable as error:
            run.pipes.close()
            raise errors.NotReady("RunnerNotReady", "the runner does not take runs") from error
        self._running[execution_id] = run
        self._none_left.clear()
        run.handed_over()
        return run

    def _log_end(self, run: Run) -> None:
        if run.end is not None:
            log.info(
                "run ended",
                extra={"execution_id": run.execution_id, "status": run.end.status, "reason": run.end.reason},
            )
