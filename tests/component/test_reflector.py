"""A copy that is kept by list and watch, through silence, errors and lost history."""

import asyncio

from execpool.kube.client import EventType
from execpool.kube.errors import UnreachableError
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import PODS
from execpool.kube.reflector import Reflector


def pod(name: str) -> dict:
    return {"metadata": {"name": name}}


async def followed(kube: FakeKube) -> tuple[Reflector, list, asyncio.Task]:
    seen: list = []
    reflector = Reflector(
        kube, PODS, namespace=None, on_change=lambda type_, item: seen.append((type_, item["metadata"]["name"]))
    )
    task = asyncio.create_task(reflector.run())
    await reflector.synced.wait()
    return reflector, seen, task


async def test_what_vanished_while_nobody_watched_is_told_as_deleted():
    kube = FakeKube()
    kube.put(PODS, "a", pod("one"))
    reflector, seen, task = await followed(kube)
    kube._oldest = 10**6  # the history is gone: the next watch gets a 410
    kube.drop(PODS, "a", "one")
    kube._oldest = 0
    await kube.notify()
    await asyncio.sleep(0.02)
    assert (EventType.DELETED, "one") in seen
    assert reflector.objects == {}
    task.cancel()


async def test_a_server_that_is_away_for_thousands_of_attempts_ends_no_reflector():
    attempts = 0

    def away(_call: Call) -> None:
        nonlocal attempts
        attempts += 1
        raise UnreachableError("away")

    kube = FakeKube(before=away)
    reflector = Reflector(kube, PODS, namespace=None, on_change=lambda _type, _item: None, pause=0.0)
    task = asyncio.create_task(reflector.run())
    async with asyncio.timeout(20):
        while attempts < 2000:  # noqa: ASYNC110 - counted by a hook that cannot set an event each time
            await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
