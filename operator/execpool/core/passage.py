"""Who gets through the gates at one instant, in the order of a line. Pure: it counts, and takes nothing from any gate.

Whoever is let through, or could be once a claim for him is done, counts for those behind him, and so does whoever is held
back: the wait that somebody is told is the one that is left after all those before him.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from execpool.core.gates import Gate

NOTED_SECONDS = 1.0
GatesOf = Callable[[str, str], Sequence[Gate]]
"""The gates before a principal's executions on a tier."""


def no_gates(principal: str, tier: str) -> Sequence[Gate]:
    """Return none."""
    del principal, tier
    return ()


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What holds an execution back, of the tier that opens soonest."""

    tier: str
    gate: Gate
    seconds: float
    """Until it may start, 0 when nobody can know."""
    is_waited_for: bool

    def note(self, now: float) -> None:
        """Let the gate know that it holds somebody back; that an even pace has to be kept for a moment is not worth a word."""
        if not self.is_waited_for or self.seconds == 0 or self.seconds >= NOTED_SECONDS:
            self.gate.held_at = now

    def ends_before(self, seconds: float) -> bool:
        """True when it is worth waiting for that long."""
        return self.is_waited_for and self.seconds <= seconds


class Passage:
    """The gates as they are at `now`, while a line is gone through."""

    def __init__(self, gates_of: GatesOf, now: float) -> None:
        self._gates_of = gates_of
        self._now = now
        self._ahead: dict[int, int] = {}

    def open_tiers(self, principal: str, tiers: tuple[str, ...]) -> tuple[str, ...]:
        """Return the tiers on which an execution may start now."""
        return tuple(tier for tier in tiers if all(self._has_room(gate) for gate in self._gates_of(principal, tier)))

    def pass_through(self, principal: str, tier: str) -> None:
        """Count one that starts, or will as soon as its claim is done."""
        for gate in self._gates_of(principal, tier):
            self._ahead[id(gate)] = self._ahead.get(id(gate), 0) + 1

    def hold_back(self, principal: str, tiers: tuple[str, ...]) -> Hindrance:
        """Count one that may start on none of its tiers, and return why."""
        found = min((self._hindrance(principal, tier) for tier in tiers), key=_cost)
        self.pass_through(principal, found.tier)
        return found

    def _has_room(self, gate: Gate) -> bool:
        return gate.room(self._now) > self._ahead.get(id(gate), 0)

    def _hindrance(self, principal: str, tier: str) -> Hindrance:
        closed = [gate for gate in self._gates_of(principal, tier) if not self._has_room(gate)]
        found = [Hindrance(tier, gate, self._wait(gate), gate.is_waited_for) for gate in closed]
        return max(found, key=_cost)

    def _wait(self, gate: Gate) -> float:
        return gate.wait(self._now, self._ahead.get(id(gate), 0) + 1)


def _cost(hindrance: Hindrance) -> float:
    return hindrance.seconds if hindrance.is_waited_for else math.inf
