"""What the gateway adds to a warm execution: `1+1` through it, beside the same code sent straight to an executor.

One connection, one execution at a time, all arms in turn in every round and each round beginning with another arm, so
that what one leaves behind (an executor parks its next child after an answer) falls on all alike. Two executors of one
pool, which has no place for a third: the gateway claims the one, we claim the other.

- direct: `POST /execute` at the executor, whole answer read. The peer.
- plain hop: the same through `plain_proxy.py`, which is what any Python proxy costs.
- gateway: `POST /v1/executions` with an execution key, as JSON and as NDJSON.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.cluster import Cluster, Namespace
from benchmarks.executors import Executor, claim, execute, executor_of, is_warm
from benchmarks.figures import MILLISECONDS, BenchmarkError, Result, amount, times
from benchmarks.load import Caller, timed
from benchmarks.processes import of_container, usage
from execpool.kube.client import Object

WARM_UP = 40
ROUNDS = 400

Arms = dict[str, Callable[[], Coroutine[Any, Any, object]]]


async def measure(space: Namespace) -> Result:
    cluster, caller = space.cluster, Caller(space, "ada")
    pool = await space.fill_pool(warm=2, most=2)
    await caller.run()
    executor = await _unclaimed(space, pool)
    grant = await claim(cluster.http, executor, "benchmark")
    async with _plain_hop(executor.data_url) as hop:
        inside: list[float] = []

        async def direct() -> None:
            inside.append(await execute(cluster.http, executor.data_url, grant))

        arms: Arms = {
            "direct": direct,
            "plain aiohttp hop": lambda: execute(cluster.http, hop, grant),
            "gateway, JSON": caller.run,
            "gateway, NDJSON": caller.stream,
        }
        await _rounds(arms, WARM_UP)
        before = _cpu_seconds(cluster)
        series = await _rounds(arms, ROUNDS)
        cpu = _cpu_seconds(cluster) - before
    bare = series.pop("direct")
    through = series["gateway, JSON"]
    return Result(
        rows=(
            times("direct", bare),
            times("the run itself, by the executor's clock", inside[WARM_UP:]),
            *(times(label, seconds, peer=bare) for label, seconds in series.items()),
            times(
                "gateway less direct, round by round",
                [ours - theirs for ours, theirs in zip(through, bare, strict=True)],
            ),
            amount("gateway's CPU per execution", cpu / (2 * ROUNDS) * MILLISECONDS, "ms", n=2 * ROUNDS),
        ),
        notes=("peer: direct. All processes and this one share the machine's cores.",),
    )


async def _rounds(arms: Arms, count: int) -> dict[str, list[float]]:
    """Run all arms in turn; every round begins with the next one."""
    series: dict[str, list[float]] = {label: [] for label in arms}
    labels = list(arms)
    for number in range(count):
        shift = number % len(labels)
        for label in labels[shift:] + labels[:shift]:
            series[label].append(await timed(arms[label]()))
    return series


async def _unclaimed(space: Namespace, pool: Object) -> Executor:
    cluster = space.cluster
    executors = [executor_of(pod, cluster.keys) for pod in await space.executors(pool)]
    for executor in executors:
        if await is_warm(cluster.http, executor):
            return executor
    raise BenchmarkError("the gateway holds every executor of a pool that one user runs in")


def _cpu_seconds(cluster: Cluster) -> float:
    return usage(of_container(cluster.gateway.uid, "execpool-gateway")).cpu_seconds


@asynccontextmanager
async def _plain_hop(target: str) -> AsyncIterator[str]:
    """Run the plain proxy; it ends when its standard input is closed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.plain_proxy",
        target,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        raise BenchmarkError("the plain proxy has no pipes")
    try:
        port = int(await process.stdout.readline() or 0)
        if not port:
            raise BenchmarkError("the plain proxy did not start")
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.stdin.close()
        await process.wait()
