"""Budgets, the account's rate, its pace and its breaker, in front of scripted sandboxes."""

import asyncio
import time
from typing import Any

import pytest
from tests.component.e2b_sandboxes import (
    COUNT,
    END,
    Edge,
    Sandbox,
    answering,
    e2b_pool,
    edge,
    kube_with,
    streaming,
)
from tests.component.gateway_world import GatewayWorld, Reply, gateway_world, pool

from execpool.core.breaker import TRIP_AFTER
from execpool.kube.kinds import ACCOUNTS, POOLS, SANDBOXES


def budget(name: str = "b", resource: str = "Executions", limit: int = 2, **fields: Any) -> dict[str, Any]:
    return {"name": name, "resource": resource, "limit": limit, **fields}


def many(account: Edge, count: int) -> list[Sandbox]:
    return [account.scripted(f"box-{number}") for number in range(count)]


def runs(sandboxes: list[Sandbox]) -> int:
    return sum(len(sandbox.bodies) for sandbox in sandboxes)


async def burst(world: GatewayWorld, count: int, users: int, **fields: Any) -> list[Reply]:
    asked = [world.post({"code": "1", "user": f"user-{number % users}", **fields}) for number in range(count)]
    return list(await asyncio.gather(*asked))


def timed(sandboxes: list[Sandbox]) -> list[float]:
    """Note when each execution reaches a sandbox."""
    times: list[float] = []

    async def noting(request: Any, body: dict[str, Any]) -> Any:
        times.append(time.monotonic())
        return await streaming(COUNT, END)(request, body)

    for sandbox in sandboxes:
        sandbox.scripts += [noting] * 200
    return times


def most_within(times: list[float], seconds: float) -> int:
    return max(sum(first <= other < first + seconds for other in times) for first in times)


async def test_a_rate_holds_when_everybody_comes_at_once_and_everybody_is_served() -> None:
    limits = budget(limit=20, windowSeconds=1, burst=4)
    async with edge() as account:
        boxes = many(account, 6)
        times = timed(boxes)
        async with gateway_world(kube=kube_with(*boxes), pools=[e2b_pool(budgets=[limits])]) as world:
            replies = await burst(world, 60, 6)
    assert [reply.status for reply in replies] == [200] * 60
    # A window of the gateway's clock, seen through sockets: a tenth of it is left for what those take.
    assert most_within(times, 0.9) <= 20 + 4 - 1
    assert max(times) - min(times) > 2.4


async def test_the_rate_of_an_account_holds_over_its_pools() -> None:
    async with edge() as account:
        boxes = many(account, 4)
        times = timed(boxes)
        kube = kube_with(*boxes[:2], limits={"executionsPerMinute": 1200})
        for box in boxes[2:]:
            record = box.record()
            record["metadata"]["labels"]["execpool.dev/pool-uid"] = "other-uid"
            kube.put(SANDBOXES, "team", record)
        other = {**e2b_pool(), "metadata": {"name": "other", "uid": "other-uid"}}
        async with gateway_world(kube=kube, pools=[e2b_pool(), other]) as world:
            halves = await asyncio.gather(burst(world, 15, 2, pool="agents"), burst(world, 15, 2, pool="other"))
    assert {reply.status for half in halves for reply in half} == {200}
    assert most_within(times, 0.9) <= 20
    assert max(times) - min(times) >= 29 * 0.05 - 0.05


async def test_an_execution_that_cannot_come_in_time_is_refused_at_once_with_the_numbers() -> None:
    limits = budget("daily", limit=6, windowSeconds=60)
    async with edge() as account:
        (box,) = boxes = many(account, 1)
        async with gateway_world(kube=kube_with(box), pools=[e2b_pool(budgets=[limits])]) as world:
            began = time.monotonic()
            refused = await world.refused(maxWaitSeconds=5)
            impatient = await world.refused(maxWaitSeconds=0)
            took = time.monotonic() - began
            held_back = await world.metric("execpool_held_back_executions", pool="agents")
    assert took < 1
    assert (refused.status, refused.body["reason"]) == (429, "BudgetExhausted")
    assert refused.body["detail"].startswith("budget daily lets 6 executions through in 60 s, 1 at once, and 0 now")
    assert 8 <= int(refused.headers["Retry-After"]) <= 10
    assert (impatient.body["reason"], held_back, runs(boxes)) == ("BudgetExhausted", 0, 0)


