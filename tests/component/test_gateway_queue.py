"""Waiting, claiming and slots, against executors that are held still."""

import asyncio
from typing import Any

from tests.component.gateway_world import GatewayWorld, Identity, gateway_world, pool
from tests.component.scripted_executor import (
    OK,
    ScriptedExecutor,
    answering,
    chunk,
    end,
    hanging,
    scripted,
    sending,
    succeeding,
)

from execpool.core.proof import principal_id
from execpool.kube.kinds import POOLS


def executor(name: str, **fields: Any) -> ScriptedExecutor:
    slots = fields.pop("slots", 1)
    return ScriptedExecutor(
        Identity(name, slots=slots, created=fields.pop("created", "2026-01-01T00:00:00Z")), **fields
    )


def start(world: GatewayWorld, user: str, **fields: Any) -> "asyncio.Task[Any]":
    return asyncio.create_task(world.post({"code": "1", "user": user} | fields))


async def test_a_new_executor_serves_the_first_in_line() -> None:
    late = executor("late")
    async with scripted(late), gateway_world(pools=[pool(slots=1)]) as world:
        first = start(world, "ann")
        await world.until(lambda: world.demand() == {"team/agents": {"waiting": {"local": 1}, "claims": 0}})
        second = start(world, "bob", maxWaitSeconds=0.5)
        await asyncio.sleep(0.05)
        await world.put(late.identity)
        assert (await first).body["route"]["executor"] == "late"
        assert (await second).body["reason"] == "DeadlinePassed"
        assert late.claimed_for == [principal_id("acme", "ann")]


async def test_an_executor_that_is_not_ready_is_not_claimed_until_it_is() -> None:
    slow = executor("slow")
    async with scripted(slow), gateway_world() as world:
        await world.put(slow.identity, ready=False)
        waiting = start(world, "ann")
        await asyncio.sleep(0.1)
        assert slow.calls == []
        await world.put(slow.identity)
        assert (await waiting).status == 200


async def test_a_slot_that_becomes_free_goes_to_the_next_of_its_principal() -> None:
    busy = executor("busy", held=asyncio.Event())
    assert busy.held is not None
    async with scripted(busy), gateway_world(busy.identity, pools=[pool(slots=1)]) as world:
        running = start(world, "ann")
        await world.until(lambda: busy.running == 1)
        others = [start(world, user, maxWaitSeconds=1) for user in ("bob", "ann")]
        await asyncio.sleep(0.1)
        busy.held.set()
        assert (await running).status == 200
        assert (await others[1]).status == 200
        assert (await others[0]).body["reason"] == "DeadlinePassed"


async def test_no_more_run_at_once_than_there_are_slots() -> None:
    busy = executor("busy", slots=3, held=asyncio.Event())
    assert busy.held is not None
    async with scripted(busy), gateway_world(busy.identity, pools=[pool(slots=3)]) as world:
        running = [start(world, "ann") for _ in range(7)]
        await world.until(lambda: busy.running == 3)
        await asyncio.sleep(0.1)
        busy.held.set()
        assert [reply.status for reply in await asyncio.gather(*running)] == [200] * 7
        assert busy.most_running == 3


async def test_waiting_executions_of_one_principal_claim_no_more_than_they_need() -> None:
    executors = [executor(f"e{number}", slots=4, control_delay=0.05, held=asyncio.Event()) for number in range(3)]
    async with scripted(*executors), gateway_world(*(one.identity for one in executors)) as world:
        running = [start(world, "ann") for _ in range(4)]
        await world.until(lambda: sum(one.running for one in executors) == 4)
        assert [len(one.claimed_for) for one in executors if one.claimed_for] == [1]
        for one in executors:
            assert one.held is not None
            one.held.set()
        await asyncio.gather(*running)


async def test_a_claim_race_is_lost_politely_and_the_next_executor_tried() -> None:
    taken, warm = executor("taken"), executor("warm", created="2026-01-01T00:00:09Z")
    async with scripted(taken, warm), gateway_world(taken.identity, warm.identity) as world:
        taken.principal = principal_id("other", "somebody")
        assert (await world.run("1", user="ann"))["route"]["executor"] == "warm"
        assert taken.calls[-1] == "/state"
        assert (await world.refused(user="bob", maxWaitSeconds=0)).body["reason"] == "WaitTooLong"
        assert "2 of 2 ready executors are held" in (await world.refused(user="bob", maxWaitSeconds=0)).body["detail"]


