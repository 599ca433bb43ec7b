"""How many executions an executor makes per second, without pauses: clean processes, and calls in contexts.

A closed loop of four callers, with one core for the runner and with two. The peer of clean processes is what a fork costs
at the least: bare forks of a process as large as the zygote, each ended and waited for, one after the other, in the same
container (one thread, so one core also where there are two).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

from benchmarks.cluster import Namespace
from benchmarks.figures import Result, Row, amount
from benchmarks.held import Held, hold

CALLERS = 4
SECONDS = 4.0


async def measure(space: Namespace) -> Result:
    rows: list[Row] = []
    for cores in ("1", "2"):
        held = await hold(space, slots=CALLERS, cpu=cores)
        await asyncio.sleep(3.0)  # the second set of libraries is being imported
        rows += await _rows(held, f"{cores} core{'s' * (cores != '1')}")
        await space.empty()
    return Result(tuple(rows), ("peer of clean processes: bare forks in the same container; the server has no limit.",))


async def _rows(held: Held, where: str) -> list[Row]:
    program = Path(__file__).with_name("fork_cost.py").read_text()
    forks = float(orjson.loads(await held.exec_in_runner(program, "--rate")))
    contexts = [await held.new_context() for _ in range(CALLERS)]
    clean = await _rate([lambda: held.run("1+1")] * CALLERS)
    one = await _rate([_in(held, contexts[0])])
    four = await _rate([_in(held, context) for context in contexts])
    return [
        amount(f"bare forks, {where}", forks, "/s"),
        amount(f"clean processes, {where}", clean, "/s", peer=forks),
        amount(f"one context, {where}", one, "/s"),
        amount(f"four contexts, {where}", four, "/s", peer=one),
    ]


def _in(held: Held, context: str) -> Callable[[], Awaitable[object]]:
    return lambda: held.run("1+1", stateless=False, context=context)


async def _rate(calls: list[Callable[[], Awaitable[object]]]) -> float:
    """Let everybody call for a while; return calls per second."""
    began = time.monotonic()

    async def keep_calling(call: Callable[[], Awaitable[object]]) -> int:
        done = 0
        while time.monotonic() - began < SECONDS:
            await call()
            done += 1
        return done

    done = sum(await asyncio.gather(*map(keep_calling, calls)))
    return done / (time.monotonic() - began)
