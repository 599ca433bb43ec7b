"""A pool's own budgets of creations, sandboxes and money, by E2B's ledger, with operators that come and go."""

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from tests.component.account_world import AccountWorld, account_world
from tests.component.scripted_e2b import Reset, Status
from tests.component.test_e2b_account import always, once

from execpool.core.model import Use
from execpool.kube.kinds import POOLS, SANDBOXES

MICRO = 37
"""Micro-dollars that 2 CPUs and 2 GiB cost in a second."""
FIRST = 900 * MICRO
"""What a sandbox reserves before it is asked for."""
DAY = 86400


def budget(resource: str, limit: int, name: str = "b", **fields: Any) -> dict[str, Any]:
    return {"name": name, "resource": resource, "limit": limit, **fields}


def of_pool(world: AccountWorld, uid: str) -> list[Any]:
    return [one for one in world.e2b.sandboxes.values() if one.tag.get("execpool-pool") == uid]


def lifetime(world: AccountWorld, one: Any) -> float:
    return min(one.killed_at or world.now, one.deadline, world.now) - one.started_at


def spent(world: AccountWorld, uid: str, since: float = 0.0, until: float = float("inf")) -> float:
    """What the sandboxes of a pool have cost in a window, by E2B's ledger."""
    total = 0.0
    for one in of_pool(world, uid):
        end = min(one.killed_at or world.now, one.deadline, world.now, until)
        total += MICRO * max(end - max(one.started_at, since), 0.0)
    return total


def most_in_a_window(times: list[float], seconds: float) -> int:
    return max((sum(begin <= at < begin + seconds for at in times) for begin in times), default=0)


def most_alive(world: AccountWorld, uid: str) -> int:
    mine = of_pool(world, uid)
    ends = {one.id: min(one.killed_at or world.now, one.deadline) for one in mine}
    return max((sum(other.started_at <= one.started_at < ends[other.id] for other in mine) for one in mine), default=0)


def told(world: AccountWorld, namespace: str = "agents") -> dict[str, Any]:
    (pool,) = world.kube.peek(POOLS, namespace)
    return {one["name"]: one for one in pool["status"].get("budgets", [])}


# Creates


async def test_creations_keep_to_the_budget_of_their_pool_and_the_pool_says_when_the_next_one_may_be():
    async with account_world() as world:
        ref = world.apply_pool(4, budgets=[budget("Creates", 6, windowSeconds=360)])
        await world.run(130)
        assert len(of_pool(world, ref.uid)) == 2
        condition = world.pool_condition("BudgetAvailable")
        assert (condition["status"], condition["reason"]) == ("False", "BudgetExhausted")
        assert (
            "budget b lets 6 sandboxes be created in 360 s, 1 at once; the next one may be at 2026-"
            in (condition["message"])
        )
        await world.run(130)
        times = [one.started_at for one in of_pool(world, ref.uid)]
        assert most_in_a_window(times, 60) == 1
        assert (len(times), world.verdict(4)) == (4, (0, 0, 0))
        await world.run(80)
        assert world.pool_condition("BudgetAvailable")["status"] == "True"


async def test_a_creation_that_e2b_refused_costs_the_budget_nothing():
    async with account_world() as world:
        world.e2b.fault = once("create", Status(429, retry_after="2"))
        world.apply_pool(1, budgets=[budget("Creates", 60)])
        await world.run(8)
        assert world.verdict(1) == (0, 0, 0)


async def test_a_budget_of_one_pool_does_not_hold_back_another_of_its_account():
    async with account_world() as world:
        world.apply_account(allowedNamespaces=["team"])
        slow = world.apply_pool(3, budgets=[budget("Creates", 1, windowSeconds=3600)])
        free = world.apply_pool(3, namespace="team")
        await world.run(30)
        assert (len(of_pool(world, slow.uid)), len(of_pool(world, free.uid))) == (0, 3)


async def test_a_new_operator_asks_for_nothing_before_it_has_seen_the_pool_and_its_budgets():
    async with account_world() as world:
        world.e2b.fault = once("create", Reset())
        world.apply_pool(1, budgets=[budget("Creates", 1, windowSeconds=3600)])
        await world.run(3601 + 5, step=5)
        await world.replace_operator()
        asked = world.e2b.count("create")
        for _ in range(30):
            await world.work(())
            world.now += 5
        assert (asked, world.e2b.count("create")) == (1, 1)


