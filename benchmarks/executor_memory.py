"""What happens at the memory limit of the runner: who dies, what each caller is told, how soon runs work again.

Three stories, each with a bystander that sleeps in another slot and a caller who asks again until an answer is good:

- a run that allocates until its own limit (RLIMIT_DATA): a MemoryError, and nothing else;
- a run that spreads over processes until the container's limit: the kernel ends processes (cgroup v1), preferred victims
  first; with `memory.oom.group` (cgroup v2, the kubelet's default) it ends the whole container, which is the third story;
- every process of the runner's container is ended at once, by pid, as that setting does.

The peer of the last is the end of the runner alone, its container's first process.
"""

import asyncio
import os
import signal
import time
from contextlib import suppress

from benchmarks.cluster import Namespace
from benchmarks.figures import Result, Row, times
from benchmarks.held import Answer, Held, hold
from execpool.protocol import ExecuteRequest

BYSTANDER = "import time\ntime.sleep(4)\n'slept'"
ALONE = "kept = []\nwhile True:\n    kept.append(b'x' * (8 << 20))"
SPREAD = """
import os, time
for _ in range(24):
    if os.fork() == 0:
        kept = []
        while True:
            try:
                kept.append(b'x' * (8 << 20))
            except MemoryError:
                time.sleep(0.01)
for _ in range(24):
    os.wait()
raise SystemExit(1)
"""
AGAIN_SECONDS = 15.0


async def measure(space: Namespace) -> Result:
    held = await hold(space, memory="512Mi")
    await asyncio.sleep(1.0)
    rows: list[Row] = []
    notes: list[str] = []
    for name, code in (("own limit", ALONE), ("container's limit", SPREAD)):
        culprit = asyncio.create_task(held.ask(ExecuteRequest(code, timeout_seconds=10)))
        await _story(held, name, culprit, rows, notes)
    for name in ("runner ended", "all processes ended"):
        pids = held.runner()
        await _story(
            held, name, asyncio.create_task(_end(held, pids[:1] if name == "runner ended" else pids)), rows, notes
        )
        await asyncio.sleep(12.0)  # the kubelet waits longer before each restart
    return Result(tuple(rows), tuple(notes))


async def _story(held: Held, name: str, culprit: "asyncio.Task[Answer]", rows: list[Row], notes: list[str]) -> None:
    before, kills = set(held.runner()), await _kills(held)
    bystander = asyncio.create_task(held.ask(ExecuteRequest(BYSTANDER, timeout_seconds=20)))
    began = time.monotonic()
    answer = await culprit
    again = await _until_good(held)
    told = await bystander
    left = "stayed" if before & set(held.runner()) else "was started again"
    ended = f"{await _kills(held) - kills} ended by the kernel" if left == "stayed" else "ended by us"
    notes.append(f"{name}: culprit {_told(answer)}; bystander {told.end}; the container {left}; {ended}")
    rows += [
        times(f"{name}: until the culprit is answered", [answer.answered - began]),
        times(f"{name}: until the bystander is answered, who sleeps 4 s", [told.answered - told.sent]),
        times(f"{name}: from that answer until a run works", [again]),
    ]


async def _kills(held: Held) -> int:
    """Return how many processes of the runner's container the kernel has ended for want of memory."""
    program = "from execpool.executor.runner import limits; print(limits.out_of_memory_kills())"
    return int(await held.exec_in_runner(program))


def _told(answer: Answer) -> str:
    errors = [f"{event['name']}" for event in answer.events if event["type"] == "error"]
    return " ".join([answer.end, *errors])


async def _until_good(held: Held) -> float:
    """Ask until a run succeeds; return after how long."""
    began = time.monotonic()
    while time.monotonic() - began < AGAIN_SECONDS:
        if (await held.ask(ExecuteRequest("1+1", timeout_seconds=5))).well:
            break
        await asyncio.sleep(0.02)
    return time.monotonic() - began


async def _end(held: Held, pids: tuple[int, ...]) -> Answer:
    """End processes of the runner at once, as seen by a run that was in progress."""
    in_progress = asyncio.create_task(held.ask(ExecuteRequest(BYSTANDER, timeout_seconds=20)))
    await asyncio.sleep(0.5)
    for pid in {*pids, *(held.runner() if len(pids) > 1 else ())}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return await in_progress
