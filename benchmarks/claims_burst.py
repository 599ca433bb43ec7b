"""Twenty principals at once, none of whom has an executor, on a pool in which as many are warm.

Each sends one `1+1`; the time runs from the common start to the whole answer, so it holds the claim: challenge, proof,
claim, run. Peer: the same at twenty other executors of the same pool, without a gateway and with nobody to share a queue
with. The two bursts follow each other.

The API server's and execpool's own counters say what was written meanwhile.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from typing import Any

from benchmarks.apiserver import by_resource, read_writes
from benchmarks.cluster import Cluster, Namespace
from benchmarks.executors import Executor, claim, execute, executor_of, is_warm
from benchmarks.figures import Result, amount, times
from benchmarks.load import Caller

PRINCIPALS = 20
SETTLE_SECONDS = 8.0
"""Forty executors that have just started still load libraries in the background."""


async def measure(space: Namespace) -> Result:
    cluster = space.cluster
    pool = await space.fill_pool(warm=2 * PRINCIPALS, most=2 * PRINCIPALS)
    await asyncio.sleep(SETTLE_SECONDS)
    callers = [Caller(space, f"user-{number}") for number in range(PRINCIPALS)]
    before = await read_writes(cluster)
    ours = await _all_at_once(caller.run() for caller in callers)
    written = (await read_writes(cluster)).since(before)
    again = await _all_at_once(caller.run() for caller in callers)
    executors = [executor_of(pod, cluster.keys) for pod in await space.executors(pool)]
    free = [executor for executor in executors if await is_warm(cluster.http, executor)][:PRINCIPALS]
    direct = await _all_at_once(_claim_and_run(cluster, executor) for executor in free)
    own = written.gateway.total() + written.operator.total()
    return Result(
        rows=(
            times("claim and run, direct", direct),
            times("claim and run, gateway", ours, peer=direct),
            times("all answered, direct", [max(direct)]),
            times("all answered, gateway", [max(ours)], peer=[max(direct)]),
            times("the same users once more, gateway", again),
            amount("execpool's own writes", own / PRINCIPALS, "writes/claim", n=PRINCIPALS),
        ),
        notes=(
            "peer: claims made directly at twenty other executors. p99 is the largest of n.",
            f"gateway, during the burst: {by_resource(written.gateway)}",
            f"operator, during the burst: {by_resource(written.operator)}",
            f"API server, during the burst: {by_resource(written.everybody)}",
        ),
    )


async def _claim_and_run(cluster: Cluster, executor: Executor) -> None:
    grant = await claim(cluster.http, executor, executor.executor_id)
    await execute(cluster.http, executor.data_url, grant)


async def _all_at_once(works: Iterable[Coroutine[Any, Any, None]]) -> list[float]:
    """Return when each was done, from the common start."""
    began = time.perf_counter()

    async def one(work: Coroutine[Any, Any, None]) -> float:
        await work
        return time.perf_counter() - began

    return list(await asyncio.gather(*(one(work) for work in works)))
