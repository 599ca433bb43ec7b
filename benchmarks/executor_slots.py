"""What a run in one slot does to the runs in the others: one core, four slots, one neighbour that is not polite.

The peer is the same polite run with nobody beside it. The server's clock (`wall_seconds`) says how long the program took
from its hand-over; the caller's clock also has the wait for a parked process.
"""

import asyncio
import time

from benchmarks.cluster import Namespace
from benchmarks.figures import Result, Row, times
from benchmarks.held import Answer, Held, hold
from execpool.protocol import ExecuteRequest

SECONDS = 6.0
PAUSE_SECONDS = 0.02
POLITE = "sum(range(10_000))"

NEIGHBOURS = {
    "one that spins": "while True: pass",
    "one that spins in 8 processes": "import os\nfor _ in range(3): os.fork()\nwhile True: pass",
    "one that allocates up to its limit, again and again": """
kept = []
while True:
    try:
        kept.append(b"x" * (8 << 20))
    except MemoryError:
        kept.clear()
""",
    "one that forks without end": """
import os
while True:
    try:
        if os.fork() == 0:
            os._exit(0)
        os.waitpid(-1, os.WNOHANG)
    except OSError:
        pass
""",
}


async def measure(space: Namespace) -> Result:
    held = await hold(space)
    await asyncio.sleep(3.0)  # the second set of libraries is being imported
    alone = await _polite(held)
    rows = _rows("alone", alone)
    notes = ["the largest of each line: " + _worst("alone", alone)]
    for name, code in NEIGHBOURS.items():
        neighbour = asyncio.create_task(held.ask(ExecuteRequest(code, timeout_seconds=SECONDS + 1)))
        await asyncio.sleep(0.5)
        beside = await _polite(held)
        rows += _rows(f"beside {name}", beside, alone)
        notes += [_worst(name, beside), f"  its end: {(await neighbour).end}"]
    return Result(tuple(rows), tuple(notes))


async def _polite(held: Held) -> list[Answer]:
    """Run the polite program for a while, with pauses."""
    answers, began = [], time.monotonic()
    while time.monotonic() - began < SECONDS - 0.5:
        answers.append(await held.run(POLITE))
        await asyncio.sleep(PAUSE_SECONDS)
    return answers


def _rows(label: str, answers: list[Answer], peer: list[Answer] = []) -> list[Row]:  # noqa: B006 - read only
    return [
        times(label, [each.answered - each.sent for each in answers], peer=[each.answered - each.sent for each in peer])
    ]


def _worst(label: str, answers: list[Answer]) -> str:
    return f"{label}: {max(each.answered - each.sent for each in answers) * 1000:.0f} ms"
