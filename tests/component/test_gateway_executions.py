"""The gateway in front of real executor processes: what a caller gets, and whose executor it is."""

import asyncio
import json
from collections.abc import Iterator

import aiohttp
import pytest
from tests.component.gateway_world import (
    SECRET,
    GatewayWorld,
    Identity,
    RealExecutor,
    gateway_world,
    real_executors,
)

from execpool import protocol
from execpool.core.proof import principal_id


@pytest.fixture(scope="module")
def executors() -> Iterator[list[RealExecutor]]:
    """Executors that serve one principal each for the whole module; a new gateway claims them again."""
    identities = [Identity(name, created=f"2026-01-01T00:00:0{number}Z") for number, name in enumerate(("one", "two"))]
    with real_executors(*identities) as started:
        yield started


async def state(world: GatewayWorld, identity: Identity) -> protocol.ClaimState:
    async with world.http.get(f"http://{identity.address}:{protocol.CONTROL_PORT}/state") as response:
        claim = protocol.State.decode(await response.read()).held_by()
    assert claim is not None
    return claim


async def until_running(world: GatewayWorld, identity: Identity, wanted: int) -> None:
    async with asyncio.timeout(5):
        while (await state(world, identity)).running != wanted:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


async def test_one_and_one_is_two(executors: list[RealExecutor]) -> None:
    async with gateway_world(executors[0].identity) as world:
        answer = await world.run("1+1")
    assert (answer["status"], answer["reason"], answer["error"]) == ("Succeeded", "", None)
    assert answer["results"] == [{"text": "2", "is_main_result": True}]
    assert answer["route"] == {"tier": "local", "executor": "one", "reasons": ["tiers in the pool's order"]}
    assert answer["timings"]["totalSeconds"] >= answer["timings"]["runSeconds"] > 0


async def test_output_and_errors_of_the_program_come_back(executors: list[RealExecutor]) -> None:
    code = "import sys, os\nprint('out', os.environ['WHO'])\nprint('err', file=sys.stderr)\n1/0"
    async with gateway_world(executors[0].identity) as world:
        answer = await world.run(code, env={"WHO": "ann"})
    assert answer["status"] == "Failed"
    assert (answer["stdout"], answer["stderr"]) == ("out ann\n", "err\n")
    assert answer["error"]["name"] == "ZeroDivisionError"
    assert "1/0" in answer["error"]["traceback"]


async def test_a_program_that_takes_too_long_is_timed_out(executors: list[RealExecutor]) -> None:
    async with gateway_world(executors[0].identity) as world:
        answer = await world.run("while True: pass", timeoutSeconds=0.3)
    assert (answer["status"], answer["reason"]) == ("TimedOut", "TimeLimit")
    assert answer["timings"]["runSeconds"] < 2.0


async def test_a_stream_tells_what_happens_and_ends_with_the_answer(executors: list[RealExecutor]) -> None:
    async with gateway_world(executors[0].identity) as world:
        lines = await world.lines("print('a')\n40+2")
    assert [line["type"] for line in lines] == ["accepted", "started", "stdout", "result", "answer"]
    assert lines[1] == {"type": "started", "executor": "one", "tier": "local"}
    assert lines[2] == {"type": "stdout", "text": "a\n"}
    assert lines[3]["text"] == "42"
    assert lines[0]["id"] == lines[-1]["id"]
    assert lines[-1]["stdout"] == "a\n"
    assert lines[-1]["results"] == [{"text": "42", "is_main_result": True}]


async def test_output_streams_while_the_program_runs(executors: list[RealExecutor]) -> None:
    code = "import time\nprint('first', flush=True)\ntime.sleep(5)\nprint('second')"
    async with gateway_world(executors[0].identity) as world:
        headers = {"Authorization": f"Bearer {SECRET}", "Accept": "application/x-ndjson"}
        async with world.http.post(world.url, json={"code": code}, headers=headers) as response, asyncio.timeout(4):
            async for line in response.content:
                if json.loads(line)["type"] == "stdout":
                    break
            assert json.loads(line)["text"] == "first\n"


