"""How fast a clean Python starts in an executor, beside what starting one costs otherwise, in the same container.

The peers are measured by a program that runs in the executor itself, under the same limits and in the same minutes:

- `python -c "import pandas"`: what every run would cost without a zygote. The peer of the clean start.
- bare fork: of a process as large as a run, until its first byte comes through a pipe; no isolation at all.
- first pandas call: `groupby` in a fresh process that has imported pandas. The peer of the same call in a run.

Ours are `wall_seconds` of the executions: from the hand-over of the code to the end of what it said, at the server.
"""

import asyncio
from typing import Any

import aiohttp
import orjson

from benchmarks.cluster import Namespace
from benchmarks.executors import claim, execute_headers, executor_of
from benchmarks.figures import BenchmarkError, Result, times
from execpool.protocol import ClaimGrant, ExecuteRequest

ROUNDS = 60
PEER_ROUNDS = 6
PAUSE_SECONDS = 0.3
"""Between two runs: a process that has been parked for a moment has copied what it will write to."""

_GROUPBY = "import pandas as pd\npd.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]}).groupby('a').sum()"
_FIRST_CALL = """
import time, pandas as pd
began = time.perf_counter()
frame = pd.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]}).groupby('a').sum()
repr(frame), frame._repr_html_()
print(time.perf_counter() - began)
"""
_PEERS = f"""
import json, os, subprocess, sys, time
def clean():
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import pandas"], check=True)
    return time.perf_counter() - began
def forked():
    reader, writer = os.pipe()
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"x")
        os._exit(0)
    os.read(reader, 1)
    took = time.perf_counter() - began
    os.waitpid(pid, 0); os.close(reader); os.close(writer)
    return took
def first_call():
    return float(subprocess.run([sys.executable, "-c", {_FIRST_CALL!r}], check=True, capture_output=True).stdout)
clean(), first_call()
print(json.dumps([[each() for _ in range({PEER_ROUNDS})] for each in (clean, first_call)] + [[forked() for _ in range({ROUNDS})]]))
"""


async def measure(space: Namespace) -> Result:
    cluster = space.cluster
    pool = await space.fill_pool(warm=1, most=1)
    (pod,) = await space.executors(pool)
    executor = executor_of(pod, cluster.keys)
    grant = await claim(cluster.http, executor, "benchmark")
    return await measure_at(cluster.http, executor.data_url, grant)


async def measure_at(http: aiohttp.ClientSession, url: str, grant: ClaimGrant) -> Result:
    """Measure one executor that is held."""
    peers = orjson.loads(_printed(await _run(http, url, grant, ExecuteRequest(_PEERS, timeout_seconds=60))))
    clean, first_call, forked = peers
    stateless = await _wall_seconds(http, url, grant, "1+1", pause=PAUSE_SECONDS)
    context = await _wall_seconds(http, url, grant, "1+1", stateless=False)
    groupby = await _wall_seconds(http, url, grant, _GROUPBY, pause=PAUSE_SECONDS)
    kept = await _wall_seconds(http, url, grant, _GROUPBY, stateless=False)
    return Result(
        rows=(
            times('`python -c "import pandas"`', clean),
            times("bare fork to its first byte", forked),
            times("`1+1` in a fresh process", stateless, peer=clean),
            times("`1+1` in a context", context, peer=clean),
            times("first groupby in a process", first_call),
            times("groupby in a fresh process", groupby, peer=first_call),
            times("groupby in a context", kept, peer=first_call),
        ),
        notes=("peers run in the executor itself; ours are measured at its server.",),
    )


async def _wall_seconds(
    http: aiohttp.ClientSession, url: str, grant: ClaimGrant, code: str, *, stateless: bool = True, pause: float = 0.0
) -> list[float]:
    request = ExecuteRequest(code, stateless=stateless)
    await _run(http, url, grant, request)
    seconds = []
    for _ in range(ROUNDS):
        await asyncio.sleep(pause)
        seconds.append(float((await _run(http, url, grant, request))[-1]["wall_seconds"]))
    return seconds


async def _run(http: aiohttp.ClientSession, url: str, grant: ClaimGrant, request: ExecuteRequest) -> list[Any]:
    async with http.post(url, data=request.encode(), headers=execute_headers(grant)) as response:
        answer = await response.read()
    events = [orjson.loads(line) for line in answer.splitlines()] if response.status == 200 else []
    if not events or events[-1].get("status") != "Succeeded":
        raise BenchmarkError(f"{url} answered {response.status}: {answer[-300:].decode(errors='replace')}")
    return events


def _printed(events: list[Any]) -> str:
    return "".join(event["text"] for event in events if event["type"] == "stdout")
