"""When the hold of a sandbox ends. Pure.

E2B's sandboxes do not end by themselves when nobody uses them, so the gateway that holds one ends it: once it has been idle
for the tier's `idleSeconds`, and sooner while somebody waits and the tier has no room left (DESIGN rule 5).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LEAST_HELD_SECONDS = 5.0
"""A hold younger than this is not ended for others: its claim would have been for nothing."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One sandbox that serves somebody."""

    executor: str
    tier: str
    held_seconds: float
    idle_seconds: float | None
    """Since its last run; None while one is running."""


@dataclass(frozen=True, slots=True)
class TierRoom:
    """What a tier allows."""

    most: int
    """Executors at any time."""
    idle_seconds: float


def holds_to_end(
    holds: Sequence[Hold], tiers: Mapping[str, TierRoom], waiting: Mapping[str, int]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the executors that have been idle for too long, and those that make room for others, longest idle first.

    A tier that the spec does not name any more lets its idle ones go at once.
    """
    idle = [hold for hold in holds if hold.idle_seconds is not None and hold.idle_seconds >= _allowed(hold, tiers)]
    over = {hold.executor for hold in idle}
    left = [hold for hold in holds if hold.executor not in over]
    return tuple(hold.executor for hold in idle), _for_others(left, tiers, waiting)


def _allowed(hold: Hold, tiers: Mapping[str, TierRoom]) -> float:
    room = tiers.get(hold.tier)
    return 0.0 if room is None else room.idle_seconds


def _for_others(holds: Sequence[Hold], tiers: Mapping[str, TierRoom], waiting: Mapping[str, int]) -> tuple[str, ...]:
    chosen: list[str] = []
    for tier, room in tiers.items():
        mine = [hold for hold in holds if hold.tier == tier]
        missing = waiting.get(tier, 0) - max(room.most - len(mine), 0)
        rested = [hold for hold in mine if hold.idle_seconds is not None and hold.held_seconds >= LEAST_HELD_SECONDS]
        rested.sort(key=lambda hold: -(hold.idle_seconds or 0.0))
        chosen += [hold.executor for hold in rested[: max(missing, 0)]]
    return tuple(chosen)
