"""What an execution writes to Kubernetes: nothing on its path, and next to nothing beside it.

Warm executions at a steady rate that does not wait for answers, with all executors claimed before; writes counted by the
API server before and after, less those of an idle window of the same length just before. The gateway's and the operator's
own counters are printed beside them: they know no other tenant of the cluster.

Peer: the usual way to claim, one PATCH of an object per execution, at the same rate through the same counters. It also
shows that the counting works.
"""

import asyncio
from itertools import count

from benchmarks.apiserver import Writes, by_resource, read_writes
from benchmarks.cluster import Namespace
from benchmarks.figures import Result, amount, times
from benchmarks.load import Caller, at_rate
from execpool.kube.kinds import Kind

PER_SECOND = 50.0
SECONDS = 20.0
PEER_SECONDS = 4.0
USERS = 4
SLOTS = 4
SETTLE_SECONDS = 3.0
"""Claims become demand, and demand a write, within a second: before the window, since claiming is not what is measured."""
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")


async def measure(space: Namespace) -> Result:
    await space.fill_pool(warm=USERS, most=USERS, slots=SLOTS)
    callers = [Caller(space, f"user-{number}") for number in range(USERS)]
    for caller in callers:
        await caller.run()
    await asyncio.sleep(SETTLE_SECONDS)
    idle, _ = await _window(space, None)
    busy, latencies = await _window(space, callers)
    patches, peer = await _peer(space)
    n = len(latencies)
    added = busy.everybody.total() - idle.everybody.total()
    own = busy.gateway.total() + busy.operator.total()
    own_idle = idle.gateway.total() + idle.operator.total()
    return Result(
        rows=(
            amount("one PATCH per execution", peer / patches, "writes/execution", n=patches),
            amount("API server, less idle", added / n, "writes/execution", n=n),
            amount("execpool's own, less idle", (own - own_idle) / n, "writes/execution", n=n),
            amount("execpool's own, all of the window", own / n, "writes/execution", n=n),
            amount("execpool's own, idle", own_idle / SECONDS, "writes/s"),
            times(f"latency at {PER_SECOND:.0f}/s, from intended start", latencies),
        ),
        notes=(
            f"API server, idle: {by_resource(idle.everybody)}",
            f"API server, executing: {by_resource(busy.everybody)}",
            f"gateway, idle: {by_resource(idle.gateway)}; executing: {by_resource(busy.gateway)}",
            f"operator, idle: {by_resource(idle.operator)}; executing: {by_resource(busy.operator)}",
        ),
    )


async def _window(space: Namespace, callers: list[Caller] | None) -> tuple[Writes, list[float]]:
    """Count what is written while the callers run code, or nothing happens for as long."""
    before = await read_writes(space.cluster)
    latencies: list[float] = []
    if callers is None:
        await asyncio.sleep(SECONDS)
    else:
        latencies = await at_rate(lambda number: callers[number % USERS].run(), per_second=PER_SECOND, seconds=SECONDS)
    return (await read_writes(space.cluster)).since(before), latencies


async def _peer(space: Namespace) -> tuple[int, int]:
    """Return how many objects were patched as a claim would, and how many PATCHes of them the API server counted."""
    names = [f"claim-{number}" for number in range(USERS)]
    for name in names:
        await space.kube.create(CONFIG_MAPS, space.name, {"metadata": {"name": name}})
    serial = count()

    async def patch(number: int) -> None:
        await space.kube.patch(CONFIG_MAPS, space.name, names[number % USERS], {"data": {"claim": str(next(serial))}})

    before = await read_writes(space.cluster)
    done = await at_rate(patch, per_second=PER_SECOND, seconds=PEER_SECONDS)
    written = (await read_writes(space.cluster)).since(before)
    return len(done), written.everybody["PATCH", CONFIG_MAPS.plural]
