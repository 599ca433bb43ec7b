"""The API server in memory: what it forgets it says, and a pod that runs goes when its node lets it go."""

import asyncio
from contextlib import suppress

import pytest

from execpool.kube.errors import GoneError, NotFoundError
from execpool.kube.kinds import PODS
from execpool.kube.memory import MemoryKube
from execpool.kube.reflector import Reflector


async def created(kube: MemoryKube, name: str, **spec: str) -> dict:
    return await kube.create(PODS, "team", {"metadata": {"name": name}, "spec": spec})


async def test_a_watch_from_before_what_is_remembered_gets_a_410():
    kube = MemoryKube(most_history=3)
    first = await created(kube, "p0")
    for number in range(1, 5):
        await created(kube, f"p{number}")
    with pytest.raises(GoneError):
        await anext(kube.watch(PODS, None, resource_version=first["metadata"]["resourceVersion"]))


async def test_a_reflector_that_fell_behind_lists_again_and_misses_nothing():
    kube = MemoryKube(most_history=3)
    pods = Reflector(kube, PODS, namespace=None, on_change=lambda _type, _pod: None)
    running = asyncio.create_task(pods.run())
    await pods.synced.wait()
    for number in range(20):
        await created(kube, f"p{number}")
    async with asyncio.timeout(5):
        while len(pods.objects) < 20:  # noqa: ASYNC110 - another task's work
            await asyncio.sleep(0.01)
    assert {pod["metadata"]["name"] for pod in pods.objects.values()} == {f"p{number}" for number in range(20)}
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_every_object_has_a_uid_of_its_own_and_the_time_of_its_creation():
    kube = MemoryKube(now=lambda: 1_767_225_661.0)
    one, other = await created(kube, "one"), await created(kube, "other")
    assert one["metadata"]["uid"] != other["metadata"]["uid"]
    assert one["metadata"]["creationTimestamp"] == "2026-01-01T00:01:01Z"


async def test_a_pod_on_a_node_is_only_marked_until_its_node_lets_it_go():
    kube = MemoryKube()
    pod = await created(kube, "bound", nodeName="here")
    await kube.delete(PODS, "team", "bound", uid=pod["metadata"]["uid"])
    assert (await kube.get(PODS, "team", "bound"))["metadata"]["deletionTimestamp"]
    await kube.delete(PODS, "team", "bound", uid=pod["metadata"]["uid"], grace_seconds=0)
    with pytest.raises(NotFoundError):
        await kube.get(PODS, "team", "bound")


async def test_a_pod_on_no_node_goes_at_once():
    kube = MemoryKube()
    pod = await created(kube, "pending")
    await kube.delete(PODS, "team", "pending", uid=pod["metadata"]["uid"])
    assert kube.peek(PODS) == ()
