"""The executors of one pool: which are warm, which serve whom, and how many of their slots are in use.

Truth is at the executor, and for a sandbox in its record (DESIGN rule 3); this table is what the watches and the executors'
own answers have told so far. It may be wrong, and then an executor says so: 409 teaches who holds it, 410 and 421 end it for
us, 412 makes us claim again. Nothing here polls: the watch, finished claims and released slots change the table, and each change wakes
whoever waits (`on_change`).

    watched, ready, holder None        warm: may be claimed for anybody
    holder P, no grant                 serves P, but must be claimed again first (we restarted, or its grant went stale)
    holder P, grant                    up to `grant.slots` executions of P at a time
    holder UNKNOWN                     serves somebody else; asked once who that is
    out_until in the future            not offered until then: it did not answer, or is gone for good

A claim is for life: nothing here gives an executor back. A pod ends by itself when it has been idle; a sandbox does not, so it
is *spent* here: it serves nobody any more, and its record is deleted once the last run there has ended.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from execpool.core.backoff import backoff
from execpool.core.claiming import SandboxRecord, Target
from execpool.core.sessions import Opening, Session
from execpool.gateway.executors import (
    ControlPlaneError,
    ExecutorClient,
    ExecutorError,
    GoneError,
    ImpostorError,
    TakenError,
)
from execpool.gateway.seats import Entry, Seat
from execpool.gateway.table import Table
from execpool.telemetry.metrics import CLAIMS

log = logging.getLogger(__name__)

UNKNOWN = "?"
"""Holder of an executor that serves a principal whom we do not know."""
REST_SECONDS = 0.5
"""First pause before an executor that did not answer is offered again; doubled each time."""
LONGEST_REST_SECONDS = 60.0
RECOVERIES_AT_ONCE = 32
CLOSE_SECONDS = 2.0


class Claims(Table):
    """The table of one pool, and what is done with it.

    Attributes:
        on_change: called after every change that may let somebody start.

    Args:
        pool: namespace and name.
        client: speaks to executors.
        now: UNIX seconds, which deadlines of sandboxes are given in.
    """

    def __init__(self, pool: tuple[str, str], client: ExecutorClient, now: Callable[[], float] = time.time) -> None:
        super().__init__(now)
        self.on_change: Callable[[], None] = lambda: None
        self.is_control_plane_away = False
        """The last claim of a sandbox failed because the API server did not answer."""
        self._pool = pool
        self._client = client
        self._tasks: set[asyncio.Task[None]] = set()
        self._abandoned: set[str] = set()

    # What the watch and the queue do to it

    def observe(self, target: Target) -> None:
        """Take in an executor as the watch shows it."""
        entry = self._entries.get(target.uid)
        if entry is None:
            entry = self._entries[target.uid] = Entry(target)
        else:
            entry.target = target
        if target.record is not None:
            self._follow(entry, target.record)
        self.on_change()

    def _follow(self, entry: Entry, record: SandboxRecord) -> None:
        """Take in who holds a sandbox by its record. A watch may be behind what we wrote, never ahead of it."""
        if record.principal is None:
            return
        if entry.holder in (None, UNKNOWN):
            self._hold(entry, record.principal)
        if entry.is_spent:
            return
        if entry.holder != record.principal:
            log.error("record names another principal", extra={"executor": entry.target.name})
            self.retire(entry)
        elif entry.grant is not None and record.epoch > entry.grant.epoch:
            entry.grant = None

    def forget(self, uid: str) -> None:
        """Drop an executor whose pod is gone. Runs on it end by themselves."""
        entry = self._entries.pop(uid, None)
        if entry is not None and entry.holder is not None:
            self._unindex(entry)
        self.on_change()

    def release(self, seat: Seat) -> None:
        """Give a slot back."""
        seat.entry.in_use -= 1
        seat.entry.idle_since = asyncio.get_running_loop().time()
        self._end_if_spent(seat.entry)
        self.on_change()

    def begin(self, principal: str, uid: str, opening: Opening | None = None) -> None:
        """Begin to claim an executor for a principal, or for a session of it; `on_change` tells when that is over."""
        entry = self._entries[uid]
        entry.claiming = principal if opening is None else opening.id
        self._spawn(self._claim(entry, principal, opening))

    def abandon(self, session: str) -> None:
        """End what was claimed for a session that is not wanted any more, or is being claimed."""
        self._abandoned.update(entry.claiming for entry in self._entries.values() if entry.claiming == session)
        for entry in list(self._held.get(session, {}).values()):
            self.retire(entry)

    def move(self, entry: Entry, ends_at: float) -> None:
        """Take note that a session ends at another time."""
        if entry.session is not None:
            entry.session = replace(entry.session, ends_at=ends_at)

    def turn_stale(self, seat: Seat) -> None:
        """Note that the executor must be claimed again before it takes more work of its principal."""
        if seat.entry.grant is seat.grant:
            seat.entry.grant = None

    def rest(self, entry: Entry, at_least: float = 0.0) -> None:
        """Offer the executor to nobody for a while."""
        pause = max(backoff(entry.failures, REST_SECONDS, LONGEST_REST_SECONDS), at_least)
        entry.failures += 1
        loop = asyncio.get_running_loop()
        entry.out_until = max(entry.out_until, loop.time() + pause)
        loop.call_later(pause, self.on_change)

    def give_up(self, entry: Entry) -> None:
        """Never offer the executor again. Its pod's end removes it."""
        entry.out_until = math.inf

    def end_spent(self) -> None:
        """End sandboxes that are spent and are still there: the last time, the API server did not answer."""
        for entry in self._entries.values():
            if entry.target.record is not None and entry.target.ready:
                self._end_if_spent(entry)

    def spend(self, uid: str) -> None:
        """Let an executor serve nobody any more, and end it once what runs there has ended."""
        entry = self._entries.get(uid)
        if entry is None or entry.is_spent:
            return
        entry.is_spent = True
        self.give_up(entry)
        self._end_if_spent(entry)

    def _end_if_spent(self, entry: Entry) -> None:
        if entry.is_spent and entry.in_use == 0 and not entry.is_ending:
            entry.is_ending = True
            self._spawn(self._retire(entry))

    def retire(self, entry: Entry) -> None:
        """Give the executor up and tell it to end at once, whatever it does."""
        self.give_up(entry)
        entry.is_spent = entry.is_ending = True
        self._spawn(self._retire(entry))

    async def recover(self) -> None:
        """Ask every ready executor whom it serves: what a gateway does once, when it starts."""
        at_once = asyncio.Semaphore(RECOVERIES_AT_ONCE)

        async def ask(entry: Entry) -> None:
            async with at_once:
                await self._learn(entry)

        await asyncio.gather(*(ask(entry) for entry in self._entries.values() if entry.target.ready))

    async def close(self) -> None:
        """End what is under way, after a moment in which records may still be deleted."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Talking to executors

    async def _claim(self, entry: Entry, principal: str, opening: Opening | None) -> None:
        try:
            grant = await self._client.claim(entry.target, principal, opening)
        except ExecutorError as error:
            self._count(entry, type(error).__name__.removesuffix("Error"))
            await self._note_failure(entry, error)
        else:
            self._count(entry, "Granted")
            if entry.target.record is not None:
                self.is_control_plane_away = False
            self._hold(entry, principal, self._session_of(opening))
            entry.grant = grant
            entry.failures = 0
        finally:
            entry.claiming = None
            if opening is not None and opening.id in self._abandoned:
                self._abandoned.discard(opening.id)
                self.abandon(opening.id)
            self.on_change()

    def _session_of(self, opening: Opening | None) -> Session | None:
        if opening is None:
            return None
        return Session(opening.id, self._now() + opening.seconds, opening.about)

    async def _note_failure(self, entry: Entry, error: ExecutorError) -> None:
        log.warning("claim failed", extra={"executor": entry.target.name, "error": str(error)})
        if entry.target.record is not None:
            self.is_control_plane_away = isinstance(error, ControlPlaneError)
        if isinstance(error, TakenError):
            self._hold(entry, UNKNOWN)
            await self._learn(entry)
        elif isinstance(error, GoneError | ImpostorError):
            self.give_up(entry)
        else:
            self.rest(entry)

    async def _learn(self, entry: Entry) -> None:
        try:
            holding = await self._client.holder(entry.target)
        except ExecutorError as error:
            log.warning("state not read", extra={"executor": entry.target.name, "error": str(error)})
            return
        if holding is not None:
            self._hold(entry, holding.principal, holding.session)

    async def _retire(self, entry: Entry) -> None:
        try:
            await self._client.retire(entry.target)
        except ExecutorError as error:
            entry.is_ending = False
            log.warning("executor not retired", extra={"executor": entry.target.name, "error": str(error)})

    def _count(self, entry: Entry, outcome: str) -> None:
        CLAIMS.labels(*self._pool, entry.target.tier, outcome).inc()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
