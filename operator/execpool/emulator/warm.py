"""Executors that wait for the next creations, so that one takes as long as it is meant to and not as long as a start does."""

import asyncio
import logging
from collections import deque

import aiohttp

from execpool.emulator.account import Order
from execpool.emulator.claims import Grant, claim
from execpool.emulator.errors import RefusedError
from execpool.emulator.plans import Template
from execpool.providers.local_executor import Identity, LocalExecutor
from execpool.providers.nursery_link import NotStartedError
from execpool.providers.processes import Limits, Processes

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
SLOTS = 1
"""Of an executor: sandboxes run code in contexts, which need none."""


class Warm:
    """Keeps `size` executors of one template, started one after another."""

    def __init__(self, processes: Processes, template: Template, size: int, *, egress: bool) -> None:
        self._processes = processes
        self._template = template
        self._size = size
        self._egress = egress
        self._waiting: deque[LocalExecutor] = deque()
        self._wanted = asyncio.Event()
        self._session = aiohttp.ClientSession(trust_env=False)

    async def close(self) -> None:
        """Close the connections; what still waits ends with its `Processes`."""
        await self._session.close()

    async def begin(self, sandbox_id: str, order: Order) -> tuple[LocalExecutor, Grant]:
        """Return an executor that is the sandbox's for life, claimed.

        Raises:
            NotStartedError: none could be started.
            RefusedError: it does not take what the order says.
        """
        executor = await self._take(order.template, internet=order.internet)
        try:
            return executor, await claim(self._session, executor, sandbox_id, order.env_vars)
        except (NotStartedError, RefusedError):
            await executor.end()
            raise

    async def _take(self, template: Template, *, internet: bool) -> LocalExecutor:
        """Return one that waits, or a new one; without a network unless it is to have one."""
        egress = self._egress and internet
        while (template, egress) == (self._template, self._egress) and self._waiting:
            executor = self._waiting.popleft()
            self._wanted.set()
            if not executor.died.done():
                return executor
        return await self._start(template, egress=egress)

    async def fill(self) -> None:
        """Start what is missing, one at a time, since each takes a processor for a tenth of a second.

        Raises:
            NotStartedError: one did not come up.
        """
        while len(self._waiting) < self._size:
            self._waiting.append(await self._start(self._template, egress=self._egress))

    async def keep(self) -> None:
        """Start what is missing, for ever."""
        while True:
            self._wanted.clear()
            try:
                await self.fill()
            except NotStartedError as error:
                log.warning("no executor could be started", extra={"reason": str(error)})
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                await self._wanted.wait()

    async def _start(self, template: Template, *, egress: bool) -> LocalExecutor:
        limits = Limits(memory_bytes=template.memory_mb << 20, egress=egress)
        return await self._processes.start(Identity.drawn(), slots=SLOTS, limits=limits)
