"""How soon a lost warm executor is asked for again: from the event that its pod is going to that of the new pod.

A running warm pod of a full pool is deleted as `kubectl delete pod` does. Both times are those of one watch in this
process: first the pod with a deletionTimestamp, then the pod that was not there before.

Peer, before and after ours in turn: a ReplicaSet of the same pods, which kube-controller-manager refills.
"""

import asyncio

from benchmarks.bare_pods import LABEL, make_bare_pod
from benchmarks.cluster import Namespace, delete, is_ready
from benchmarks.figures import Result, times
from benchmarks.load import rounds
from benchmarks.watching import Seen, Watch
from execpool.api import names
from execpool.kube.client import Object
from execpool.kube.kinds import PODS, Kind

WARM = 2
MOST = 6
"""Ending executors count against `max`; here it must not be what is waited for."""
ROUNDS = 20
GRACE_SECONDS = 1
PAUSE_SECONDS = 0.4
"""A pool at rest is what loses a pod; the operator and the ReplicaSet controller have then dealt with the last one."""
REPLICA_SETS = Kind("apps", "v1", "replicasets", "ReplicaSet")
MAKER = "replicaset"


async def measure(space: Namespace) -> Result:
    pool = await space.fill_pool(warm=WARM, most=MOST)
    mine = f"{names.LABEL_POOL_UID}={pool['metadata']['uid']}"
    replica_set = await space.kube.create(REPLICA_SETS, space.name, _replica_set(space))
    async with (
        Watch(space.kube, PODS, space.name, labels=mine) as ours,
        Watch(space.kube, PODS, space.name, labels=f"{LABEL}={MAKER}") as theirs,
    ):
        await _full(theirs)
        arms = {"execpool": ours, "ReplicaSet": theirs}
        series: dict[str, list[float]] = {label: [] for label in arms}
        for number in rounds(ROUNDS, least=10, seconds=70.0):
            for label in list(arms) if number % 2 else reversed(arms):
                series[label].append(await _replaced(space, arms[label]))
                await _full(arms[label])
                await asyncio.sleep(PAUSE_SECONDS)
        await delete(space.kube, REPLICA_SETS, replica_set)
    peer = series["ReplicaSet"]
    return Result(
        rows=(
            times("pod going -> new pod, ReplicaSet", peer),
            times("pod going -> new pod, execpool", series["execpool"], peer=peer),
        ),
        notes=("peer: kube-controller-manager refilling a ReplicaSet of the same pods. p99 is the largest of n.",),
    )


async def _replaced(space: Namespace, pods: Watch) -> float:
    """Delete a ready pod; return the seconds from the news of it to the new pod."""
    victim = _ready(pods)[0]
    start = len(pods.seen)
    await delete(space.kube, PODS, victim, grace_seconds=GRACE_SECONDS)
    name = victim["metadata"]["name"]
    going = await pods.until(lambda seen: seen.name == name and seen.is_ending, "a pod going", start=start)
    new = await pods.until(lambda seen: seen.is_new, "a new pod", start=start)
    return new.at - going.at


async def _full(pods: Watch) -> None:
    """Wait until as many are ready as there should be."""
    await pods.until(lambda _: len(_ready(pods)) == WARM, "all pods ready", 60.0, start=max(len(pods.seen) - 1, 0))


def _ready(pods: Watch) -> list[Object]:
    """Return the pods that are ready, by the last event of each."""
    last: dict[str, Seen] = {seen.name: seen for seen in pods.seen}
    return [seen.object for seen in last.values() if not seen.is_ending and is_ready(seen.object)]


def _replica_set(space: Namespace) -> Object:
    pod = make_bare_pod(space.cluster, space.name, "replica", MAKER)
    spec = {**pod["spec"], "restartPolicy": "Always"}  # a ReplicaSet takes no other
    template = {"metadata": {"labels": {LABEL: MAKER}}, "spec": spec}
    selector = {"matchLabels": {LABEL: MAKER}}
    return {"metadata": {"name": "peer"}, "spec": {"replicas": WARM, "selector": selector, "template": template}}