async def test_whom_an_executor_serves_is_learned_when_its_claim_is_refused() -> None:
    mine = executor("mine")
    async with scripted(mine), gateway_world(mine.identity) as world:
        mine.principal = principal_id("acme", "bob")
        assert (await world.refused(user="ann", maxWaitSeconds=0)).body["reason"] == "WaitTooLong"
        assert (await world.run("1", user="bob"))["status"] == "Succeeded"


async def test_executors_that_do_not_answer_or_are_retired_are_passed_over() -> None:
    retired = executor("retired", created="2026-01-01T00:00:01Z", control_status={"/claim": 410})
    broken = executor("broken", created="2026-01-01T00:00:02Z", control_reply={"/claim": b'{"token":1}'})
    good = executor("good", created="2026-01-01T00:00:09Z")
    dead = Identity("dead")
    async with (
        scripted(retired, broken, good),
        gateway_world(dead, *(one.identity for one in (retired, broken, good))) as world,
    ):
        assert (await world.run("1"))["route"]["executor"] == "good"
        assert retired.executions == broken.executions == []


async def test_an_impostor_is_sent_neither_secret_nor_code() -> None:
    impostor = executor("impostor", control_reply={"/challenge": b'{"executor_id":"x","proof":"y"}'})
    async with scripted(impostor), gateway_world(impostor.identity) as world:
        assert (await world.refused(maxWaitSeconds=0)).body["reason"] == "WaitTooLong"
        assert set(impostor.calls) == {"/state", "/challenge"}
        assert impostor.executions == []


async def test_an_execution_turned_away_is_run_elsewhere() -> None:
    for status in (410, 429, 503):
        away = executor("away", script=answering(status))
        good = executor("good", created="2026-01-01T00:00:09Z")
        async with scripted(away, good), gateway_world(away.identity, good.identity) as world:
            answer = await world.run("1")
            assert (answer["route"]["executor"], answer["status"]) == ("good", "Succeeded")
            assert len(away.executions) == 1


async def test_an_executor_that_is_gone_before_the_run_is_no_unknown() -> None:
    gone, good = executor("gone"), executor("good", created="2026-01-01T00:00:09Z")
    async with scripted(good), gateway_world(gone.identity, good.identity) as world:
        async with scripted(gone):
            assert (await world.run("1"))["route"]["executor"] == "gone"
        for held in gone.connections:
            held.close()
        await asyncio.sleep(0.05)
        assert (await world.run("1"))["route"]["executor"] == "good"


async def test_an_executor_without_a_free_slot_rests_and_is_tried_again() -> None:
    busy = executor("busy", scripts=[answering(429)])
    async with scripted(busy), gateway_world(busy.identity) as world:
        answer = await world.run("1")
        assert answer["status"] == "Succeeded"
        assert 0.3 < answer["timings"]["waitSeconds"] < 2.0


async def test_unknown_is_never_run_again_unless_its_caller_says_so() -> None:
    losing = sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", close=True)
    lost = executor("lost", scripts=[losing, losing])
    async with scripted(lost), gateway_world(lost.identity) as world:
        answer = await world.run("1")
        assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorLost")
        assert len(lost.executions) == 1
        again = await world.run("1", retry="Safe")
        assert (again["status"], again["stdout"]) == ("Succeeded", "ran")
        assert len(set(lost.executions)) == 3


async def test_a_run_that_its_executor_says_began_before_is_unknown_and_not_run_elsewhere() -> None:
    twice = executor("twice", script=answering(409))
    other = executor("other", created="2026-01-01T00:00:09Z")
    async with scripted(twice, other), gateway_world(twice.identity, other.identity) as world:
        answer = await world.run("1")
        assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorLost")
        assert (len(twice.executions), other.executions) == (1, [])


