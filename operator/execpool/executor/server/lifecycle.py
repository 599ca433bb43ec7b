"""When an executor ends, and how: the only place that decides to leave.

    Idle        claimed, and no run for idleSeconds
    SessionOver the deadline of the session that has it has come, or was set to now
    Age         never claimed, and too old
    Retired     told to by the operator or a gateway
    Terminated  SIGTERM
    ClaimedBefore   the server was restarted, and somebody's code has run here (`serve`)

In all of them: unready first, then runs are ended and their streams get an end line, then the runner is told to leave for
good, then both ports close. Exit status 0 makes the kubelet leave the container alone (`restartPolicy: OnFailure`).
"""

import asyncio
import logging
import time

from execpool.executor.server.claim import Ownership
from execpool.executor.server.runs import Runs
from execpool.protocol import ExecutorPhase, Expect, RunReason

log = logging.getLogger("execpool.executor")

_RUNS_END_SECONDS = 5.0


class Lifecycle:
    """Waits for the reason to leave."""

    def __init__(self, ownership: Ownership) -> None:
        self._ownership = ownership
        self._changed = asyncio.Event()
        self._why = ""

    def changed(self) -> None:
        """Look again: a claim, a run's end, or a retirement may have changed the moment of the end."""
        self._changed.set()

    def terminate(self) -> None:
        """Leave because of a signal."""
        self._retire("Terminated")
        self.changed()

    async def reason_to_leave(self) -> str:
        """Wait until this executor must end; it is retired then, so that nothing more is taken."""
        while True:
            self._changed.clear()
            if self._ownership.phase is ExecutorPhase.RETIRED:
                return self._why or "Retired"
            ends_at = self._ownership.ends_at()
            left = None if ends_at is None else ends_at - time.monotonic()
            if left is not None and left <= 0:
                self._retire(self._why_over())
                continue
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _why_over(self) -> str:
        if self._ownership.phase is ExecutorPhase.WARM:
            return "Age"
        return "Idle" if self._ownership.session(0.0) is None else "SessionOver"

    def _retire(self, why: str) -> None:
        if self._ownership.phase is not ExecutorPhase.RETIRED:
            self._why = why
            self._ownership.retire(Expect.ANY)
            log.info("retired", extra={"why": why})


async def end_runs(runs: Runs) -> None:
    """End what still runs; every stream gets its end line. A runner that does not answer is left behind."""
    runs.stop_all(RunReason.RETIRED)
    try:
        async with asyncio.timeout(_RUNS_END_SECONDS):
            await runs.none_left()
    except TimeoutError:
        log.warning("runs left behind")
