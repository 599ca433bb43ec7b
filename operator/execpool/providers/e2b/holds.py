"""Why nothing may be asked of an account for a while, and where its desk reads the time."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from execpool.api.names import Reason


@dataclass(frozen=True)
class Hold:
    """Why nothing is asked for now, and for how many seconds at least."""

    reason: Reason
    message: str
    seconds: float


@dataclass(frozen=True)
class Watches:
    """Where a desk reads the time, and draws lots; for tests to replace."""

    clock: Callable[[], float] = time.time
    """UNIX seconds."""
    steady: Callable[[], float] = time.monotonic
    """Seconds that never go backwards."""
    spread: Callable[[], float] = lambda: random.uniform(0.5, 1.0)  # noqa: S311 - jitter
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits so many of the steady clock's seconds."""


NOT_LOOKED = Hold(Reason.ACCOUNT_AWAITED, "the operator has not looked at the account yet", 0.5)
