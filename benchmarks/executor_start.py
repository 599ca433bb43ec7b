"""How fast a clean Python starts in an executor, beside what starting one costs otherwise, in the same container.

The peers are measured by programs that run in the executor itself, under the same limits and in the same minutes:

- `python -c "import pandas"`: what every run would cost without a zygote. The peer of the clean start.
- bare fork: of a process as large as the zygote, to its first byte, without any isolation (`fork_cost`). The peer of the
  same with all of it: Landlock, filter, limits, streams, environment, seeds.
- the same pandas call again in a process that has done it already: at once, when processor caches have all of it, and
  after the pause that our runs have too, when they do not; and the first one in a new interpreter.

Ours are `wall_seconds` of the executions: from the hand-over of the code to the end of what it said, at the server.
Memory is what the node says that nobody shares with a process (`smaps_rollup`).
"""

import asyncio
import statistics
from pathlib import Path

import orjson

from benchmarks.cluster import Namespace
from benchmarks.figures import Result, Row, amount, times
from benchmarks.held import GROUPBY, Held, hold, pairs
from benchmarks.processes import private_mib

ROUNDS = 60
PEER_ROUNDS = 4
KEPT_ROUNDS = 20
PAUSE_SECONDS = 0.4
"""Between two runs: a process that has been parked for a moment has copied what it will write to."""

_CALL = "frame = pd.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]}).groupby('a').sum(); repr(frame), frame._repr_html_()"
_TIMED_CALL = f"""
import time, pandas as pd
def call():
    began = time.perf_counter()
    {_CALL}
    return time.perf_counter() - began
def paused():
    time.sleep({PAUSE_SECONDS})
    return call()
print(call(), sorted(call() for _ in range(20))[10], *(paused() for _ in range(5)))
"""
_PEERS = f"""
import json, subprocess, sys, time
def clean():
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import pandas"], check=True)
    return time.perf_counter() - began
def calls():
    return [*map(float, subprocess.run([sys.executable, "-c", {_TIMED_CALL!r}], check=True, capture_output=True).stdout.split())]
clean(), calls()
print(json.dumps([[clean(), *calls()] for _ in range({PEER_ROUNDS})]))
"""


async def measure(space: Namespace) -> Result:
    held = await hold(space, slots=1)
    await asyncio.sleep(2.0)  # the second set of libraries is being imported
    forks = await held.exec_in_runner(Path(__file__).with_name("fork_cost.py").read_text())
    bare, isolated = pairs(orjson.loads(forks))
    clean, first_call, next_call, *paused = pairs(orjson.loads((await held.run(_PEERS)).printed))
    later_call = [seconds for series in paused for seconds in series]
    fresh = await held.wall_seconds("1+1", ROUNDS, pause=PAUSE_SECONDS)
    loaded = await held.wall_seconds("1+1", ROUNDS)
    groupby = await held.wall_seconds(GROUPBY, ROUNDS, pause=PAUSE_SECONDS)
    kept = await held.wall_seconds(GROUPBY, KEPT_ROUNDS, stateless=False, pause=PAUSE_SECONDS)
    return Result(
        rows=(
            times('`python -c "import pandas"`', clean),
            times("`1+1` in a fresh process", fresh, peer=clean),
            times("`1+1` in a fresh process, no pause between", loaded, peer=clean),
            times("bare fork of the zygote to its first byte", bare),
            times("fork and full isolation to its first byte", isolated, peer=bare),
            times("groupby and repr again in a process, at once", next_call),
            times("groupby and repr again in a process, after a pause", later_call),
            times("first groupby and repr in a new interpreter", first_call, peer=later_call),
            times("first groupby and repr in a fresh process", groupby, peer=later_call),
            times("groupby and repr in a context, after a pause", kept, peer=later_call),
            *await _memory(held),
        ),
        notes=(
            "peers run in the executor itself; ours are measured at its server.",
            f"clean start: {statistics.median(clean) / statistics.median(fresh):.0f} times as fast as the import",
        ),
    )


async def _memory(held: Held) -> list[Row]:
    await asyncio.sleep(1.0)
    parked = held.programs()
    context = await held.new_context()
    await held.run("1+1", stateless=False, context=context)
    (its,) = set(held.programs()) - set(parked)
    small = private_mib(its)
    await held.run(GROUPBY, stateless=False, context=context)
    return [
        amount("private memory: parked process", statistics.mean(map(private_mib, parked)), "MiB", n=len(parked)),
        amount("private memory: context after `1+1`", small, "MiB"),
        amount("private memory: context after a groupby", private_mib(its), "MiB"),
    ]