async def test_the_wait_that_is_told_is_that_behind_all_who_wait() -> None:
    limits = budget(limit=2, windowSeconds=1)
    async with edge() as account:
        (box,) = many(account, 1)
        async with gateway_world(kube=kube_with(box), pools=[e2b_pool(budgets=[limits])]) as world:
            first = [asyncio.create_task(world.run("1")) for _ in range(3)]
            await world.until(lambda: world.waiting() >= 2)
            began = time.monotonic()
            refused = await world.refused(maxWaitSeconds=0.9)
            assert time.monotonic() - began < 0.5
            assert refused.body["reason"] == "BudgetExhausted"
            assert {(await task)["status"] for task in first} == {"Succeeded"}


async def test_a_budget_that_refuses_does_not_let_wait() -> None:
    limits = budget("slots", "Concurrency", 1, onExhausted="Refuse")
    async with edge() as account:
        one, two = account.scripted("one", streaming(COUNT, END, hold=0.5)), account.scripted("two")
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool(budgets=[limits])]) as world:
            running = asyncio.create_task(world.run("1"))
            await world.until(lambda: one.running == 1)
            refused = await world.refused(user="bob")
            assert (await running)["status"] == "Succeeded"
            assert (await world.run("1", user="bob"))["status"] == "Succeeded"
    assert refused.body["reason"] == "BudgetExhausted"
    assert "budget slots allows 1 executions at a time, and 1 run" in refused.body["detail"]


async def test_concurrency_of_each_user_holds_whatever_is_free() -> None:
    limits = budget("slots", "Concurrency", 2, scope="User")
    async with edge() as account:
        boxes = many(account, 8)
        most = {"ann": 0, "bob": 0}
        now = {"ann": 0, "bob": 0}

        async def counting(request: Any, body: dict[str, Any]) -> Any:
            now[body["code"]] += 1
            most[body["code"]] = max(most[body["code"]], now[body["code"]])
            answer = await streaming(COUNT, END, hold=0.05)(request, body)
            now[body["code"]] -= 1
            return answer

        for box in boxes:
            box.scripts += [counting] * 20
        async with gateway_world(kube=kube_with(*boxes), pools=[e2b_pool(budgets=[limits])]) as world:
            asked = [world.run(user, user=user) for _ in range(8) for user in ("ann", "bob")]
            answers = await asyncio.gather(*asked)
    assert {answer["status"] for answer in answers} == {"Succeeded"}
    assert most == {"ann": 2, "bob": 2}


async def test_a_budget_of_one_tier_sends_executions_to_the_next() -> None:
    limits = budget(tier="e2b", limit=1, windowSeconds=3600)
    spare = {"name": "spare", "e2b": {"accountRef": {"name": "other"}, "max": 4}}
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        kube = kube_with(one)
        kube.put(SANDBOXES, "team", two.record(tier="spare", account="other"))
        tiers = [e2b_pool()["spec"]["tiers"][0], spare]
        async with gateway_world(kube=kube, pools=[pool(tiers=tiers, scaledTier="e2b", budgets=[limits])]) as world:
            answer = await world.run("1")
    assert answer["route"]["executor"] == "two"


async def test_what_did_not_start_costs_no_budget() -> None:
    limits = budget(limit=1, windowSeconds=1)
    async with edge() as account:
        one, two = account.scripted("one", answering(404)), account.scripted("two")
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool(budgets=[limits])]) as world:
            await asyncio.sleep(1.1)
            answer = await world.run("1", maxWaitSeconds=0.8)
    assert answer["route"]["executor"] == "two"
    assert answer["timings"]["waitSeconds"] < 0.5


async def test_those_who_are_held_back_ask_the_operator_for_nothing() -> None:
    limits = budget(limit=1, windowSeconds=30)
    async with edge(), gateway_world(kube=kube_with(), pools=[e2b_pool(budgets=[limits])]) as world:
        waiting = asyncio.create_task(world.post({"code": "1"}))
        await world.until(lambda: world.waiting() == 1)
        (served,) = world.service._pools.all()
        assert (served.admission.held_back(), served.demand().waiting) == (1, {})
        waiting.cancel()


# The account


