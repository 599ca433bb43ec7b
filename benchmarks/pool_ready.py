"""From `apply` to capacity: to the first pod asked for, to Ready, and to three warm executors.

Times run from before the POST of the object to the watch event that shows the effect, so they hold everything that a
user would wait for. Two series:

- creation: the pods fit no node, so that no container start disturbs the machine; the control path alone.
- to three warm: pods that run.

Peer, alternating with ours: a controller of a few lines that watches ConfigMaps and at once creates three pods of the
same image and template for each: no finalizer, no policies, no status. The ratio is our own share.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.bare_pods import make_bare_pod
from benchmarks.cluster import Namespace, delete, is_ready, is_true, pool_manifest
from benchmarks.figures import Result, times
from benchmarks.load import rounds
from benchmarks.watching import Seen, Watch
from execpool.kube.client import EventType
from execpool.kube.kinds import PODS, POOLS, Kind

WARM = 3
CREATIONS = 15
ROUNDS = 9
PAUSE_SECONDS = 0.7
"""For the kubelet to end what was removed, and for the API server: a LIST within 100 ms of another may wait as long."""
CONFIG_MAPS = Kind("", "v1", "configmaps", "ConfigMap")
NOWHERE: dict[str, Any] = {"podTemplate": {"nodeSelector": {"bench/node": "none"}}}

Series = dict[str, list[float]]


async def measure(space: Namespace) -> Result:
    ours: Series = defaultdict(list)
    bare: Series = defaultdict(list)
    async with Watch(space.kube, PODS, space.name) as pods, Watch(space.kube, POOLS, space.name) as pools:
        async with _raw_controller(space, NOWHERE):
            for number in rounds(CREATIONS, least=5, seconds=20.0):
                await _pool_created(space, f"p{number}", pods, ours)
                await _config_map_created(space, f"c{number}", pods, bare)
        async with _raw_controller(space, {}):
            for number in rounds(ROUNDS, least=3, seconds=55.0):
                await _pool_filled(space, f"q{number}", pods, pools, ours)
                await _config_map_filled(space, f"d{number}", pods, bare)
    return Result(
        rows=(
            times("apply -> first pod, raw controller", bare["created"]),
            times("apply -> first pod, execpool", ours["created"], peer=bare["created"]),
            times("apply -> last of three pods, raw controller", bare["all created"]),
            times("apply -> last of three pods, execpool", ours["all created"], peer=bare["all created"]),
            times("apply -> three pods ready, raw controller", bare["filled"]),
            times("apply -> first pod, execpool, pods running", ours["first"]),
            times("apply -> Ready, execpool", ours["ready"]),
            times("apply -> three warm in status, execpool", ours["filled"], peer=bare["filled"]),
        ),
        notes=("peer: a raw asyncio controller that creates the same pods. p99 is the largest of n.",),
    )


async def _pool_created(space: Namespace, name: str, pods: Watch, series: Series) -> None:
    began = time.perf_counter()
    pool = await space.kube.create(POOLS, space.name, pool_manifest(name, warm=WARM, **NOWHERE))
    await _note_creation(name, pods, began, series)
    await delete(space.kube, POOLS, pool)
    await _remove_pods(space, name, pods)


async def _config_map_created(space: Namespace, name: str, pods: Watch, series: Series) -> None:
    began = time.perf_counter()
    await space.kube.create(CONFIG_MAPS, space.name, {"metadata": {"name": name}})
    await _note_creation(name, pods, began, series)
    await _remove_pods(space, name, pods)


async def _note_creation(name: str, pods: Watch, began: float, series: Series) -> None:
    first = await pods.until(lambda seen: seen.is_new and seen.name.startswith(f"{name}-"), f"a pod of {name}")
    last = await pods.until(_Count(WARM, f"{name}-", lambda seen: seen.is_new), f"all pods of {name}")
    series["created"].append(first.at - began)
    series["all created"].append(last.at - began)


async def _pool_filled(space: Namespace, name: str, pods: Watch, pools: Watch, series: Series) -> None:
    began = time.perf_counter()
    pool = await space.kube.create(POOLS, space.name, pool_manifest(name, warm=WARM))
    first = await pods.until(lambda seen: seen.is_new and seen.name.startswith(f"{name}-"), f"a pod of {name}")
    ready = await pools.until(lambda seen: seen.name == name and is_true(seen.object, "Ready"), f"{name} Ready")
    filled = await pools.until(lambda seen: seen.name == name and _is_filled(seen), f"{name} full")
    for label, seen in (("first", first), ("ready", ready), ("filled", filled)):
        series[label].append(seen.at - began)
    await delete(space.kube, POOLS, pool)
    await _remove_pods(space, name, pods)


async def _config_map_filled(space: Namespace, name: str, pods: Watch, series: Series) -> None:
    began = time.perf_counter()
    await space.kube.create(CONFIG_MAPS, space.name, {"metadata": {"name": name}})
    filled = await pods.until(_Count(WARM, f"{name}-", lambda seen: is_ready(seen.object)), f"pods of {name} ready")
    series["filled"].append(filled.at - began)
    await _remove_pods(space, name, pods)


async def _remove_pods(space: Namespace, name: str, pods: Watch) -> None:
    """Remove pods at once: their orderly end takes seconds and is not what is measured."""
    living = {seen.name: seen.object for seen in pods.seen if seen.name.startswith(f"{name}-")}
    await asyncio.gather(*(delete(space.kube, PODS, pod, grace_seconds=0) for pod in living.values()))
    await pods.until_empty(f"the pods of {name} gone", prefix=f"{name}-")
    await asyncio.sleep(PAUSE_SECONDS)


class _Count:
    """True once so many different objects of a name were seen as wanted."""

    def __init__(self, wanted: int, prefix: str, holds: Any) -> None:
        self._wanted, self._prefix, self._holds = wanted, prefix, holds
        self._found: set[str] = set()

    def __call__(self, seen: Seen) -> bool:
        if seen.name.startswith(self._prefix) and self._holds(seen):
            self._found.add(seen.name)
        return len(self._found) == self._wanted


def _is_filled(seen: Seen) -> bool:
    return (seen.object.get("status") or {}).get("readyReplicas") == WARM


@asynccontextmanager
async def _raw_controller(space: Namespace, pods: dict[str, Any]) -> AsyncIterator[None]:
    """Run the peer: three pods for every ConfigMap that appears."""
    listing = await space.kube.list(CONFIG_MAPS, space.name)

    async def follow() -> None:
        stream = space.kube.watch(CONFIG_MAPS, space.name, resource_version=listing.resource_version)
        async for event in stream:
            name = event.object["metadata"].get("name", "")
            if event.type is EventType.ADDED:
                await asyncio.gather(*(create(f"{name}-{number}") for number in range(WARM)))

    async def create(name: str) -> None:
        await space.kube.create(
            PODS, space.name, make_bare_pod(space.cluster, space.name, name, "raw-controller", **pods)
        )

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
