"""Operator and emulator as processes of their own, forked from one that has imported everything: 20 ms instead of a second.

Each is the shipped program: `controller.main.run` with its settings from the environment, and `emulator.service.Service`.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from execpool.controller import main
from execpool.emulator.service import Service
from execpool.emulator.settings import EmulatorSettings
from execpool.telemetry import logs
from tests.campaigns.pace import Pace, hurry
from tests.campaigns.plans import Death
from tests.campaigns.planted import plant
from tests.campaigns.tap import Tap

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.campaigns.preload"])


@dataclass(frozen=True)
class OperatorLife:
    """One operator, from its start to its death."""

    number: int
    pace: Pace
    log: Path
    requests: Path
    environment: Mapping[str, str]
    death: Death | None = None
    bug: str = ""

    def start(self) -> ForkServerProcess:
        return started(_operate, self)


@dataclass(frozen=True)
class EmulatorLife:
    """One emulator; it says its ports to `ready`."""

    pace: Pace
    log: Path
    settings: Mapping[str, Any]

    def start(self) -> tuple[ForkServerProcess, Connection]:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = started(_emulate, self, theirs)
        theirs.close()
        return process, ours


def started(work: Any, *arguments: Any) -> ForkServerProcess:
    """Fork a process that does some work."""
    process = _context.Process(target=work, args=arguments, daemon=True)
    process.start()
    return process


def settle_in(log: Path, pace: Pace) -> None:
    """Write to a log from now on, and live under a pace."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(descriptor, sys.stdout.fileno())
    os.dup2(descriptor, sys.stderr.fileno())
    if pace.scale != 1.0:
        hurry(pace)


def _operate(life: OperatorLife) -> None:
    settle_in(life.log, life.pace)
    os.environ.update(life.environment)
    Tap(life.requests, life.number, life.death).install()
    if life.bug:
        plant(life.bug)
    main.run()


def _emulate(life: EmulatorLife, ready: Connection) -> None:
    settle_in(life.log, life.pace)
    settings = EmulatorSettings(**life.settings)
    logs.configure(settings.log_level)
    asyncio.run(_serve(settings, ready))


async def _serve(settings: EmulatorSettings, ready: Connection) -> None:
    stop, service = asyncio.Event(), Service(settings)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    serving = asyncio.create_task(service.run(stop))
    await service.ready.wait()
    ready.send((service.port, service.admin_port))
    await serving
