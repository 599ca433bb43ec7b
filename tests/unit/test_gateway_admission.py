"""The queue's shell: what a long line costs, and who may pass it."""

import asyncio
import time
from typing import Any, cast

import pytest

from execpool.api.names import Isolation, Refusal
from execpool.core.claiming import Target
from execpool.core.proof import RootKey
from execpool.core.sessions import About, Opening
from execpool.gateway.admission import Admission
from execpool.gateway.claims import Claims
from execpool.gateway.errors import GatewayError
from execpool.gateway.executors import ExecutorClient
from execpool.gateway.seats import Seat
from execpool.protocol import ClaimGrant

MANY = 5000
ROOT_KEY = RootKey(bytes(32))


class Client:
    """Grants every claim."""

    def __init__(self) -> None:
        self.retired: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def claim(self, target: Target, principal: str, opening: Opening | None = None) -> ClaimGrant:
        await self.gate.wait()
        return ClaimGrant("t", 1, 4 if opening else 1)

    async def retire(self, target: Target) -> None:
        self.retired.append(target.name)


def queue(max_depth: int = MANY, client: Client | None = None) -> Admission:
    claims = Claims(("team", "agents"), cast("ExecutorClient", client or Client()))
    admission = Admission(claims, "agents")
    admission.max_depth = max_depth
    claims.on_change = admission.pump
    return admission


def executor(name: str, isolation: Isolation = Isolation.CONTAINER) -> Target:
    return Target(name, name, "10.0.0.1", name, ROOT_KEY.key_id, "local", "t", 0.0, ready=True, isolation=isolation)


def enter(admission: Admission, user: str, told: list[int] | None = None, **wishes: Any) -> "asyncio.Task[Seat]":
    ticket = admission.ticket(user, ("local",), **{"max_wait": 30.0} | wishes)
    return asyncio.create_task(admission.enter(ticket, told.append if told is not None else lambda _: None))


async def settle(seconds: float = 0.02) -> None:
    await asyncio.sleep(seconds)


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_thousands_join_and_leave_in_less_than_a_second(one_by_one: bool) -> None:
    admission = queue()
    began = time.process_time()
    tasks = []
    for number in range(MANY):
        tasks.append(enter(admission, f"user-{number}"))
        await asyncio.sleep(0) if one_by_one else None
    await settle()
    assert admission.waiting() == MANY
    for task in tasks:
        task.cancel()
        await asyncio.sleep(0) if one_by_one else None
    await asyncio.gather(*tasks, return_exceptions=True)
    assert admission.waiting() == 0
    assert time.process_time() - began < 1.0


async def test_of_those_who_come_at_once_as_many_wait_as_there_is_room_for() -> None:
    admission, told = queue(max_depth=2), list[int]()
    tasks = [enter(admission, f"user-{number}", told) for number in range(4)]
    await settle()
    assert (told, admission.waiting(), admission.wanted()) == ([1, 2], 2, {"local": 2})
    for task in tasks[2:]:
        with pytest.raises(GatewayError) as caught:
            await task
        assert caught.value.refusal is Refusal.QUEUE_FULL
    for task in tasks[:2]:
        task.cancel()


async def test_a_slot_that_becomes_free_goes_to_whom_waited_and_not_to_a_newcomer() -> None:
    admission = queue()
    admission._claims.observe(executor("e"))
    seat = await enter(admission, "ann")
    waiting = enter(admission, "ann")
    await settle()
    admission._claims.release(seat)
    newcomer = enter(admission, "ann")
    await settle()
    assert (waiting.done(), newcomer.done()) == (True, False)
    newcomer.cancel()


async def test_a_deadline_ends_the_wait() -> None:
    admission = queue()
    with pytest.raises(GatewayError) as caught:
        await enter(admission, "ann", max_wait=0.05)
    assert caught.value.refusal is Refusal.DEADLINE_PASSED


async def test_a_floor_holds_for_executors_that_are_warm_and_those_one_has() -> None:
    admission = queue()
    admission._claims.observe(executor("weak"))
    held = await enter(admission, "ann")
    admission._claims.release(held)
    admission._claims.observe(executor("weak too"))
    waiting = enter(admission, "ann", floor=Isolation.SANDBOXED)
    await settle()
    assert not waiting.done()
    assert admission.wanted() == {"local": 1}
    admission._claims.observe(executor("strong", Isolation.SANDBOXED))
    assert (await waiting).target.name == "strong"
    assert (await enter(admission, "ann", floor=Isolation.CONTAINER)).target.name == "weak"


def opening(session: str) -> Opening:
    return Opening(session, 300.0, About("agents", 0.0, {}))


async def test_a_session_has_its_executor_alone() -> None:
    admission = queue()
    admission._claims.observe(executor("e"))
    seat = await enter(admission, "ann", opening=opening("s1"))
    assert admission._claims.of_session("s1") is seat.entry
    waiting = enter(admission, "ann")
    await settle()
    assert not waiting.done()
    waiting.cancel()


async def test_a_session_does_not_begin_where_its_principal_has_run_something() -> None:
    admission = queue()
    admission._claims.observe(executor("used"))
    admission._claims.release(await enter(admission, "ann"))
    waiting = enter(admission, "ann", opening=opening("s1"))
    await settle()
    assert not waiting.done()
    admission._claims.observe(executor("fresh"))
    assert (await waiting).target.name == "fresh"


async def test_a_session_whose_caller_left_while_its_executor_was_claimed_ends_with_it() -> None:
    client = Client()
    admission = queue(client=client)
    admission._claims.observe(executor("e"))
    client.gate.clear()
    waiting = enter(admission, "ann", opening=opening("s1"))
    await settle()
    waiting.cancel()
    await settle()
    client.gate.set()
    await settle()
    assert (client.retired, admission._claims.of_session("s1")) == (["e"], None)