# Sandboxes


async def test_sandboxes_keep_to_the_budget_of_their_pool_and_a_lower_one_ends_what_is_warm():
    async with account_world() as world:
        ref = world.apply_pool(5, budgets=[budget("Sandboxes", 3)])
        await world.run(30)
        assert most_alive(world, ref.uid) == 3
        condition = world.pool_condition("BudgetAvailable")
        assert condition["message"] == "budget b allows 3 sandboxes at the same time, and there are 3"
        assert world.pool_condition("WarmPoolFilled")["reason"] == "BudgetExhausted"
        world.apply_pool(5, budgets=[budget("Sandboxes", 1)])
        await world.run(30)
        assert len(world.e2b.alive()) == 1
        world.apply_pool(1, budgets=[budget("Sandboxes", 1)])
        await world.run(90)
        assert (world.pool_condition("BudgetAvailable")["status"], told(world)["b"]["remaining"]) == ("True", 0)


# Money


async def test_a_pool_spends_no_more_than_its_budget_and_begins_again_with_the_next_window():
    async with account_world() as world:
        world.now += 3600 - world.now % 3600
        ref = world.apply_pool(4, budgets=[budget("SpendMicroUSD", 80_000, windowSeconds=3600, onExhausted="Refuse")])
        await world.run(60)
        assert len(world.e2b.alive()) == 2
        condition = world.pool_condition("BudgetAvailable")
        assert condition["reason"] == "BudgetExhausted"
        assert "budget b allows $0.0800 in 3600 s: $0.0000 are spent and $0.0667 reserved" in condition["message"]
        assert 80_000 - 2 * FIRST - 10 * MICRO <= told(world)["b"]["remaining"] <= 80_000 - 2 * FIRST
        assert told(world)["b"]["message"] == condition["message"]
        begin = world.now - world.now % 3600
        await world.run(3000, step=20)
        assert world.e2b.alive() == {}
        assert 50_000 < spent(world, ref.uid) <= 80_000
        await world.run(900, step=10)
        assert sum(one.started_at >= begin + 3600 for one in of_pool(world, ref.uid)) == 2
        assert spent(world, ref.uid, begin, begin + 3600) <= 80_000


async def test_a_claimed_sandbox_runs_to_its_end_on_a_spent_budget():
    async with account_world() as world:
        world.apply_pool(1, budgets=[budget("SpendMicroUSD", 40_000)])
        await world.run(10)
        world.claim(world.records()[0]["metadata"]["name"])
        await world.run(2000, step=20)
        assert (world.phases(), len(world.e2b.alive())) == (["Claimed"], 1)


async def test_what_a_pool_has_spent_survives_operators_and_the_records_of_its_sandboxes():
    async with account_world() as world:
        ref = world.apply_pool(2, budgets=[budget("SpendMicroUSD", 100_000)])
        await world.run(400, step=5)
        world.apply_pool(0, budgets=[budget("SpendMicroUSD", 100_000)])
        await world.run(20)
        assert world.records() == []
        (kept,) = world.account()["status"]["poolSpend"]
        assert kept["settledMicroUSD"] >= spent(world, ref.uid) > 2 * MICRO * 380
        await world.replace_operator()
        world.apply_pool(4, budgets=[budget("SpendMicroUSD", 100_000)])
        await world.run(60)
        assert len(world.e2b.alive()) == (100_000 - kept["settledMicroUSD"]) // FIRST
        await world.run(6000, step=20)
        assert spent(world, ref.uid) <= 100_000


async def test_a_sandbox_that_ends_before_a_new_operator_has_seen_its_pool_is_booked_to_its_budget():
    async with account_world() as world:
        ref = world.apply_pool(1, budgets=[budget("SpendMicroUSD", 100_000)])
        await world.run(100)
        await world.replace_operator()
        (record,) = world.records()
        await world.kube.delete(SANDBOXES, "agents", record["metadata"]["name"], uid=record["metadata"]["uid"])
        await world.work(())
        assert world.records() == []
        (kept,) = world.account()["status"]["poolSpend"]
        assert kept["settledMicroUSD"] >= spent(world, ref.uid) > MICRO * 90


