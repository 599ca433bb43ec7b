"""The operator's Lease on an API server in memory, with a clock that tests turn."""

import asyncio

from execpool.api.names import ANNOTATION_EPOCH
from execpool.controller.leadership import LEASE_NAME, Leadership
from execpool.kube.errors import UnreachableError
from execpool.kube.fake import FakeKube
from execpool.kube.kinds import LEASES


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def candidate(kube: FakeKube, identity: str, clock: Clock) -> Leadership:
    return Leadership(kube, "execpool-system", identity, renew_seconds=0.001, clock=clock)


def epoch(kube: FakeKube) -> int:
    return int(kube.peek(LEASES)[0]["metadata"]["annotations"][ANNOTATION_EPOCH])


async def test_the_first_candidate_wins_and_may_write_for_ten_seconds():
    kube, clock = FakeKube(), Clock()
    leader = candidate(kube, "a", clock)
    await leader.acquire()
    assert leader.may_write()
    clock.now += 10.0
    assert not leader.may_write()


async def test_a_second_candidate_waits_a_whole_lifetime_of_its_own_watching():
    kube, clock = FakeKube(), Clock()
    await candidate(kube, "a", clock).acquire()
    second = candidate(kube, "b", clock)
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.02)
    clock.now += 14.9
    await asyncio.sleep(0.02)
    assert not waiting.done()
    clock.now += 0.2
    await asyncio.wait_for(waiting, 1)
    assert second.may_write()


async def test_the_first_stops_writing_before_the_second_can_start():
    kube, clock = FakeKube(), Clock()
    first = candidate(kube, "a", clock)
    await first.acquire()
    second = candidate(kube, "b", clock)
    waiting = asyncio.create_task(second.acquire())
    for _ in range(200):
        await asyncio.sleep(0.001)
        clock.now += 0.1
        assert not (first.may_write() and second.may_write())
        if waiting.done():
            break
    assert second.may_write()


async def test_a_restarted_process_leads_again_at_once_with_a_higher_epoch():
    kube, clock = FakeKube(), Clock()
    await candidate(kube, "a", clock).acquire()
    before = epoch(kube)
    again = candidate(kube, "a", clock)
    await asyncio.wait_for(again.acquire(), 1)
    assert (again.epoch, epoch(kube)) == (before + 1, before + 1)


async def test_renewing_keeps_the_lease_and_losing_it_ends_the_hold():
    kube, clock = FakeKube(), Clock()
    leader = candidate(kube, "a", clock)
    await leader.acquire()
    holding = asyncio.create_task(leader.hold())
    for _ in range(20):
        await asyncio.sleep(0.005)
        clock.now += 2.0
    assert leader.may_write(), "renewed while 40 s passed"
    await kube.patch(LEASES, "execpool-system", LEASE_NAME, {"spec": {"holderIdentity": "thief"}})
    await asyncio.wait_for(holding, 1)
    assert not leader.may_write()


async def test_while_the_api_server_is_away_the_hold_ends_at_the_deadline_and_not_before():
    kube, clock = FakeKube(), Clock()
    leader = candidate(kube, "a", clock)
    await leader.acquire()

    def away(_call) -> None:
        raise UnreachableError("away")

    kube.before = away
    holding = asyncio.create_task(leader.hold())
    await asyncio.sleep(0.01)
    assert not holding.done()
    clock.now += 10.0
    await asyncio.wait_for(holding, 1)


async def test_a_released_lease_is_taken_without_waiting():
    kube, clock = FakeKube(), Clock()
    first = candidate(kube, "a", clock)
    await first.acquire()
    await first.release()
    assert not first.may_write()
    second = candidate(kube, "b", clock)
    await asyncio.wait_for(second.acquire(), 1)
    assert second.may_write()


async def test_a_lease_deleted_by_hand_is_made_anew_with_a_higher_epoch():
    kube, clock = FakeKube(), Clock()
    first = candidate(kube, "a", clock)
    await first.acquire()
    kube.drop(LEASES, "execpool-system", LEASE_NAME)
    second = candidate(kube, "b", clock)
    await asyncio.wait_for(second.acquire(), 1)
    assert second.epoch >= first.epoch
