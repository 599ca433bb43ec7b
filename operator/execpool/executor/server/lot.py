"""The parking lot: clean processes that wait for a request, more than can be in use at once, of each kind of imports.

A slot of kind Run stays for many runs: its supervisor parks the next process by itself. What is gone is forked again,
after a pause that grows while no process can be parked, so that a container which is too small is not kept busy by it.
Whoever finds nothing parked waits for the next one, first come first served.
"""

import asyncio
import logging
import secrets
import socket
from collections import deque
from collections.abc import Iterable
from weakref import WeakSet

from execpool.executor import frames
from execpool.executor.frames import Imports, Kind
from execpool.executor.server import errors
from execpool.executor.server.runner_link import RunnerLink, RunnerUnavailable
from execpool.executor.server.slot import Slot, Watcher

log = logging.getLogger("execpool.executor")

SPARE_SLOTS = 1
"""Parked while all others run, so that the next run does not wait for the last one's place to be cleaned."""
SCIENCE_SLOTS = 2
_WAIT_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0


class Lot:
    """All slots of kind Run, and the making of the others."""

    def __init__(self, link: RunnerLink, slots: int) -> None:
        self._link = link
        self._wanted = {Imports.BASE: slots + SPARE_SLOTS, Imports.SCIENCE: 0}
        self._most_science = min(slots, SCIENCE_SLOTS)
        self._made: WeakSet[Slot] = WeakSet()
        self._parked: dict[Imports, deque[Slot]] = {imports: deque() for imports in Imports}
        self._waiting: dict[Imports, deque[asyncio.Future[Slot]]] = {imports: deque() for imports in Imports}
        self._pause = _FIRST_PAUSE_SECONDS
        self._timers: list[asyncio.TimerHandle] = []
        self._own = Watcher(parked=self._has_parked, ended=self._has_ended, gone=self._has_gone)
        self.usable = False
        """True once a process has been parked since the runner came."""
        self.was_usable = False

    def open(self) -> None:
        """Fill it: the runner is there."""
        for _ in range(self._wanted[Imports.BASE]):
            self._fork_own(Imports.BASE)

    def imports_ready(self, imports: Imports) -> None:
        """Keep processes with these imports too."""
        if self._wanted[imports] == 0:
            self._wanted[imports] = self._most_science
            for _ in range(self._most_science):
                self._fork_own(imports)

    def imports_away(self, imports: Imports) -> None:
        """Do without them until they are ready again; who waits for them takes what there is.

        A slot that nobody uses is given up: it ends with what made it, or, asked for as that went, has not its imports.
        """
        self._wanted[imports] = 0
        for slot in self._own_slots(imports):
            if slot.occupant is None:
                slot.lose()
        waiting, self._waiting[imports] = self._waiting[imports], deque()
        self._waiting[Imports.BASE].extend(waiting)

    def empty(self) -> None:
        """Give up every slot: the runner is gone. Who waits, waits for the next one."""
        self.usable = False
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.imports_away(Imports.SCIENCE)
        for slot in list(self._made):
            slot.lose()

    async def take(self, imports: Imports) -> Slot:
        """Return a parked slot, which is the caller's until its run has ended.

        Raises:
            NotReady: none could be parked in time.
        """
        wanted = imports if self._wanted[imports] else Imports.BASE
        if self._parked[wanted]:
            return self._parked[wanted].popleft()
        waiting: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting[wanted].append(waiting)
        slot = None
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                slot = await waiting
        except TimeoutError as error:
            raise errors.NotReady("RunnerNotReady", "the runner has no process ready") from error
        finally:
            if slot is None:
                self._no_longer_waits(wanted, waiting)
        return slot

    def fork(self, kind: Kind, imports: Imports, watcher: Watcher) -> Slot:
        """Have a slot made for a caller who keeps it.

        Raises:
            NotReady: there is no runner to do so.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            name = secrets.token_hex(6)
            try:
                self._link.send(frames.Fork(name, kind, imports), [theirs.fileno()])
            except RunnerUnavailable as error:
                ours.close()
                raise errors.NotReady("RunnerNotReady", "the runner does not take runs") from error
        slot = Slot(name, kind, imports, ours, watcher)
        self._made.add(slot)
        return slot

    def best(self, imports: Iterable[Imports]) -> Imports:
        """Return the first of these imports that are to be had."""
        return next((each for each in imports if self._wanted[each]), Imports.BASE)

    def _fork_own(self, imports: Imports) -> None:
        self._timers = [timer for timer in self._timers if timer.when() > asyncio.get_running_loop().time()]
        if len(self._own_slots(imports)) >= self._wanted[imports]:
            return
        try:
            self.fork(Kind.RUN, imports, self._own)
        except errors.NotReady:
            return  # the runner's end fills the lot again
        except OSError as error:
            log.warning("slot not made", extra={"why": error.strerror})
            self._fork_later(imports)

    def _own_slots(self, imports: Imports) -> list[Slot]:
        """Return the slots of kind Run that there are, whatever they do."""
        return [slot for slot in self._made if slot.kind is Kind.RUN and slot.imports is imports and slot.is_open]

    def _has_parked(self, slot: Slot) -> None:
        self.usable = self.was_usable = True
        self._pause = _FIRST_PAUSE_SECONDS
        waiting = self._waiting[slot.imports]
        while waiting:
            first = waiting.popleft()
            if not first.done():
                first.set_result(slot)
                return
        self._parked[slot.imports].append(slot)

    def _has_ended(self, slot: Slot, _ended: frames.Ended) -> None:
        """A process that was parked has ended without a request: then something is wrong with its supervisor's place."""
        if slot in self._parked[slot.imports]:
            slot.lose()

    def _has_gone(self, slot: Slot, why: str) -> None:
        parked = self._parked[slot.imports]
        if slot in parked:
            parked.remove(slot)
        if not self._link.ready or self._wanted[slot.imports] == 0:
            return
        log.warning("slot lost", extra={"slot": slot.name, "why": why})
        self._fork_later(slot.imports)

    def _fork_later(self, imports: Imports) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(self._pause, self._fork_own, imports))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE_SECONDS)

    def _no_longer_waits(self, imports: Imports, waiting: "asyncio.Future[Slot]") -> None:
        """Take back what came in the same moment as its taker left."""
        queue = self._waiting[imports] if waiting in self._waiting[imports] else self._waiting[Imports.BASE]
        if waiting in queue:
            queue.remove(waiting)
        elif waiting.done() and not waiting.cancelled():
            self._has_parked(waiting.result())