async def test_a_pool_that_is_gone_is_forgotten_when_its_window_is_over():
    async with account_world() as world:
        world.apply_pool(1, budgets=[budget("SpendMicroUSD", 100_000, windowSeconds=600)])
        await world.run(30)
        world.delete_pool()
        await world.run(60)
        assert len(world.account()["status"]["poolSpend"]) == 1
        await world.run(1200, step=20)
        world.apply_account()  # something else to write
        world.e2b.make("base", {}, 300)
        await world.run(70, step=5)
        assert world.account()["status"].get("poolSpend", []) == []


async def test_an_extension_whose_answer_is_lost_is_paid_for():
    async with account_world() as world:
        world.apply_account(dailySpendMicroUSD=2 * FIRST + 100)
        world.apply_pool(1)
        await world.run(20)
        world.e2b.fault = always(Reset(commits=True), "extend")
        await world.run(420, step=5)
        spend = world.account()["status"]["spend"]
        (sandbox,) = world.e2b.alive().values()
        granted = MICRO * (sandbox.deadline - sandbox.started_at)
        assert granted > FIRST
        assert spend["reservedMicroUSD"] >= granted


# A day


async def test_what_a_day_of_warmth_costs_is_the_sum_of_the_sandboxes_lifetimes():
    async with account_world() as world:
        world.now += DAY - world.now % DAY
        limit = 4 * DAY * MICRO
        world.apply_account(dailySpendMicroUSD=limit)
        spec = {"e2b": {"maxAgeSeconds": 3000}, "budgets": [budget("SpendMicroUSD", limit, "daily")]}
        ref = world.apply_pool(3, **spec)
        for _ in range(95):
            await world.run(900, step=50)
            spend = world.account()["status"]["spend"]
            assert spend["settledMicroUSD"] + spend["reservedMicroUSD"] <= limit
        world.apply_pool(0, **spec)
        await world.run(120, step=10)
        assert (world.e2b.alive(), world.now % DAY > 80_000) == ({}, True)
        truth = MICRO * sum(lifetime(world, one) for one in world.e2b.sandboxes.values())
        sandboxes = len(world.e2b.sandboxes)
        assert sandboxes >= 3 * 85_000 / 3000
        assert truth > 3 * 85_000 * MICRO
        (kept,) = world.account()["status"]["poolSpend"]
        for settled in (kept["settledMicroUSD"], world.account()["status"]["spend"]["settledMicroUSD"]):
            # From the record to the confirmed end, so a little longer than E2B counts; never less.
            assert truth <= settled <= truth + sandboxes * MICRO * 60
        assert kept["poolUID"] == ref.uid


async def test_a_day_under_a_budget_that_does_not_last_for_it_ends_within_it():
    async with account_world() as world:
        world.now += DAY - world.now % DAY
        limit = DAY * MICRO  # a third of what three need
        ref = world.apply_pool(3, budgets=[budget("SpendMicroUSD", limit)])
        await world.run(DAY - 200, step=100)
        assert world.e2b.alive() == {}
        assert 0.95 * limit < spent(world, ref.uid) <= limit
        assert world.pool_condition("BudgetAvailable")["status"] == "False"


# Any order of things

SANDBOXES_LIMIT, SPEND = 3, 6 * FIRST
WINDOW = 120
RATES = st.sampled_from([(1, 1), (2, 1), (4, 2)])
"""Creations in a window, and at once."""


def budgets_of(creates: int, burst: int) -> list[dict[str, Any]]:
    return [
        budget("Creates", creates, "creates", windowSeconds=WINDOW, burst=burst),
        budget("Sandboxes", SANDBOXES_LIMIT, "sandboxes"),
        budget("SpendMicroUSD", SPEND, "money", windowSeconds=3600),
    ]


HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 400)),
        st.tuples(
            st.just("scale"), st.sampled_from([("agents", n) for n in (0, 1, 5)] + [("team", n) for n in (0, 2, 5)])
        ),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("crash"), st.sampled_from(["create", "extend", "kill"])),
        st.tuples(st.just("lose"), st.none()),
        st.tuples(st.just("claim"), st.none()),
        st.tuples(
            st.just("fault"), st.sampled_from([Reset(commits=True), Reset(), Status(503), Status(429, retry_after="3")])
        ),
    ),
    min_size=4,
    max_size=14,
)


