"""`execpool-emulator`: settings, logs, signals. Everything else is `service.py`."""

import asyncio
import ctypes
import signal
import sys

import uvloop

from execpool.emulator.service import Service
from execpool.emulator.settings import EmulatorSettings
from execpool.providers.nursery_link import NotStartedError
from execpool.telemetry import logs

_PR_SET_DUMPABLE = 4


def run() -> None:
    """Run the emulator until SIGTERM or SIGINT; exit 1 when no sandbox can be started here."""
    _hide()
    settings = EmulatorSettings()
    logs.configure(settings.log_level)
    try:
        uvloop.run(serve(settings))
    except NotStartedError as error:
        sys.exit(f"execpool-emulator: {error}")


async def serve(settings: EmulatorSettings) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Service(settings).run(stop)


def _hide() -> None:
    """Keep our environment, where the key is, from the sandboxes: in a pod they are processes of the same user."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


if __name__ == "__main__":
    run()
