"""What is held for a sandbox, for whom an effect is done, and what can be turned while it all runs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from execpool.emulator.claims import Grant
from execpool.providers.local_executor import LocalExecutor


@dataclass(frozen=True)
class Asker:
    """Which request an effect belongs to."""

    call: str = ""
    request_id: str = ""
    idempotency_key: str = ""


@dataclass
class Held:
    """A sandbox's executor."""

    executor: LocalExecutor
    grant: Grant
    traffic_token: str
    relays: set[Callable[[], None]] = field(default_factory=set)
    """What breaks off each connection that is open to it."""
    freezing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while its processes are stopped or let go on: the last to be asked for is the last to be done."""

    def break_off(self) -> None:
        """Break off every connection."""
        for end in list(self.relays):
            end()


@dataclass
class Losses:
    """How sandboxes get lost: a share of the new ones, each within so many seconds."""

    probability: float = 0.0
    within_seconds: float = 60.0


@dataclass
class Knobs:
    """What the admin API changes."""

    list_lag_seconds: float = 0.0
    losses: Losses = field(default_factory=Losses)