async def live_through(rate: tuple[int, int], happenings: list[tuple[str, Any]]) -> list[str]:
    budgets = budgets_of(*rate)
    async with account_world() as world:
        world.apply_account(
            plan="Hobby", limits={"sandboxes": 10}, allowedNamespaces=["team"], dailySpendMicroUSD=10 * FIRST
        )
        refs = {name: world.apply_pool(3, namespace=name, budgets=budgets) for name in ("agents", "team")}
        claimed = False
        for what, detail in happenings:
            if what == "run":
                await world.run(detail, step=max(detail / 30, 1))
            elif what == "scale":
                world.apply_pool(detail[1], namespace=detail[0], budgets=budgets)
            elif what == "restart":
                await world.replace_operator()
            elif what == "crash":
                die_at(world, detail)
            elif what == "lose" and world.e2b.alive():
                world.e2b.lose(min(world.e2b.alive()))
            elif what == "claim" and "Ready" in world.phases():
                record = next(one for one in world.records() if one.get("status", {}).get("phase") == "Ready")
                world.claim(record["metadata"]["name"], namespace=record["metadata"]["namespace"])
                claimed = True
            elif what == "fault":
                world.e2b.fault = once("create", detail)
        await world.run(200, step=5)
        return broken(world, refs, sum(rate) - 1, claimed=claimed)


def die_at(world: AccountWorld, call: str) -> None:
    armed = [True]
    world.crash = lambda effect, after: effect == f"e2b {call}" and after and bool(armed) and bool(armed.pop())


