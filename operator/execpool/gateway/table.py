"""The rows of one pool's claims table, and what can be read off them. `claims.py` says what they mean and changes them."""

import asyncio
import math
from collections.abc import Callable, Iterable

from execpool.core.admission import Capacity, Offer, Waiter, serves
from execpool.core.claiming import Target, in_order_of_choice
from execpool.core.holding import Hold
from execpool.core.sessions import Session
from execpool.gateway.seats import Entry, Seat

EXPECTED_SLOTS = 1
"""Slots assumed of a tier that the spec no longer names."""


class Table:
    """The rows.

    Args:
        now: UNIX seconds, which deadlines of sandboxes are given in.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.slots: dict[str, int] = {}
        """Slots an executor of each tier will bring, by the spec."""
        self._now = now
        self._entries: dict[str, Entry] = {}
        self._held: dict[str, dict[str, Entry]] = {}

    def held(self) -> int:
        """Return how many executors serve somebody."""
        return sum(1 for entry in self._entries.values() if entry.holder is not None and entry.is_there)

    def slots_held(self) -> int:
        """Return the slots of all executors that are held with a grant."""
        return sum(entry.grant.slots for entry in self._entries.values() if entry.grant is not None)

    def ready(self) -> int:
        """Return how many executors are ready, warm or held."""
        return sum(1 for entry in self._entries.values() if entry.is_there)

    def has_warm_sandbox(self, tiers: tuple[str, ...]) -> bool:
        """True when a sandbox of these tiers is warm, whether it can be claimed or not."""
        return any(
            entry.target.record is not None and entry.holder is None and entry.is_there and entry.target.tier in tiers
            for entry in self._entries.values()
        )

    def capacity(self, claimants: Iterable[str]) -> Capacity:
        """Return what there is for these claimants now."""
        wanted = {claimant: list(self._held.get(claimant, {}).values()) for claimant in claimants}
        return Capacity(
            free={claimant: self._free(entries) for claimant, entries in wanted.items()},
            coming=self._coming(),
            known={claimant: self._known(entries) for claimant, entries in wanted.items()},
            warm=self._warm(),
        )

    def take(self, waiter: Waiter, tiers: tuple[str, ...]) -> Seat | None:
        """Take a free slot of an executor that serves the claimant, if there is one: the path of a warm execution."""
        entries = self._held.get(waiter.claimant)
        if entries is None:
            return None
        for tier in tiers:
            for entry in entries.values():
                free = self._free_slots(entry)
                if free > 0 and serves(self._offer(entry, free), tier, waiter):
                    return self._seat(entry)
        return None

    def take_at(self, uid: str) -> Seat:
        """Take a free slot of this executor, which `capacity` has just offered."""
        return self._seat(self._entries[uid])

    def holds(self) -> list[Hold]:
        """Return the sandboxes that serve somebody, but no session: those that end when we say so."""
        now = asyncio.get_running_loop().time()
        return [
            Hold(
                entry.target.uid,
                entry.target.tier,
                now - entry.held_since,
                None if entry.in_use or entry.claiming else now - entry.idle_since,
            )
            for entry in self._entries.values()
            if entry.target.record is not None and entry.holder is not None and entry.is_there and not entry.session
        ]

    def of_session(self, session: str) -> Entry | None:
        """Return the executor that a session has; None when it has none, or none any more."""
        entries = self._held.get(session, {}).values()
        return next((entry for entry in entries if entry.session and entry.is_there), None)

    def sessions(self) -> list[Entry]:
        """Return the executors that sessions have."""
        return [entry for entry in self._entries.values() if entry.session and entry.is_there]

    def _is_offered(self, entry: Entry) -> bool:
        return entry.target.ready and entry.claiming is None and entry.out_until <= asyncio.get_running_loop().time()

    def _free_slots(self, entry: Entry) -> int:
        return entry.grant.slots - entry.in_use if entry.grant is not None and self._is_offered(entry) else 0

    def _free(self, entries: Iterable[Entry]) -> list[Offer]:
        return [self._offer(entry, free) for entry in entries if (free := self._free_slots(entry)) > 0]

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
        return self._offer(entry, max(slots - entry.in_use, 1))

    def _offer(self, entry: Entry, slots: int) -> Offer:
        target = entry.target
        left = math.inf if target.record is None else target.record.expires_at - self._now()
        return Offer(target.uid, target.tier, slots, target.isolation, left)

    def _seat(self, entry: Entry) -> Seat:
        if entry.grant is None:
            raise LookupError(entry.target.name)
        entry.in_use += 1
        return Seat(entry, entry.grant)

    def _hold(self, entry: Entry, principal: str, session: Session | None = None) -> None:
        if entry.holder is not None:
            self._unindex(entry)
        if entry.holder != principal:
            entry.held_since = entry.idle_since = asyncio.get_running_loop().time()
        entry.holder, entry.session = principal, session or entry.session
        if entry.target.uid in self._entries:
            self._held.setdefault(entry.claimant, {})[entry.target.uid] = entry

    def _unindex(self, entry: Entry) -> None:
        entries = self._held.get(entry.claimant, {})
        entries.pop(entry.target.uid, None)
        if not entries:
            self._held.pop(entry.claimant, None)
