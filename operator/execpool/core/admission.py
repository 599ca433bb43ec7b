"""Who waits for an executor, who gets one next, and what that says to the operator. Pure.

One line per pool, in order of arrival. An execution is served by a slot of an executor that its principal holds, or by an
executor that is claimed for its principal. A session is served by an executor that is claimed for it alone, and by no
other: it is a *claimant* of its own, where an execution's claimant is its principal. Two rules follow:

- between principals that need another executor the line is strict: nobody who came later is given a warm executor that
  somebody before could use;
- a free slot of an executor is of no use to anyone but its principal, so an execution that gets one of these does not
  wait behind others.

A claim under way *covers* as many waiting executions of its principal as it will bring slots; covered ones ask for nothing
more. So a principal with two waiting executions and four slots an executor claims one executor, not two.

    waiting --assign--> seated    (a slot is its own; nothing else decides about it any more)
            --assign--> covered   (a claim for its principal is under way, or begins now)
            --assign--> uncovered (counts against `maxDepth`, and is told to the operator as demand)
            --assign--> held back (a budget or an account holds it back on all of its tiers: counts, and asks for nothing)
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field, replace

from execpool.api.names import Isolation
from execpool.core.isolation import is_at_least
from execpool.core.passage import GatesOf, Hindrance, Passage, no_gates


@dataclass(frozen=True, slots=True)
class Waiter:
    """One execution in the line."""

    number: int
    """Order of arrival."""
    principal: str
    tiers: tuple[str, ...]
    """Its route."""
    deadline: float = math.inf
    """On the clock of whoever asks; nothing starts once it has passed."""
    patient: bool = True
    """False: only what is free or warm now will do."""
    floor: Isolation = Isolation.INTERPRETER
    """Least isolation of the executor."""
    run_seconds: float = 0.0
    """For so long the executor has to be there."""
    session: str = ""
    """Id of the session that wants an executor of its own; empty for an execution."""

    @property
    def claimant(self) -> str:
        """For whom an executor is claimed."""
        return self.session or self.principal


@dataclass(frozen=True, slots=True)
class Offer:
    """Room at one executor: free slots, or slots that a claim under way will bring."""

    executor: str
    tier: str
    slots: int
    isolation: Isolation = Isolation.INTERPRETER
    seconds_left: float = math.inf
    """Until its deadline."""


@dataclass(frozen=True)
class Capacity:
    """What a pool has to give at this instant. Lists are in order of preference."""

    free: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By claimant: executors that it holds."""
    coming: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By claimant: claims under way."""
    known: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By claimant: executors that serve it but have to be claimed again, after a restart of ours for example."""
    warm: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By tier: executors that serve nobody yet."""


@dataclass(frozen=True)
class Assignment:
    """What to do now."""

    seats: tuple[tuple[int, str], ...] = ()
    """Waiter's number and executor: take a free slot of it."""
    claims: tuple[tuple[str, str], ...] = ()
    """Claimant and executor: claim it."""
    uncovered: tuple[Waiter, ...] = ()
    """In order of the line: those for whom nothing is free and nothing is under way, with the tiers that are open to them."""
    held_back: tuple[tuple[Waiter, Hindrance], ...] = ()
    """In order of the line: those who may start on none of their tiers now."""


@dataclass(slots=True)
class _Slots:
    """Slots of one executor that are still to be handed out."""

    offer: Offer
    left: int


class _Room:
    """What is left of a Capacity while it is handed out."""

    def __init__(self, capacity: Capacity) -> None:
        self._free = _by_claimant(capacity.free)
        self._coming = _by_claimant(capacity.coming)
        self._known = {claimant: list(offers) for claimant, offers in capacity.known.items()}
        self._warm = {tier: list(reversed(offers)) for tier, offers in capacity.warm.items()}

    def take_slot(self, waiter: Waiter) -> Offer | None:
        """Take a free slot for the waiter and return where."""
        return _take(self._free.get(waiter.claimant, []), waiter)

    def take_coming(self, waiter: Waiter) -> Offer | None:
        """Take a slot that a claim under way will have, and return where."""
        return _take(self._coming.get(waiter.claimant, []), waiter)

    def claim(self, waiter: Waiter) -> Offer | None:
        """Choose an executor to claim for the waiter; its further slots cover those behind it."""
        chosen = self._take_known(waiter) or self._take_warm(waiter)
        if chosen is None:
            return None
        if chosen.slots > 1 and not waiter.session:
            self._coming.setdefault(waiter.claimant, []).append(_Slots(chosen, chosen.slots - 1))
        return chosen

    def _take_known(self, waiter: Waiter) -> Offer | None:
        known = self._known.get(waiter.claimant, [])
        chosen = next((offer for tier in waiter.tiers for offer in known if serves(offer, tier, waiter)), None)
        if chosen is not None:
            known.remove(chosen)
        return chosen

    def _take_warm(self, waiter: Waiter) -> Offer | None:
        for tier in waiter.tiers:
            warm = self._warm.get(tier, [])
            for index in range(len(warm) - 1, -1, -1):
                if serves(warm[index], tier, waiter):
                    return warm.pop(index)
        return None


