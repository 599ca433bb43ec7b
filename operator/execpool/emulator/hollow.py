"""Sandboxes that nothing runs in, for who only manages an account: `EXECPOOL_EMULATOR_EXECUTORS=false`.

The control plane, its limits, the faults and the ledger are what they always are; a creation takes as long as it is drawn to
take. Every call into such a sandbox is told that its port is not open.
"""

import asyncio
import secrets

from execpool.emulator.account import Order
from execpool.emulator.claims import Grant
from execpool.providers.process_tree import Usage


class HollowExecutor:
    """In the place of an executor."""

    address = ""

    def __init__(self) -> None:
        self.died: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def end(self) -> None:
        """Be over."""
        if not self.died.done():
            self.died.set_result(0)

    async def freeze(self) -> None:
        """Do nothing."""

    async def thaw(self) -> None:
        """Do nothing."""

    def usage(self) -> Usage:
        """Measure nothing."""
        return Usage(processes=0, cpu_seconds=0.0, memory_bytes=0)


class Hollow:
    """In the place of `Warm`."""

    async def begin(self, sandbox_id: str, order: Order) -> tuple[HollowExecutor, Grant]:
        """Return what a sandbox has instead of processes."""
        del sandbox_id, order
        return HollowExecutor(), Grant(secrets.token_urlsafe(24), 1)

    async def fill(self) -> None:
        """Do nothing."""

    async def keep(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""
