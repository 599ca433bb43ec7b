"""What tests look at while they wait: processes that are none of ours, and conditions that others bring about."""

import asyncio
from collections.abc import Callable
from pathlib import Path


def is_running(pid: int) -> bool:
    """True while a process is there and has not ended; one that nobody has reaped yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.01)