async def test_a_safe_retry_happens_once() -> None:
    losing = sending(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", close=True)
    lost = executor("lost", script=losing)
    async with scripted(lost), gateway_world(lost.identity) as world:
        assert (await world.run("1", retry="Safe"))["status"] == "Unknown"
        assert len(lost.executions) == 2


async def test_positions_are_told_and_move_up() -> None:
    busy = executor("busy", held=asyncio.Event())
    assert busy.held is not None
    async with scripted(busy), gateway_world(busy.identity, pools=[pool(slots=1)]) as world:
        running = start(world, "ann")
        await world.until(lambda: busy.running == 1)
        ahead = start(world, "bob", maxWaitSeconds=0.3)
        await world.until(lambda: world.waiting() == 1)
        streaming = asyncio.create_task(world.lines("1", user="ann", maxWaitSeconds=5))
        assert (await ahead).body["reason"] == "DeadlinePassed"
        await asyncio.sleep(0.7)
        busy.held.set()
        lines = await streaming
        assert [line for line in lines if line["type"] == "waiting"] == [
            {"type": "waiting", "position": 2},
            {"type": "waiting", "position": 1},
        ]
        assert [line["type"] for line in lines[-2:]] == ["started", "answer"]
        assert (await running).status == 200


async def test_a_stream_refused_after_it_began_ends_with_the_problem() -> None:
    async with gateway_world() as world:
        lines = await world.lines("1", maxWaitSeconds=0.1)
    assert [line["type"] for line in lines] == ["accepted", "waiting", "refused"]
    assert lines[-1]["problem"]["reason"] == "DeadlinePassed"
    assert lines[-1]["problem"]["status"] == 504


async def test_a_waiter_that_goes_away_leaves_the_line() -> None:
    async with gateway_world() as world:
        waiting = start(world, "ann")
        await world.until(lambda: world.waiting() == 1)
        waiting.cancel()
        await world.until(lambda: world.waiting() == 0)
        assert world.service.active() == 0


async def test_those_who_wait_are_refused_when_the_pool_is_suspended() -> None:
    async with gateway_world() as world:
        waiting = start(world, "ann")
        await world.until(lambda: world.waiting() == 1)
        world.kube.put(POOLS, "team", pool(suspend=True))
        await world.kube.notify()
        assert (await waiting).body["reason"] == "PoolSuspended"


async def test_tiers_are_used_in_their_order_and_a_named_one_alone() -> None:
    tiers = [{"name": name, "pods": {"max": 4, "slots": 1}} for name in ("first", "second")]
    executors = [ScriptedExecutor(Identity(name, tier=name)) for name in ("first", "second")]
    both = pool(tiers=tiers, scaledTier="first")
    async with scripted(*executors), gateway_world(*(one.identity for one in executors), pools=[both]) as world:
        assert (await world.run("1", user="ann"))["route"]["tier"] == "first"
        answer = await world.run("1", user="bob")
        assert answer["route"]["tier"] == "second"
        named = await world.refused(user="cay", tier="second", maxWaitSeconds=0)
        assert named.body["reason"] == "WaitTooLong"


async def test_many_callers_with_few_executors_each_get_one_answer() -> None:
    executors = [executor(f"e{number}", slots=2) for number in range(3)]
    users = [f"user-{number}" for number in range(3)]
    async with (
        scripted(*executors),
        gateway_world(*(one.identity for one in executors), pools=[pool(slots=2)]) as world,
    ):
        replies = await asyncio.gather(*(start(world, users[number % 3]) for number in range(60)))
        assert [reply.status for reply in replies] == [200] * 60
        assert len({reply.body["id"] for reply in replies}) == 60
        started = [execution for one in executors for execution in one.executions]
        assert sorted(started) == sorted(reply.body["id"] for reply in replies)
        assert all(len(set(one.claimed_for)) == 1 and one.most_running <= 2 for one in executors)


async def test_a_run_whose_executor_says_nothing_more_is_given_up_and_retired() -> None:
    silent = executor("silent", script=hanging)
    async with scripted(silent), gateway_world(silent.identity, overtime_seconds=0.3) as world:
        answer = await world.run("1", timeoutSeconds=0.01)
        assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorUnresponsive")
        assert 0.3 <= answer["timings"]["runSeconds"] < 1.0
        await world.until(lambda: "/retire" in silent.calls)
        assert (await world.refused(maxWaitSeconds=0)).body["reason"] == "WaitTooLong"


async def test_an_answer_does_not_wait_for_a_stream_that_stays_open_after_its_end() -> None:
    open_ended = executor("open", scripts=[sending(OK + chunk(end()))], script=succeeding)
    async with scripted(open_ended), gateway_world(open_ended.identity) as world:
        answer = await world.run("1")
        assert answer["status"] == "Succeeded"
        assert answer["timings"]["runSeconds"] < 1.0
        assert (await world.run("1"))["status"] == "Succeeded"


async def test_the_longest_code_reaches_an_executor() -> None:
    strict = executor("strict")
    async with scripted(strict), gateway_world(strict.identity) as world:
        reply = await world.post({"code": "#" * (1 << 20)})
        assert reply.status == 200
