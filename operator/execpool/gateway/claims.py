"""The executors of one pool: which are warm, which serve whom, and how many of their slots are in use.

Truth is at the executor (DESIGN rule 3); this table is what the pod watch and the executors' own answers have told so
far. It may be wrong, and then an executor says so: 409 teaches who holds it, 410 and 421 end it for us, 412 makes us
claim again. Nothing here polls: the watch, finished claims and released slots change the table, and each change wakes
whoever waits (`on_change`).

    watched, ready, holder None        warm: may be claimed for anybody
    holder P, no grant                 serves P, but must be claimed again first (we restarted, or its grant went stale)
    holder P, grant                    up to `grant.slots` executions of P at a time
    holder UNKNOWN                     serves somebody else; asked once who that is
    out_until in the future            not offered until then: it did not answer, or is gone for good

A claim is for life: nothing here gives an executor back. It ends when its pod does.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from execpool.api.names import Isolation
from execpool.core.admission import Capacity, Offer
from execpool.core.backoff import backoff
from execpool.core.claiming import SandboxRecord, Target, in_order_of_choice
from execpool.core.isolation import is_at_least
from execpool.gateway.executors import ExecutorClient, ExecutorError, GoneError, ImpostorError, TakenError
from execpool.gateway.seats import Entry, Seat
from execpool.telemetry.metrics import CLAIMS

log = logging.getLogger(__name__)

UNKNOWN = "?"
"""Holder of an executor that serves a principal whom we do not know."""
REST_SECONDS = 0.5
"""First pause before an executor that did not answer is offered again; doubled each time."""
LONGEST_REST_SECONDS = 60.0
RECOVERIES_AT_ONCE = 32
EXPECTED_SLOTS = 1
"""Slots assumed of a tier that the spec no longer names."""


class Claims:
    """The table of one pool.

    Attributes:
        on_change: called after every change that may let somebody start.
    """

    def __init__(self, pool: tuple[str, str], client: ExecutorClient) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.slots: dict[str, int] = {}
        """Slots an executor of each tier will bring, by the spec."""
        self._pool = pool
        self._client = client
        self._entries: dict[str, Entry] = {}
        self._held: dict[str, dict[str, Entry]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    # What is known

    def held(self) -> int:
        """Return how many executors serve somebody."""
        return sum(1 for entry in self._entries.values() if entry.holder is not None and entry.is_there)

    def slots_held(self) -> int:
        """Return the slots of all executors that are held with a grant."""
        return sum(entry.grant.slots for entry in self._entries.values() if entry.grant is not None)

    def ready(self) -> int:
        """Return how many executors are ready, warm or held."""
        return sum(1 for entry in self._entries.values() if entry.is_there)

    def capacity(self, principals: Iterable[str]) -> Capacity:
        """Return what there is for these principals now."""
        wanted = {principal: list(self._held.get(principal, {}).values()) for principal in principals}
        return Capacity(
            free={principal: self._free(entries) for principal, entries in wanted.items()},
            coming=self._coming(),
            known={principal: self._known(entries) for principal, entries in wanted.items()},
            warm=self._warm(),
        )

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

    def take(self, principal: str, tiers: tuple[str, ...], floor: Isolation) -> Seat | None:
        """Take a free slot of an executor that serves the principal, if there is one: the path of a warm execution."""
        entries = self._held.get(principal)
        if entries is None:
            return None
        for tier in tiers:
            for entry in entries.values():
                target = entry.target
                if target.tier == tier and is_at_least(target.isolation, floor) and self._free_slots(entry) > 0:
                    return self._seat(entry)
        return None

    def take_at(self, uid: str) -> Seat:
        """Take a free slot of this executor, which `capacity` has just offered."""
        return self._seat(self._entries[uid])

    def release(self, seat: Seat) -> None:
        """Give a slot back."""
        seat.entry.in_use -= 1
        self._end_if_spent(seat.entry)
        self.on_change()

    def begin(self, principal: str, uid: str) -> None:
        """Begin to claim an executor for a principal; `on_change` tells when that is over."""
        entry = self._entries[uid]
        entry.claiming = principal
        self._spawn(self._claim(entry, principal))

    def turn_stale(self, seat: Seat) -> None:
        """Note that the executor must be claimed again before it takes more work of its principal."""
        if seat.entry.grant is seat.grant:
            seat.entry.grant = None

    def rest(self, entry: Entry) -> None:
        """Offer the executor to nobody for a while."""
        pause = backoff(entry.failures, REST_SECONDS, LONGEST_REST_SECONDS)
        entry.failures += 1
        loop = asyncio.get_running_loop()
        entry.out_until = max(entry.out_until, loop.time() + pause)
        loop.call_later(pause, self.on_change)

    def give_up(self, entry: Entry) -> None:
        """Never offer the executor again. Its pod's end removes it."""
        entry.out_until = math.inf

    def spend(self, uid: str) -> None:
        """Let an executor serve nobody any more, and end it once what runs there has ended."""
        entry = self._entries.get(uid)
        if entry is None or entry.is_spent:
            return
        entry.is_spent = True
        self.give_up(entry)
        self._end_if_spent(entry)

    def _end_if_spent(self, entry: Entry) -> None:
        if entry.is_spent and entry.in_use == 0:
            self._spawn(self._retire(entry))

    def retire(self, entry: Entry) -> None:
        """Give the executor up and tell it to end at once, whatever it does."""
        self.give_up(entry)
        self._spawn(self._retire(entry))

    async def recover(self) -> None:
        """Ask every ready executor whom it serves: what a gateway does once, when it starts."""
        at_once = asyncio.Semaphore(RECOVERIES_AT_ONCE)

        async def ask(entry: Entry) -> None:
            async with at_once:
                await self._learn(entry)

        await asyncio.gather(*(ask(entry) for entry in self._entries.values() if entry.target.ready))

    async def close(self) -> None:
        """End claims under way; for a pool that is gone."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Rows

    def _is_offered(self, entry: Entry) -> bool:
        return entry.target.ready and entry.claiming is None and entry.out_until <= asyncio.get_running_loop().time()

    def _free_slots(self, entry: Entry) -> int:
        return entry.grant.slots - entry.in_use if entry.grant is not None and self._is_offered(entry) else 0

    def _free(self, entries: Iterable[Entry]) -> list[Offer]:
        return [_offer(entry.target, free) for entry in entries if (free := self._free_slots(entry)) > 0]

    def _known(self, entries: Iterable[Entry]) -> list[Offer]:
        return [self._expected(entry) for entry in entries if entry.grant is None and self._is_offered(entry)]

    def _coming(self) -> dict[str, list[Offer]]:
        coming: dict[str, list[Offer]] = {}
        for entry in self._entries.values():
            if entry.claiming is not None:
                coming.setdefault(entry.claiming, []).append(self._expected(entry))
        return coming

    def _warm(self) -> dict[str, list[Offer]]:
        by_tier: dict[str, list[Target]] = {}
        for entry in self._entries.values():
            if entry.holder is None and self._is_offered(entry):
                by_tier.setdefault(entry.target.tier, []).append(entry.target)
        return {
            tier: [self._expected(self._entries[target.uid]) for target in in_order_of_choice(targets)]
            for tier, targets in by_tier.items()
        }

    def _expected(self, entry: Entry) -> Offer:
        slots = self.slots.get(entry.target.tier, EXPECTED_SLOTS)
        return _offer(entry.target, max(slots - entry.in_use, 1))

    def _seat(self, entry: Entry) -> Seat:
        if entry.grant is None:
            raise LookupError(entry.target.name)
        entry.in_use += 1
        return Seat(entry, entry.grant)

    def _hold(self, entry: Entry, principal: str) -> None:
        if entry.holder is not None:
            self._unindex(entry)
        entry.holder = principal
        if entry.target.uid in self._entries:
            self._held.setdefault(principal, {})[entry.target.uid] = entry

    def _unindex(self, entry: Entry) -> None:
        entries = self._held.get(entry.holder or "", {})
        entries.pop(entry.target.uid, None)
        if not entries:
            self._held.pop(entry.holder or "", None)

    # Talking to executors

    async def _claim(self, entry: Entry, principal: str) -> None:
        try:
            grant = await self._client.claim(entry.target, principal)
        except ExecutorError as error:
            self._count(entry, type(error).__name__.removesuffix("Error"))
            await self._note_failure(entry, error)
        else:
            self._count(entry, "Granted")
            self._hold(entry, principal)
            entry.grant = grant
            entry.failures = 0
        finally:
            entry.claiming = None
            self.on_change()

    async def _note_failure(self, entry: Entry, error: ExecutorError) -> None:
        log.warning("claim failed", extra={"executor": entry.target.name, "error": str(error)})
        if isinstance(error, TakenError):
            self._hold(entry, UNKNOWN)
            await self._learn(entry)
        elif isinstance(error, GoneError | ImpostorError):
            self.give_up(entry)
        else:
            self.rest(entry)

    async def _learn(self, entry: Entry) -> None:
        try:
            principal = await self._client.holder(entry.target)
        except ExecutorError as error:
            log.warning("state not read", extra={"executor": entry.target.name, "error": str(error)})
            return
        if principal is not None:
            self._hold(entry, principal)

    async def _retire(self, entry: Entry) -> None:
        try:
            await self._client.retire(entry.target)
        except ExecutorError as error:
            log.warning("executor not retired", extra={"executor": entry.target.name, "error": str(error)})

    def _count(self, entry: Entry, outcome: str) -> None:
        CLAIMS.labels(*self._pool, entry.target.tier, outcome).inc()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _offer(target: Target, slots: int) -> Offer:
    return Offer(target.uid, target.tier, slots, target.isolation)
