"""What is held for a sandbox, for whom an effect is done, and what can be turned while it all runs."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from execpool.emulator.account import Order
from execpool.emulator.claims import Grant
from execpool.providers.process_tree import Usage


@dataclass(frozen=True)
class Asker:
    """Which request an effect belongs to."""

    call: str = ""
    request_id: str = ""
    idempotency_key: str = ""


class Body(Protocol):
    """What a sandbox runs in: an executor (`providers.local_executor`), or nothing (`hollow`)."""

    @property
    def address(self) -> str:
        """Where it listens; empty where nothing does."""

    @property
    def died(self) -> asyncio.Future[int]:
        """Done once it has ended, whoever ended it."""

    async def end(self) -> None:
        """End it at once."""

    async def freeze(self) -> None:
        """Stop all that runs in it."""

    async def thaw(self) -> None:
        """Let it go on."""

    def usage(self) -> Usage:
        """Measure what it uses."""


class Bodies(Protocol):
    """Where bodies come from."""

    async def begin(self, sandbox_id: str, order: Order) -> tuple[Body, Grant]:
        """Return one that is a sandbox's for life. Raises NotStartedError and RefusedError."""

    async def fill(self) -> None:
        """Start what is to wait for creations. Raises NotStartedError."""

    async def keep(self) -> None:
        """Replace what creations took, for ever."""

    async def close(self) -> None:
        """Close the connections."""


@dataclass
class Held:
    """A sandbox's executor."""

    executor: Body
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
