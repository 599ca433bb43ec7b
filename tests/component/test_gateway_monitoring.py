"""What a gateway tells of the use of its pools: over its Lease, in its log, in its metrics; and what it does on an exhausted budget."""

import asyncio
import json
import logging
import time
from typing import Any

import pytest
from tests.component.e2b_sandboxes import COUNT, END, e2b_pool, edge, kube_with, streaming
from tests.component.gateway_world import GatewayWorld, Identity, gateway_world
from tests.component.scripted_executor import ScriptedExecutor, scripted
from tests.component.test_gateway_e2b_budgets import budget, burst, many

from execpool.api import names
from execpool.core.model import Use
from execpool.core.times import format_seconds
from execpool.core.use import read_use
from execpool.kube.kinds import LEASES, POOLS, SANDBOXES

SPENT = "budget daily allows $1.00 in 86400 s: $0.9900 are spent and $0.00 reserved"


def told(world: GatewayWorld) -> Use | None:
    (lease,) = world.kube.peek(LEASES)
    return read_use([lease["metadata"]["annotations"][names.ANNOTATION_USE]], "team/agents")


def dry_pool(on_exhausted: str, resets_in: float = 3600, **fields: Any) -> dict[str, Any]:
    daily = budget("daily", "SpendMicroUSD", 1_000_000, onExhausted=on_exhausted)
    until = format_seconds(time.time() + resets_in)
    found = {"name": "daily", "limit": 1_000_000, "remaining": 10_000, "resetsAt": until, "message": SPENT}
    return {**e2b_pool(budgets=[daily], **fields), "status": {"budgets": [found]}}


async def test_the_lease_tells_how_a_pool_is_used() -> None:
    limits = [budget("rate", limit=600, windowSeconds=60), budget("slots", "Concurrency", 4)]
    async with edge() as account:
        boxes = many(account, 2)
        kube = kube_with(*boxes)
        async with gateway_world(kube=kube, pools=[e2b_pool(budgets=limits)], lease_seconds=1) as world:
            before = await world.metric("execpool_warm_hits_total", pool="agents")
            await burst(world, 6, 2)
            await world.until(lambda: (use := told(world)) is not None and use.executions == 6)
            use = told(world)
            assert use is not None
            assert (use.warm_hits, use.offloaded, use.refused, use.waiting, use.running) == (6, 0, 0, 0, 0)
            assert abs(use.last_at - time.time()) < 5
            assert [(one.name, one.limit, one.remaining) for one in use.budgets] == [("rate", 600, 1), ("slots", 4, 4)]
            assert await world.metric("execpool_warm_hits_total", pool="agents") == before + 6


async def test_an_execution_that_waits_for_an_executor_to_start_is_no_warm_hit() -> None:
    good = ScriptedExecutor(Identity("good"))
    async with scripted(good), gateway_world() as world:
        waiting = asyncio.create_task(world.run("1"))
        await world.until(lambda: world.waiting() == 1)
        await world.put(good.identity)
        await waiting
        await world.run("2")
        (served,) = world.service._pools.all()
        assert (served.use().executions, served.use().warm_hits, served.use().offloaded) == (2, 1, 2)


async def test_a_line_is_logged_for_each_pool_with_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="execpool.gateway.monitor")
    async with edge() as account:
        (box,) = many(account, 1)
        async with gateway_world(kube=kube_with(box), pools=[e2b_pool()], monitor_seconds=0.2) as world:
            await world.run("1")
            await world.until(lambda: "warm hits 1/1 (100 %)" in caplog.text)
    record = next(one for one in caplog.records if "warm hits 1/1" in one.getMessage())
    assert record.getMessage().startswith(
        "team/agents  warm 0/0  claimed 0  running 0  waiting 0  warm hits 1/1 (100 %)"
    )
    assert "account team/main: 0/20 sandboxes, creates 0/min, 429s 0" in record.getMessage()
    assert (record.executions, record.warm_hits, record.pool) == (1, 1, "agents")


