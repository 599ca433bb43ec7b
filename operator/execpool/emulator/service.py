"""Puts the emulator together, and keeps it until its end."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from random import Random
from typing import Any

from starlette.types import ASGIApp

from execpool.emulator.account import Account
from execpool.emulator.admin import Admin
from execpool.emulator.control_plane import ControlPlane
from execpool.emulator.data_plane import DataPlane
from execpool.emulator.edge import Edge
from execpool.emulator.faults import Faults
from execpool.emulator.holding import Bodies
from execpool.emulator.hollow import Hollow
from execpool.emulator.ledger import Entry, Event, LedgerFile
from execpool.emulator.plans import TEMPLATES
from execpool.emulator.sandboxes import Sandboxes
from execpool.emulator.settings import EmulatorSettings
from execpool.emulator.warm import Warm
from execpool.providers.processes import Processes
from execpool.serving import Port, bounded

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 640
"""As E2B's, above the 300 s for which clients keep an idle connection."""
CLOSE_SECONDS = 1
_ADMIN_CONNECTIONS = 256


class Service:
    """One emulator.

    Attributes:
        ready: set once creations are served as fast as they are meant to be.
    """

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._now = clock()
        self._ledger = LedgerFile(settings.ledger)
        self._processes = Processes(settings.directory) if settings.executors else None
        self._bodies = _bodies(settings, self._processes)
        self._sandboxes = Sandboxes(
            Account(settings.limits(), self._now()),
            self._bodies,
            self._ledger,
            distribution=settings.latency,
            random=Random(settings.seed),  # noqa: S311 - to be repeated, and nothing secret
            always_traffic_token=settings.always_traffic_token,
            now=self._now,
        )
        self._data_plane = DataPlane(self._sandboxes)
        self._tasks: list[asyncio.Task[None]] = []
        self._serving: list[asyncio.Task[None]] = []
        self._exit = AsyncExitStack()
        self.ready = asyncio.Event()
        self._api, self._admin = self._ports(Faults())

    @property
    def port(self) -> int:
        """Port of the API and the data plane."""
        return self._api.number

    @property
    def admin_port(self) -> int:
        """Port of the admin API."""
        return self._admin.number

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop.

        Raises:
            NotStartedError: as `start`.
        """
        starting, stopping = _task(self.start()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                await starting
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self.stop()

    async def start(self) -> None:
        """Start every part, and wait until all of it serves.

        Raises:
            NotStartedError: sandboxes cannot be started on this machine.
        """
        self._ledger.write(Entry(self._now(), Event.OPENED))
        if self._processes is not None:
            await self._exit.enter_async_context(self._processes)
        await self._bodies.fill()
        self._tasks = [_task(self._bodies.keep()), _task(self._sandboxes.keep_deadlines())]
        self._serving = [_task(port.serve()) for port in (self._api, self._admin)]
        for port in (self._api, self._admin):
            await port.listening.wait()
        self.ready.set()
        log.info("emulator ready", extra={"port": self.port, "admin_port": self.admin_port})

    async def stop(self) -> None:
        """End every sandbox and every part."""
        self._sandboxes.break_off()
        for port in (self._api, self._admin):
            port.close()
        await asyncio.gather(*self._serving, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sandboxes.close()
        await self._data_plane.close()
        await self._exit.aclose()
        self._ledger.write(Entry(self._now(), Event.CLOSED))
        self._ledger.close()
        log.info("emulator stopped")

    def _ports(self, faults: Faults) -> tuple[Port, Port]:
        settings = self._settings
        control = ControlPlane(
            self._sandboxes, keys=settings.keys(), domain=settings.domain, idempotency=settings.idempotency
        )
        edge = Edge(control, self._data_plane, faults, self._sandboxes)
        admin = Admin(self._sandboxes, faults, self.ready.is_set)
        return (
            _port(edge, settings.host, settings.port, settings.max_connections),
            _port(admin.application(), settings.admin_host, settings.admin_port, _ADMIN_CONNECTIONS),
        )


def _bodies(settings: EmulatorSettings, processes: Processes | None) -> Bodies:
    if processes is None:
        return Hollow()
    return Warm(processes, TEMPLATES["code-interpreter-v1"], settings.warm, egress=settings.egress)


def _port(application: ASGIApp, host: str, port: int, most: int) -> Port:
    return Port(
        application,
        bounded(most),
        host=host,
        port=port,
        keep_alive_seconds=KEEP_ALIVE_SECONDS,
        close_seconds=CLOSE_SECONDS,
    )


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    return asyncio.create_task(work)


def clock() -> Callable[[], float]:
    """Return a clock of seconds since the epoch that never goes backwards."""
    began, since = time.time(), time.monotonic()
    return lambda: began + time.monotonic() - since
