"""Who waits for an executor, who gets one next, and what that says to the operator. Pure.

One line per pool, in order of arrival. An execution is served by a slot of an executor that its principal holds, or by an
executor that is claimed for its principal. Two rules follow:

- between principals that need another executor the line is strict: nobody who came later is given a warm executor that
  somebody before could use;
- a free slot of an executor is of no use to anyone but its principal, so an execution that gets one of these does not
  wait behind others.

A claim under way *covers* as many waiting executions of its principal as it will bring slots; covered ones ask for nothing
more. So a principal with two waiting executions and four slots an executor claims one executor, not two.

    waiting --assign--> seated   (a slot is its own; nothing else decides about it any more)
            --assign--> covered  (a claim for its principal is under way, or begins now)
            --assign--> uncovered (counts against `maxDepth`, and is told to the operator as demand)
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from dataclasses import dataclass, field

from execpool.api.names import Isolation
from execpool.core.isolation import is_at_least


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


@dataclass(frozen=True, slots=True)
class Offer:
    """Room at one executor: free slots, or slots that a claim under way will bring."""

    executor: str
    tier: str
    slots: int
    isolation: Isolation = Isolation.INTERPRETER


@dataclass(frozen=True)
class Capacity:
    """What a pool has to give at this instant. Lists are in order of preference."""

    free: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By principal: executors that it holds."""
    coming: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By principal: claims under way."""
    known: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By principal: executors that serve it but have to be claimed again, after a restart of ours for example."""
    warm: Mapping[str, Sequence[Offer]] = field(default_factory=dict)
    """By tier: executors that serve nobody yet."""


@dataclass(frozen=True)
class Assignment:
    """What to do now."""

    seats: tuple[tuple[int, str], ...] = ()
    """Waiter's number and executor: take a free slot of it."""
    claims: tuple[tuple[str, str], ...] = ()
    """Principal and executor: claim it."""
    uncovered: tuple[Waiter, ...] = ()
    """In order of the line: those for whom nothing is free and nothing is under way."""


@dataclass(slots=True)
class _Slots:
    """Slots of one executor that are still to be handed out."""

    offer: Offer
    left: int


class _Room:
    """What is left of a Capacity while it is handed out."""

    def __init__(self, capacity: Capacity) -> None:
        self._free = _by_principal(capacity.free)
        self._coming = _by_principal(capacity.coming)
        self._known = {principal: list(offers) for principal, offers in capacity.known.items()}
        self._warm = {tier: list(reversed(offers)) for tier, offers in capacity.warm.items()}

    def take_slot(self, waiter: Waiter) -> str | None:
        """Take a free slot for the waiter and return its executor."""
        return _take(self._free.get(waiter.principal, []), waiter)

    def is_covered(self, waiter: Waiter) -> bool:
        """True when a claim under way will have a slot for the waiter, which is then taken."""
        return _take(self._coming.get(waiter.principal, []), waiter) is not None

    def claim(self, waiter: Waiter) -> str | None:
        """Choose an executor to claim for the waiter; its further slots cover those behind it."""
        chosen = self._take_known(waiter) or self._take_warm(waiter)
        if chosen is None:
            return None
        if chosen.slots > 1:
            self._coming.setdefault(waiter.principal, []).append(_Slots(chosen, chosen.slots - 1))
        return chosen.executor

    def _take_known(self, waiter: Waiter) -> Offer | None:
        known = self._known.get(waiter.principal, [])
        chosen = next((offer for tier in waiter.tiers for offer in known if _may_serve(offer, tier, waiter)), None)
        if chosen is not None:
            known.remove(chosen)
        return chosen

    def _take_warm(self, waiter: Waiter) -> Offer | None:
        for tier in waiter.tiers:
            warm = self._warm.get(tier, [])
            for index in range(len(warm) - 1, -1, -1):
                if _may_serve(warm[index], tier, waiter):
                    return warm.pop(index)
        return None


def _by_principal(offers: Mapping[str, Sequence[Offer]]) -> dict[str, list[_Slots]]:
    return {
        principal: [_Slots(offer, offer.slots) for offer in listed if offer.slots > 0]
        for principal, listed in offers.items()
    }


def _may_serve(offer: Offer, tier: str, waiter: Waiter) -> bool:
    return offer.tier == tier and is_at_least(offer.isolation, waiter.floor)


def _take(rooms: list[_Slots], waiter: Waiter) -> str | None:
    room = next((room for tier in waiter.tiers for room in rooms if _may_serve(room.offer, tier, waiter)), None)
    if room is None:
        return None
    room.left -= 1
    if room.left == 0:
        rooms.remove(room)
    return room.offer.executor


def assign(line: Iterable[Waiter], capacity: Capacity) -> Assignment:
    """Hand out what there is, in the order of the line."""
    room = _Room(capacity)
    seats: list[tuple[int, str]] = []
    claims: list[tuple[str, str]] = []
    uncovered: list[Waiter] = []
    for waiter in line:
        if (executor := room.take_slot(waiter)) is not None:
            seats.append((waiter.number, executor))
        elif room.is_covered(waiter):
            continue
        elif (executor := room.claim(waiter)) is not None:
            claims.append((waiter.principal, executor))
        else:
            uncovered.append(waiter)
    return Assignment(tuple(seats), tuple(claims), tuple(uncovered))


def wanted_executors(uncovered: Iterable[Waiter], slots: Mapping[str, int]) -> dict[str, int]:
    """Return, by tier, how many more executors those waiting could use: per principal, enough for its executions.

    An execution counts in every tier of its route, since each of them could serve it.
    """
    waiting = Counter((tier, waiter.principal) for waiter in uncovered for tier in waiter.tiers)
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
        self._count[waiter.principal] += 1
        if comes_back:
            self._waiters = dict(sorted(self._waiters.items()))

    def leave(self, number: int) -> None:
        """Remove a waiter; one that is not there is no error."""
        waiter = self._waiters.pop(number, None)
        if waiter is not None:
            self._count[waiter.principal] -= 1
            if not self._count[waiter.principal]:
                del self._count[waiter.principal]

    def expired(self, now: float) -> tuple[Waiter, ...]:
        """Return those whose deadline has passed."""
        return tuple(waiter for waiter in self._waiters.values() if waiter.deadline <= now)

    def principals(self) -> KeysView[str]:
        """Return the principals that wait."""
        return self._count.keys()