def broken(world: AccountWorld, refs: dict[str, Any], creates: int, *, claimed: bool) -> list[str]:
    """Which promises do not hold by E2B's ledger. What is claimed runs to its end, whatever that costs."""
    every = [one.started_at for one in world.e2b.sandboxes.values() if one.tag.get("execpool-record")]
    hours = [int(at) // 3600 * 3600 for at in every]
    kept = {"the account's rate": most_in_a_window(every, 1.0) <= 1}
    kept["the account's money"] = claimed or sum(spent(world, ref.uid) for ref in refs.values()) <= 10 * FIRST
    for name, ref in refs.items():
        times = [one.started_at for one in of_pool(world, ref.uid)]
        kept[f"creates of {name}"] = most_in_a_window(times, WINDOW) <= creates
        kept[f"sandboxes of {name}"] = most_alive(world, ref.uid) <= SANDBOXES_LIMIT
        spends = [spent(world, ref.uid, hour, hour + 3600) for hour in hours]
        kept[f"money of {name}"] = claimed or max(spends, default=0.0) <= SPEND
    return [promise for promise, holds in kept.items() if not holds]


@pytest.mark.timeout(300)
@settings(max_examples=25, deadline=None)
@given(RATES, HAPPENINGS)
@example((1, 1), [("run", 130), ("restart", None), ("run", 5)])
@example((2, 1), [("run", 90), ("crash", "create"), ("run", 30), ("lose", None), ("restart", None)])
async def test_no_window_is_over_its_limit_in_any_order_of_things(
    rate: tuple[int, int], happenings: list[tuple[str, Any]]
):
    """Two pools in two namespaces on one account; their own budgets and the account's hold together."""
    assert await live_through(rate, happenings) == []


# In use


async def test_warm_sandboxes_that_nobody_uses_while_others_use_the_account_are_told_of():
    async with account_world() as world:
        world.use = Use(since=world.now)
        world.apply_pool(3)
        await world.run(60)
        began = world.now
        assert world.pool_condition("PoolInUse")["reason"] == "NoDemand"
        for _ in range(4):
            world.e2b.make("base", {}, 3600)
        await world.run(590, step=5)
        assert world.pool_condition("PoolInUse")["status"] == "Unknown"
        await world.run(80, step=5)
        found = world.pool_condition("PoolInUse")
        assert (found["status"], found["reason"]) == ("False", "Bypassed")
        assert found["message"].startswith(
            "3 warm sandboxes, 0 executions since 2026-01-01T00:01:40Z, while 4 sandboxes"
        )
        assert "that this pool did not make run on account agents/main" in found["message"]
        assert world.now - began < 700
        world.use = Use(executions=1, warm_hits=1, last_at=world.now, since=began)
        await world.run(5)
        assert world.pool_condition("PoolInUse")["status"] == "True"


async def test_a_breaker_that_opens_is_told_in_the_status_of_the_tier():
    async with account_world() as world:
        world.apply_pool(1)
        await world.run(5)
        (pool,) = world.kube.peek(POOLS)
        assert pool["status"]["tiers"][0]["breaker"] == "Closed"
        world.e2b.fault = always(Status(503))
        world.apply_pool(4)
        await world.run(60)
        (pool,) = world.kube.peek(POOLS)
        assert pool["status"]["tiers"][0]["breaker"] in ("Open", "HalfOpen")


async def test_figures_alone_never_write_a_status():
    async with account_world() as world:
        world.use = Use(executions=1, last_at=world.now, since=world.now)
        world.apply_pool(2, budgets=[budget("Executions", 60, "rate"), budget("SpendMicroUSD", 10**9, "money")])
        await world.run(60)
        world.kube.calls.clear()
        for second in range(30):
            world.use = Use(executions=second, warm_hits=second // 2, last_at=world.now, since=1.0)
            await world.run(3)
        assert [call for call in world.kube.writes() if call.plural == "executionpools"] == []


# What an account tells of itself


async def test_a_new_operator_goes_on_with_what_the_last_one_learned_and_never_above_what_is_declared():
    async with account_world() as world:
        world.apply_account(plan="Custom", limits={"createsPerSecond": 5, "sandboxes": 50})
        world.e2b.fault = once("create", Status(429, retry_after="60"))
        world.apply_pool(1)
        await world.run(8)
        learned = world.account()["status"]["learnedLimits"]["createsPerMinute"]
        assert learned == 5 * 60 * 97 // 100 // 2
        await world.replace_operator()
        await world.work()
        assert world.desk().limits.creates_per_minute() == learned
        assert world.account()["status"]["learnedLimits"]["createsPerMinute"] == learned
        world.apply_account(plan="Custom", limits={"createsPerSecond": 1, "sandboxes": 50})
        await world.replace_operator()
        await world.work()
        assert world.desk().limits.creates_per_minute() == 60 * 97 // 100


async def test_what_was_asked_of_an_account_is_told_with_the_next_change():
    async with account_world() as world:
        world.e2b.fault = once("create", Status(429, retry_after="2"))
        world.apply_pool(3)
        await world.run(30)
        recent = world.account()["status"]["recent"]
        assert (recent["creates"], recent["tooMany"]) == (4, 1)


async def test_metrics_follow_breaker_budgets_and_account():
    labels = {"namespace": "agents", "account": "main"}

    def value(name: str, **more: str) -> float | None:
        return REGISTRY.get_sample_value(name, labels | more)

    async with account_world() as world:
        opened = {"plane": "Control", "state": "Open", "reason": "Failure"}
        before = value("execpool_breaker_transitions_total", **opened) or 0
        world.apply_account(dailySpendMicroUSD=10**6)
        world.apply_pool(2, budgets=[budget("SpendMicroUSD", 10**6, "daily")])
        await world.run(20)
        assert value("execpool_breaker_state", plane="Control", state="Closed") == 1
        assert value("execpool_account_sandboxes", owner="Ours") == 2
        assert value("execpool_account_spend_usd", state="Reserved") == pytest.approx(2 * FIRST / 1e6, rel=0.01)
        of_budget = {"namespace": "agents", "pool": "agents", "budget": "daily"}
        assert REGISTRY.get_sample_value("execpool_budget_limit", of_budget) == 10**6
        assert 0 < (REGISTRY.get_sample_value("execpool_budget_remaining", of_budget) or 0) < 10**6
        world.e2b.fault = always(Status(503))
        world.apply_pool(4, budgets=[budget("SpendMicroUSD", 10**6, "daily")])
        await world.run(40)
        assert (value("execpool_breaker_transitions_total", **opened) or 0) > before
        assert value("execpool_breaker_state", plane="Control", state="Closed") == 0
        world.e2b.fault = lambda _name: None
        world.delete_pool()
        await world.run(120)
        assert REGISTRY.get_sample_value("execpool_budget_limit", of_budget) is None
