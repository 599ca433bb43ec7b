"""Refusals of those who wait, or would have to, with what was observed."""

import math
from dataclasses import dataclass

from execpool.api.names import Refusal
from execpool.core.passage import Hindrance
from execpool.gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How full a pool is."""

    pool: str
    held: int
    ready: int
    waiting: int
    retry_after: float

    def __str__(self) -> str:
        return f"{self.held} of {self.ready} ready executors are held, {self.waiting} executions wait"


def too_many(seen: Occupancy, waiting: int, max_depth: int) -> GatewayError:
    """Refuse a newcomer for whom there is no room to wait."""
    sentence = f"{waiting} executions wait in pool {seen.pool}, which allows {max_depth}; {seen}"
    return GatewayError(Refusal.QUEUE_FULL, sentence, retry_after=seen.retry_after)


def nothing_free(seen: Occupancy) -> GatewayError:
    """Refuse one that does not wait."""
    sentence = f"nothing is free in pool {seen.pool} and maxWaitSeconds is 0; {seen}"
    return GatewayError(Refusal.WAIT_TOO_LONG, sentence, retry_after=seen.retry_after)


def too_late(seen: Occupancy) -> GatewayError:
    """Refuse one that has waited in vain."""
    sentence = f"no executor of pool {seen.pool} became free in time; {seen}"
    return GatewayError(Refusal.DEADLINE_PASSED, sentence, retry_after=seen.retry_after)


def not_claimable(seen: Occupancy) -> GatewayError:
    """Refuse one for whom there is a warm sandbox that cannot be claimed."""
    sentence = (
        f"a sandbox of pool {seen.pool} is warm, but the API server, where it is claimed, does not answer; {seen}"
    )
    return GatewayError(Refusal.CONTROL_PLANE_UNAVAILABLE, sentence, retry_after=seen.retry_after)


@dataclass(frozen=True, slots=True)
class Drought:
    """Why no more executors come in a tier: a budget of capacity is exhausted."""

    message: str
    until: float | None
    """UNIX seconds; None when nobody can know."""
    is_waited_for: bool


def kept_dry(seen: Occupancy, drought: Drought, tier: str, clock: float) -> GatewayError:
    """Refuse one for whom there is no executor, and none may be made. `clock`: UNIX seconds."""
    seconds = max(math.ceil(drought.until - clock), 1) if drought.until is not None else seen.retry_after
    sentence = f"{drought.message}; {seen}"
    return GatewayError(Refusal.BUDGET_EXHAUSTED, sentence, retry_after=seconds, tier=tier)


def kept_out(seen: Occupancy, hindrance: Hindrance, now: float) -> GatewayError:
    """Refuse one that a budget or an account holds back for longer than it may wait."""
    seconds = max(math.ceil(hindrance.seconds), 1) if hindrance.seconds else seen.retry_after
    said = hindrance.gate.describe(now)
    sentence = f"{said}; tier {hindrance.tier} of pool {seen.pool} may be free again in about {seconds:g} s"
    return GatewayError(hindrance.gate.refusal, sentence, retry_after=seconds, tier=hindrance.tier)