async def test_two_principals_never_share_an_executor(executors: list[RealExecutor]) -> None:
    first, second = (one.identity for one in executors)
    async with gateway_world(first, second) as world:
        runs = [world.run("1", user=user) for user in ("", "bob") * 4]
        answers = await asyncio.gather(*runs)
        where = {
            user: {one["route"]["executor"] for one in answers[start::2]} for start, user in enumerate(("", "bob"))
        }
        assert where == {"": {"one"}, "bob": {"two"}}
        assert (await state(world, first)).principal == principal_id("acme", "")
        assert (await state(world, second)).principal == principal_id("acme", "bob")
        refused = await world.refused(user="carol", maxWaitSeconds=0)
        assert refused.body["reason"] == "WaitTooLong"


async def test_a_restarted_gateway_keeps_its_claims(executors: list[RealExecutor]) -> None:
    identity = executors[0].identity
    async with gateway_world(identity) as world:
        await world.run("1")
        before = await state(world, identity)
    async with gateway_world(identity) as world:
        refused = await world.refused(user="bob", maxWaitSeconds=0)
        assert "1 of 1 ready executors are held" in refused.body["detail"]
        assert (await world.run("2"))["route"]["executor"] == "one"
        after = await state(world, identity)
    assert (after.principal, after.epoch) == (before.principal, before.epoch + 1)


async def test_a_stale_epoch_is_claimed_again_unseen_by_the_caller(executors: list[RealExecutor]) -> None:
    identity = executors[0].identity
    async with gateway_world(identity) as world:
        await world.run("1")
        claim = {"secret": identity.secret, "principal": principal_id("acme", "")}
        url = f"http://{identity.address}:{protocol.CONTROL_PORT}/claim"
        async with world.http.post(url, json=claim) as response:
            assert response.status == 200
        before = (await state(world, identity)).epoch
        assert (await world.run("2"))["status"] == "Succeeded"
        assert (await state(world, identity)).epoch == before + 1


async def test_as_many_run_at_once_as_there_are_slots(executors: list[RealExecutor]) -> None:
    code = "import time\ntime.sleep(0.4)"
    async with gateway_world(executors[0].identity) as world:
        answers = await asyncio.gather(*(world.run(code) for _ in range(5)))
    waits = sorted(answer["timings"]["waitSeconds"] for answer in answers)
    assert [answer["status"] for answer in answers] == ["Succeeded"] * 5
    assert waits[3] < 0.35 < waits[4]


async def test_a_caller_that_goes_away_ends_its_run(executors: list[RealExecutor]) -> None:
    identity = executors[0].identity
    async with gateway_world(identity) as world:
        async with aiohttp.ClientSession() as other:
            headers = {"Authorization": f"Bearer {SECRET}"}
            posting = asyncio.create_task(other.post(world.url, json={"code": "while True: pass"}, headers=headers))
            await until_running(world, identity, 1)
            posting.cancel()
        await until_running(world, identity, 0)
        await world.until(lambda: world.service.active() == 0)
        assert await world.metric("execpool_executions_total", outcome="Cancelled") >= 1


async def test_an_executor_killed_in_a_run_leaves_its_outcome_unknown() -> None:
    with real_executors(Identity("doomed")) as (doomed,):
        async with gateway_world(doomed.identity) as world:
            running = asyncio.create_task(world.run("import time\nprint('hi', flush=True)\ntime.sleep(30)"))
            await asyncio.sleep(0.1)
            await until_running(world, doomed.identity, 1)
            await asyncio.sleep(0.2)
            doomed.kill()
            answer = await running
            assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorLost")
            assert "may have started" in answer["message"]
            await world.drop(doomed.identity)
            await world.until(lambda: world.demand() == {}, 3)


async def test_a_pod_that_is_not_the_watched_one_gets_no_code(executors: list[RealExecutor]) -> None:
    real = executors[1].identity
    reused = Identity("reused", address=real.address)  # another pod's address: 421
    forged = Identity("forged", address=real.address, uid=real.uid)  # another executor id: its proof cannot hold
    async with gateway_world(reused, forged) as world:
        refused = await world.refused(user="dora", maxWaitSeconds=0)
        assert refused.body["reason"] == "WaitTooLong"
        assert (await state(world, real)).principal == principal_id("acme", "bob")