def _by_claimant(offers: Mapping[str, Sequence[Offer]]) -> dict[str, list[_Slots]]:
    return {
        claimant: [_Slots(offer, offer.slots) for offer in listed if offer.slots > 0]
        for claimant, listed in offers.items()
    }


def serves(offer: Offer, tier: str, waiter: Waiter) -> bool:
    """True when an executor of this tier will do for a waiter."""
    there = offer.tier == tier and offer.seconds_left > waiter.run_seconds
    return there and is_at_least(offer.isolation, waiter.floor)


def _take(rooms: list[_Slots], waiter: Waiter) -> Offer | None:
    room = next((room for tier in waiter.tiers for room in rooms if serves(room.offer, tier, waiter)), None)
    if room is None:
        return None
    room.left -= 1
    if room.left == 0:
        rooms.remove(room)
    return room.offer


def assign(line: Iterable[Waiter], capacity: Capacity, gates_of: GatesOf = no_gates, now: float = 0.0) -> Assignment:
    """Hand out what there is, in the order of the line, to those whom the gates let through."""
    room, passage = _Room(capacity), Passage(gates_of, now)
    seats: list[tuple[int, str]] = []
    claims: list[tuple[str, str]] = []
    uncovered: list[Waiter] = []
    held_back: list[tuple[Waiter, Hindrance]] = []
    for waiter in line:
        # Budgets are for what runs in a session, not for the session.
        tiers = waiter.tiers if waiter.session else passage.open_tiers(waiter.principal, waiter.tiers)
        if not tiers:
            held_back.append((waiter, passage.hold_back(waiter.principal, waiter.tiers)))
            continue
        free = waiter if tiers == waiter.tiers else replace(waiter, tiers=tiers)
        if (chosen := room.take_slot(free)) is not None:
            seats.append((waiter.number, chosen.executor))
        elif (chosen := room.take_coming(free)) is None and (chosen := room.claim(free)) is not None:
            claims.append((waiter.claimant, chosen.executor))
        if chosen is None:
            uncovered.append(free)
        elif not waiter.session:
            passage.pass_through(waiter.principal, chosen.tier)
    return Assignment(tuple(seats), tuple(claims), tuple(uncovered), tuple(held_back))


def wanted_executors(uncovered: Iterable[Waiter], slots: Mapping[str, int]) -> dict[str, int]:
    """Return, by tier, how many more executors those waiting could use: per claimant, enough for its executions.

    An execution counts in every tier of its route, since each of them could serve it.
    """
    waiting = Counter((tier, waiter.claimant) for waiter in uncovered for tier in waiter.tiers)
    wanted: dict[str, int] = {}
    for (tier, _), count in waiting.items():
        wanted[tier] = wanted.get(tier, 0) + -(-count // slots.get(tier, 1))
    return wanted


def seconds_until_a_turn(waiting: int, slots: int, run_seconds: float) -> int:
    """Return a fair guess, in whole seconds, of when it is worth asking again: the line's length at the pool's pace."""
    return min(max(math.ceil((waiting + 1) * run_seconds / max(slots, 1)), 1), 60)


class Line:
    """Those who wait, in order of arrival. One that comes back after a failed start keeps its place."""

    def __init__(self) -> None:
        self._waiters: dict[int, Waiter] = {}
        self._count: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, waiter: Waiter) -> None:
        """Add a waiter at the place of its number."""
        comes_back = bool(self._waiters) and waiter.number < next(reversed(self._waiters))
        self._waiters[waiter.number] = waiter
        self._count[waiter.claimant] += 1
        if comes_back:
            self._waiters = dict(sorted(self._waiters.items()))

    def leave(self, number: int) -> None:
        """Remove a waiter; one that is not there is no error."""
        waiter = self._waiters.pop(number, None)
        if waiter is not None:
            self._count[waiter.claimant] -= 1
            if not self._count[waiter.claimant]:
                del self._count[waiter.claimant]

    def expired(self, now: float) -> tuple[Waiter, ...]:
        """Return those whose deadline has passed."""
        return tuple(waiter for waiter in self._waiters.values() if waiter.deadline <= now)

    def claimants(self) -> KeysView[str]:
        """Return for whom there are waiters."""
        return self._count.keys()