async def test_a_429_is_waited_out_by_the_whole_account() -> None:
    async with edge() as account:
        one, two = account.scripted("one", answering(429, headers={"Retry-After": "1"})), account.scripted("two")
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool()]) as world:
            began = time.monotonic()
            answer = await world.run("1")
            other = await world.run("1", user="bob")
            took = time.monotonic() - began
    assert (answer["status"], other["status"]) == ("Succeeded", "Succeeded")
    assert took > 0.95


async def test_an_account_that_fails_is_left_alone_and_its_callers_are_told() -> None:
    async with edge() as account:
        boxes = many(account, TRIP_AFTER + 1)
        for box in boxes:
            box.scripts.append(answering(500))
        kube = kube_with(*boxes)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            for number in range(TRIP_AFTER):
                answer = await world.run("1", user=f"user-{number}")
                assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorLost")
            refused = await world.refused(user="new", maxWaitSeconds=0)
            is_open = await world.metric("execpool_gateway_breaker_open", account="main")
            probed = await world.run("1", user="new", maxWaitSeconds=30)
            assert probed["status"] == "Unknown", "the probe failed as well"
            again = await world.refused(user="new", maxWaitSeconds=0.2)
            for box in boxes:
                box.scripts.clear()
            recovered = await world.run("1", user="user-0", maxWaitSeconds=30)
            is_closed = await world.metric("execpool_gateway_breaker_open", account="main")
    assert (refused.status, refused.body["reason"]) == (503, "BreakerOpen")
    assert int(refused.headers["Retry-After"]) >= 1
    assert "the data plane of account team/main failed 5 times in a row" in refused.body["detail"]
    assert again.body["reason"] == "BreakerOpen"
    assert recovered["status"] == "Succeeded"
    assert (is_open, is_closed) == (1, 0)


async def test_one_sandbox_that_fails_says_nothing_of_its_account() -> None:
    async with edge() as account:
        one, two = account.scripted("one", *[answering(500)] * 20), account.scripted("two")
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            for _ in range(TRIP_AFTER + 2):
                assert (await world.run("1", user="ann"))["status"] == "Unknown"
            world.kube.put(SANDBOXES, "team", two.record())
            await world.kube.notify()
            assert (await world.run("1", user="bob", maxWaitSeconds=1))["status"] == "Succeeded"


async def test_an_open_breaker_sends_executions_to_another_account() -> None:
    spare = {"name": "spare", "e2b": {"accountRef": {"name": "other"}, "max": 4}}
    async with edge() as account:
        boxes = many(account, TRIP_AFTER)
        for box in boxes:
            box.scripts.append(answering(500))
        two = account.scripted("two")
        kube = kube_with(*boxes)
        kube.put(SANDBOXES, "team", two.record(tier="spare", account="other"))
        tiers = [e2b_pool()["spec"]["tiers"][0], spare]
        async with gateway_world(kube=kube, pools=[pool(tiers=tiers, scaledTier="e2b")]) as world:
            for number in range(TRIP_AFTER):
                await world.run("1", user=f"user-{number}")
            answer = await world.run("1", user="new")
    assert answer["route"]["executor"] == "two"


@pytest.mark.parametrize("per_minute", [None, 60])
async def test_an_accounts_limit_may_change_while_the_gateway_serves(per_minute: int | None) -> None:
    async with edge() as account:
        (box,) = many(account, 1)
        kube = kube_with(box, limits={"executionsPerMinute": 1})
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            assert (await world.refused(maxWaitSeconds=0)).body["reason"] == "BudgetExhausted"
            limits = {} if per_minute is None else {"executionsPerMinute": per_minute}
            kube.put(
                ACCOUNTS, "team", {"metadata": {"name": "main"}, "spec": {"credentialsSecret": "e2b", "limits": limits}}
            )
            await kube.notify()
            assert (await world.run("1", maxWaitSeconds=3))["status"] == "Succeeded"


async def test_a_pools_budgets_may_change_while_executions_wait() -> None:
    async with edge() as account:
        (box,) = many(account, 1)
        tight = e2b_pool(budgets=[budget(limit=1, windowSeconds=60)])
        async with gateway_world(kube=kube_with(box), pools=[tight]) as world:
            waiting = asyncio.create_task(world.run("1"))
            await world.until(lambda: world.waiting() == 1)
            world.kube.put(POOLS, "team", e2b_pool())
            await world.kube.notify()
            assert (await asyncio.wait_for(waiting, 2))["status"] == "Succeeded"
