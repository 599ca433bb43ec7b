"""Runs a cell's coroutine in this process' event loop, so that an interrupt ends it at its next await.

As in a kernel: the first SIGINT cancels the cell, which sees CancelledError where it waits. Code that never awaits is not
reached by that; a second SIGINT is a KeyboardInterrupt wherever it is. Tasks that a cell leaves behind stay in the
loop and go on when another cell awaits.
"""

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any

from IPython.core.async_helpers import get_asyncio_loop


def run_in_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end."""
    loop = get_asyncio_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(coroutine)
    if threading.current_thread() is not threading.main_thread():
        return loop.run_until_complete(task)

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, previous)
        loop.call_soon_threadsafe(task.cancel)
        del number, frame

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        return loop.run_until_complete(task)
    finally:
        signal.signal(signal.SIGINT, previous)
