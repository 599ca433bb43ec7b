"""What execpool costs while nobody uses it: CPU over a minute of quiet, and memory, of each part.

CPU in percent of one core, by the scheduler's clock; RSS, and PSS, which shares pages among the processes that map them
and so is what a further executor really takes. Executors: the mean of a pool of three.

Peer, in the same minute: kube-controller-manager, the control plane's own program for the same kind of work. The counters
of the operator say how quiet it was: in an empty cluster a pool is looked at once a minute.
"""

import asyncio
from collections.abc import Iterator

from benchmarks.apiserver import read_total
from benchmarks.cluster import Namespace
from benchmarks.figures import Result, Row, amount
from benchmarks.processes import Usage, named, of_container, usage

WARM = 3
SETTLE_SECONDS = 8.0
"""A new executor loads its second set of libraries in the background; the operator's status writes end."""
SECONDS = 60.0
PEER = "kube-controller-manager"
DESIGN_CPU, DESIGN_RSS = 0.12, 74
"""The operator's figures in the design, from a prototype on a machine of the same size."""

Pids = dict[str, tuple[tuple[int, ...], int]]
"""Processes by part, and how many instances they are."""


async def measure(space: Namespace) -> Result:
    pool = await space.fill_pool(warm=WARM)
    await asyncio.sleep(SETTLE_SECONDS)
    parts = await _parts(space, [pod["metadata"]["uid"] for pod in await space.executors(pool)])
    passes = await _reconciles(space)
    before = {part: usage(pids) for part, (pids, _) in parts.items()}
    await asyncio.sleep(SECONDS)
    after = {part: usage(pids) for part, (pids, _) in parts.items()}
    looked = await _reconciles(space) - passes
    return Result(
        rows=tuple(_rows(parts, before, after)),
        notes=(
            f"peer: {PEER} in the same minute. An executor is its server and its runner.",
            f"the design's figure for the operator: {DESIGN_CPU} % CPU, {DESIGN_RSS} MiB",
            f"the operator looked {looked:.0f} times at pools in this minute",
        ),
    )


async def _parts(space: Namespace, executors: list[str]) -> Pids:
    cluster = space.cluster
    parts: Pids = {
        "operator": (of_container(cluster.operator.uid, "execpool-operator"), 1),
        "gateway": (of_container(cluster.gateway.uid, "execpool-gateway"), 1),
        PEER: (named(PEER), 1),
    }
    for part in ("server", "runner"):
        pids = tuple(pid for uid in executors for pid in of_container(uid, part))
        parts[f"executor: {part}"] = (pids, len(executors))
    return parts


def _rows(parts: Pids, before: dict[str, Usage], after: dict[str, Usage]) -> Iterator[Row]:
    def cpu(part: str) -> float:
        return (after[part].cpu_seconds - before[part].cpu_seconds) / SECONDS * 100 / parts[part][1]

    for part, (_, instances) in parts.items():
        peer = None if part == PEER else cpu(PEER)
        yield amount(f"{part}, CPU", cpu(part), "% of a core", peer=peer, n=instances)
    for part, (_, instances) in parts.items():
        held = after[part]
        peer = None if part == PEER else after[PEER].rss
        yield amount(f"{part}, RSS", held.rss / instances, "MiB", peer=peer, n=instances)
        yield amount(f"{part}, PSS", held.pss / instances, "MiB", n=instances)


async def _reconciles(space: Namespace) -> float:
    return await read_total(space.cluster, space.cluster.operator, "execpool_reconciles_total")