async def test_a_budget_that_holds_executions_back_is_told() -> None:
    async with edge() as account:
        (box,) = many(account, 1)
        limits = budget("slow", limit=1, windowSeconds=60)
        async with gateway_world(kube=kube_with(box), pools=[e2b_pool(budgets=[limits])]) as world:
            labels = {"pool": "agents", "reason": "BudgetExhausted"}
            before = await world.metric("execpool_pool_refusals_total", **labels)
            assert (await world.refused(maxWaitSeconds=0)).body["reason"] == "BudgetExhausted"
            (served,) = world.service._pools.all()
            (slow,) = served.use().budgets
            assert (bool(slow.exhausted), slow.remaining, served.use().refused) == (True, 0, 1)
            assert slow.resets_at is not None
            assert 50 < slow.resets_at - time.time() <= 60
            assert await world.metric("execpool_pool_refusals_total", **labels) == before + 1


# Exhausted budgets of capacity


async def test_an_exhausted_budget_that_refuses_turns_those_away_at_once_for_whom_there_is_no_executor() -> None:
    async with edge(), gateway_world(kube=kube_with(), pools=[dry_pool("Refuse")]) as world:
        began = time.monotonic()
        refused = await world.refused(maxWaitSeconds=30)
        assert time.monotonic() - began < 5
    assert (refused.status, refused.body["reason"]) == (429, "BudgetExhausted")
    assert refused.body["detail"].startswith(SPENT)
    assert 3590 <= int(refused.headers["Retry-After"]) <= 3600


async def test_an_exhausted_budget_takes_nothing_from_those_who_have_an_executor_or_find_a_warm_one() -> None:
    async with edge() as account:
        box = account.scripted("one", streaming(COUNT, END, hold=0.3))
        async with gateway_world(kube=kube_with(box), pools=[dry_pool("Refuse")]) as world:
            first = asyncio.create_task(world.run("1", user="ann"))
            await world.until(lambda: box.running == 1)
            second = asyncio.create_task(world.run("2", user="ann", maxWaitSeconds=10))
            other = await world.refused(user="bob", maxWaitSeconds=10)
            assert {(await first)["status"], (await second)["status"]} == {"Succeeded"}
    assert other.body["reason"] == "BudgetExhausted"


async def test_an_exhausted_budget_that_waits_lets_wait_and_is_the_reason_in_the_end() -> None:
    async with edge() as account, gateway_world(kube=kube_with(), pools=[dry_pool("Wait", resets_in=5)]) as world:
        late = await world.refused(maxWaitSeconds=0.3)
        assert (late.body["reason"], late.body["detail"].startswith(SPENT)) == ("BudgetExhausted", True)
        waiting = asyncio.create_task(world.run("1", maxWaitSeconds=10))
        await world.until(lambda: world.waiting() == 1)
        (box,) = many(account, 1)
        world.kube.put(POOLS, "team", e2b_pool())
        world.kube.put(SANDBOXES, "team", box.record())
        await world.kube.notify()
        assert (await waiting)["status"] == "Succeeded"


async def test_a_tier_of_pods_is_not_dry() -> None:
    dry = dry_pool("Refuse")
    dry["spec"]["tiers"].insert(0, {"name": "local", "pods": {"max": 2}})
    dry["spec"]["scaledTier"] = "e2b"
    good = ScriptedExecutor(Identity("good"))
    async with edge(), scripted(good), gateway_world(kube=kube_with(), pools=[dry]) as world:
        waiting = asyncio.create_task(world.run("1", maxWaitSeconds=10))
        await world.until(lambda: world.waiting() == 1)
        await world.put(good.identity)
        assert (await waiting)["route"]["tier"] == "local"


def test_the_log_is_json_with_the_line_as_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    from execpool.telemetry import logs

    root, ours = logging.getLogger(), logging.getLogger("execpool")
    handlers, level, own_level = root.handlers[:], root.level, ours.level
    try:
        logs.configure("INFO")
        logging.getLogger("execpool.gateway.monitor").info(
            "agents/agents  warm 3/3", extra={"warm": 3, "pool": "agents"}
        )
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        ours.setLevel(own_level)
    told = json.loads(capsys.readouterr().out)
    assert (told["event"], told["warm"], told["pool"]) == ("agents/agents  warm 3/3", 3, "agents")
