"""A run in its slot, for as long as there is a process: the run may be over before.

A process that has said that it is done has only to end; one that does not (it forged that word, or cannot) is ended, by
ever stronger means, while its client has long been answered.
"""

import asyncio
from collections.abc import Callable

from execpool.executor import frames
from execpool.executor.server.run import Keeper, Run
from execpool.executor.server.slot import Slot

_LINGER_SECONDS = 0.1
_FORCE_SECONDS = 4.1
_STUCK_SECONDS = 8.1


class Tenancy:
    """`Occupant` of a slot; tells `vacated` when there is no process any more."""

    def __init__(self, run: Run, slot: Slot, vacated: Callable[[Run, frames.Ended | None], None]) -> None:
        self.slot = slot
        self._run = run
        self._vacated = vacated
        self._timers: list[asyncio.TimerHandle] = []

    def linger(self, keeper: Keeper) -> None:
        """Give the process a moment to end by itself."""
        later = asyncio.get_running_loop().call_later
        self._timers += [
            later(_LINGER_SECONDS, self.slot.stop),
            later(_FORCE_SECONDS, keeper.force_run, self._run),
            later(_STUCK_SECONDS, keeper.run_stuck, "EndNotObeyed"),
        ]

    def ended(self, ended: frames.Ended | None) -> None:
        """Part of `Occupant`."""
        self._vacated(self._run, ended)
        self._run.ended(ended)
        for timer in self._timers:
            timer.cancel()
