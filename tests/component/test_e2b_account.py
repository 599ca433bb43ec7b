"""What an account's limits, refusals and faults do to the pools that draw on it, by E2B's own ledger."""

from itertools import pairwise

import pytest
from tests.component.account_world import ACCOUNT, AccountWorld, account_world
from tests.component.scripted_e2b import Fault, Hang, Late, Reset, Status

from execpool.core.slots import BETWEEN_LOOKS_SECONDS, VISIBLE_SECONDS
from execpool.core.times import format_time, parse_time
from execpool.kube.client import Listing
from execpool.kube.errors import ConflictError, ForbiddenError, UnreachableError
from execpool.kube.fake import Call
from execpool.kube.kinds import ACCOUNTS, POOLS, SANDBOXES, SECRETS


def once(operation: str, *faults: Fault):
    """Give these faults to the first requests of one operation, and none after."""
    left = list(faults)
    return lambda name: left.pop(0) if name == operation and left else None


def always(fault: Fault, *operations: str):
    return lambda name: fault if not operations or name in operations else None


async def ready(world: AccountWorld, count: int = 3, seconds: float = 12, **pool):
    ref = world.apply_pool(count, **pool)
    await world.run(seconds)
    assert world.verdict(count) == (0, 0, 0)
    return ref


# Deadlines


async def test_deadlines_are_moved_on_and_a_sandbox_outlives_its_operator_by_ten_minutes():
    async with account_world() as world:
        await ready(world, 2)
        for _ in range(4):
            await world.run(300, step=10)
            assert all(one.deadline - world.now >= 590 for one in world.e2b.alive().values())
        assert world.e2b.count("create") == 2
        world.now += 590
        assert len(world.e2b.alive()) == 2


async def test_nobody_asks_for_a_deadline_that_the_plan_does_not_allow():
    async with account_world() as world:
        world.apply_account(plan="Hobby", limits={"createsPerSecond": 5, "sandboxes": 20})
        await ready(world, 1, e2b={"maxAgeSeconds": 86400})
        await world.run(3500, step=20)
        before = world.e2b.count("extend")
        (record,) = world.records()
        assert parse_time(record["status"]["expiresAt"]) <= parse_time(record["spec"]["attemptAt"]) + 3600
        await world.run(80, step=10)
        assert world.e2b.count("extend") == before


# What E2B loses, doubles or forgets


async def test_a_sandbox_that_ended_early_is_noticed_within_three_minutes_and_replaced():
    async with account_world() as world:
        await ready(world)
        world.e2b.lose(next(iter(world.e2b.alive())))
        await world.run(180, step=2)
        assert world.verdict(3) == (0, 0, 0)
        assert world.e2b.count("create") == 4


async def test_a_creation_whose_answer_was_lost_is_found_and_adopted_with_its_tokens():
    async with account_world() as world:
        world.e2b.fault = once("create", Reset(commits=True))
        await ready(world, 1)
        assert (world.e2b.count("create"), world.e2b.count("connect")) == (1, 1)
        assert world.records()[0]["status"]["sealedTokens"]


@pytest.mark.parametrize("fault", [Hang(), Reset(), Status(503), Status(500, body="<html>"), Status(302), Status(201)])
async def test_a_creation_that_may_have_happened_is_asked_for_again_only_when_it_surely_did_not(fault: Fault):
    async with account_world() as world:
        world.e2b.fault = once("create", fault)
        world.apply_pool(1)
        await world.run(VISIBLE_SECONDS - 2)
        assert world.e2b.count("create") == 1
        assert world.pool_condition("Ready")["status"] != "True"
        await world.run(BETWEEN_LOOKS_SECONDS + 10)
        assert (world.verdict(1), world.e2b.count("create")) == ((0, 0, 0), 2)
        assert world.records()[0]["spec"]["attempt"] == 2
        assert len(set(world.e2b.idempotency_keys)) == 2


async def test_a_creation_that_comes_late_and_is_shown_later_still_makes_one_sandbox():
    async with account_world() as world:
        world.e2b.lag = 25.0
        world.e2b.fault = once("create", Late(18.0))
        world.apply_pool(1)
        await world.run(100)
        assert (world.verdict(1), world.e2b.count("create"), world.e2b.most_of_one_record) == ((0, 0, 0), 1, 1)


async def test_of_two_sandboxes_for_one_record_the_first_is_kept():
    async with account_world() as world:
        world.e2b.lag = 15.0
        world.e2b.fault = once("create", Reset(commits=True))
        world.apply_pool(1)
        await world.run(5)
        (first,) = world.e2b.alive().values()
        second = world.e2b.make("code-interpreter-v1", first.tag, 120)
        await world.run(40)
        assert world.verdict(1) == (0, 0, 0)
        assert (first.id in world.e2b.alive(), second.id in world.e2b.alive()) == (True, False)


async def test_a_second_sandbox_of_a_settled_record_is_a_stranger():
    async with account_world() as world:
        await ready(world, 1)
        (kept,) = world.e2b.alive().values()
        extra = world.e2b.make("code-interpreter-v1", kept.tag, 900)
        await world.run(210, step=5)
        assert extra.id not in world.e2b.alive()
        assert kept.id in world.e2b.alive()


async def test_strangers_of_ours_are_ended_in_time_and_those_of_others_never():
    async with account_world() as world:
        await ready(world, 1)
        tag = next(iter(world.e2b.alive().values())).tag
        orphan = world.e2b.make("base", {**tag, "execpool-record": "gone"}, 3600)
        untagged = world.e2b.make("base", {}, 3600)
        neighbour = world.e2b.make("base", {**tag, "execpool-cluster": "another", "execpool-record": "x"}, 3600)
        await world.run(210, step=5)
        alive = set(world.e2b.alive())
        assert orphan.id not in alive
        assert {untagged.id, neighbour.id} <= alive
        assert world.account()["status"]["sandboxes"] == {"ours": 1, "foreign": 2}


async def test_one_sweep_ends_five_strangers_at_most():
    async with account_world() as world:
        await ready(world, 1)
        tag = next(iter(world.e2b.alive().values())).tag
        for number in range(14):
            world.e2b.make("base", {**tag, "execpool-record": f"gone-{number}"}, 36000)
        await world.run(1000, step=5)
        kills = [at for at, name in world.e2b.requests if name == "kill"]
        assert len(kills) == 14
        assert max(sum(start <= at < start + 55 for at in kills) for start in kills) == 5


async def test_a_record_that_somebody_removes_by_force_costs_its_sandbox_soon():
    async with account_world() as world:
        await ready(world, 2)
        world.kube.drop(SANDBOXES, "agents", world.records()[0]["metadata"]["name"])
        await world.run(210, step=5)
        assert world.verdict(2) == (0, 0, 0)


async def test_a_list_of_records_that_is_empty_by_mistake_ends_nothing():
    async with account_world() as world:
        await ready(world, 3)
        genuine = world.kube.list

        async def blind(kind, namespace=None, *, labels=""):
            listing = await genuine(kind, namespace, labels=labels)
            return Listing((), listing.resource_version) if kind is SANDBOXES and not labels else listing

        world.kube.list = blind
        await world.run(130, step=5)
        assert world.e2b.count("kill") == 0
        world.kube.list = genuine
        await world.run(60, step=5)
        assert (world.e2b.count("kill"), world.verdict(3)) == (0, (0, 0, 0))


async def test_lists_are_read_to_their_last_page_and_filters_are_not_relied_on():
    async with account_world() as world:
        world.e2b.page, world.e2b.ignores_filter = 2, True
        for _ in range(5):
            world.e2b.make("base", {}, 3600)
        world.e2b.fault = once("create", Reset(commits=True))
        await ready(world, 1, seconds=5)
        assert world.e2b.count("create") == 1
        assert len(world.e2b.alive()) == 6


# Refusals


async def test_a_refused_key_stalls_the_account_names_the_secret_and_is_not_tried_for_a_minute():
    async with account_world() as world:
        world.apply_secret("e2b_ff")
        world.apply_pool(2)
        await world.run(59)
        assert len(world.e2b.requests) == 1
        stalled = world.condition("Stalled")
        assert (stalled["reason"], "Secret e2b" in stalled["message"]) == ("CredentialInvalid", True)
        assert world.pool_condition("Stalled")["reason"] == "CredentialInvalid"


async def test_a_changed_secret_heals_within_ten_seconds():
    async with account_world() as world:
        world.apply_secret("e2b_ff")
        world.apply_pool(1)
        await world.run(20)
        world.apply_secret()
        await world.run(10)
        assert (world.verdict(1), world.condition("Stalled")) == ((0, 0, 0), None)


async def test_a_time_to_wait_is_kept_and_the_rate_is_halved_and_comes_back():
    async with account_world() as world:
        world.e2b.fault = once("create", Status(429, retry_after="20"))
        world.apply_pool(4)
        await world.run(19)
        assert world.e2b.count("create") == 1
        assert world.account()["status"]["learnedLimits"]["createsPerMinute"] == 148
        await world.run(10)
        assert world.verdict(4) == (0, 0, 0)
        world.apply_pool(0)
        await world.run(10)
        world.apply_pool(8)
        await world.run(16)
        assert world.verdict(8) == (0, 0, 0)
        assert "createsPerMinute" not in world.account()["status"]["learnedLimits"]


async def test_calls_that_are_refused_as_too_many_wait_as_long_as_they_are_told():
    async with account_world() as world:
        await ready(world, 2)
        world.e2b.fault = once("kill", Status(429, retry_after="25"))
        world.apply_pool(0)
        await world.run(24)
        assert world.e2b.count("kill") <= 2
        await world.run(10)
        assert (world.records(), world.e2b.alive()) == ([], {})


async def test_creations_are_paced_over_all_pools_of_the_account():
    async with account_world() as world:
        world.apply_account(plan="Hobby", allowedNamespaces=["team"])
        world.apply_pool(4)
        world.apply_pool(4, namespace="team")
        await world.run(20, step=0.25)
        asked = [at for at, name in world.e2b.requests if name == "create"]
        assert (len(asked), world.verdict(8)) == (8, (0, 0, 0))
        assert min(later - earlier for earlier, later in pairwise(asked)) >= 1.0


async def test_a_full_account_is_not_asked_again_for_half_a_minute_and_then_by_one():
    async with account_world() as world:
        world.e2b.cap = 2
        world.apply_pool(4)
        await world.run(28)
        assert world.e2b.count("create") == 3
        assert world.account()["status"]["learnedLimits"]["sandboxes"] == 2
        assert world.pool_condition("WarmPoolFilled")["reason"] == "AccountFull"
        await world.run(30)
        assert world.e2b.count("create") == 4
        world.e2b.cap = 100
        await world.run(60)
        assert world.verdict(4) == (0, 0, 0)
        assert "sandboxes" not in world.account()["status"]["learnedLimits"] or (
            world.account()["status"]["learnedLimits"]["sandboxes"] >= 4
        )


async def test_the_headroom_is_left_to_others():
    async with account_world() as world:
        world.apply_account(plan="Custom", limits={"createsPerSecond": 5, "sandboxes": 5}, headroomPercent=40)
        world.apply_pool(6)
        await world.run(30)
        assert len(world.e2b.alive()) == 3
        assert world.pool_condition("WarmPoolFilled")["reason"] == "AccountFull"


async def test_a_storm_of_errors_opens_the_breaker_and_afterwards_all_is_as_it_was_wanted():
    async with account_world() as world:
        world.e2b.fault = always(Status(503))
        world.apply_pool(3)
        await world.run(60)
        assert world.account()["status"]["breaker"] in ("Open", "HalfOpen")
        assert world.condition("Ready")["reason"] == "BreakerOpen"
        assert world.e2b.count("create") <= 3
        assert len(world.e2b.requests) <= 20
        world.e2b.fault = lambda _name: None
        await world.run(240)
        assert (world.verdict(3), world.e2b.most_of_one_record) == ((0, 0, 0), 1)
        assert world.condition("Ready")["status"] == "True"


async def test_with_e2b_out_of_reach_nothing_is_unknown_and_it_goes_on_at_once_when_it_is_back():
    async with account_world() as world:
        await world.e2b.stop()
        world.apply_pool(2)
        await world.run(40)
        assert {one["spec"]["attempt"] for one in world.records()} <= {1, 2, 3, 4}
        await world.e2b.start()
        await world.run(62)
        assert (world.verdict(2), world.e2b.count("create")) == ((0, 0, 0), 2)


async def test_a_template_that_e2b_refuses_is_told_and_not_hammered():
    async with account_world() as world:
        world.e2b.fault = always(Status(404), "create")
        world.apply_pool(3)
        await world.run(55)
        assert world.e2b.count("create") == 1
        assert world.pool_condition("Stalled")["reason"] == "TemplateRefused"


async def test_a_slow_creation_holds_up_nobody_else():
    async with account_world() as world:
        world.e2b.fault = once("create", Hang())
        world.apply_pool(3)
        await world.run(10)
        assert world.phases() == ["Intent", "Ready", "Ready"]


# Money


async def test_an_account_spends_no_more_than_it_may():
    async with account_world() as world:
        # 2 CPUs and 2 GiB cost 37 micro-dollars a second: 900 s are 33300.
        world.apply_account(dailySpendMicroUSD=80_000)
        world.apply_pool(4)
        await world.run(60)
        spend = world.account()["status"]["spend"]
        assert spend["settledMicroUSD"] + spend["reservedMicroUSD"] <= 80_000
        assert world.pool_condition("WarmPoolFilled")["reason"] == "BudgetExhausted"
        alive = len(world.e2b.alive())
        assert 1 <= alive <= 3
        await world.run(3000, step=20)
        cost = sum(
            37 * (min(one.killed_at or world.now, one.deadline) - one.started_at)
            for one in world.e2b.sandboxes.values()
        )
        assert cost <= 80_000
        assert world.e2b.alive() == {}


async def test_the_next_day_has_its_own_money():
    async with account_world() as world:
        world.apply_account(dailySpendMicroUSD=40_000)
        world.apply_pool(1)
        await world.run(4000, step=20)
        assert world.e2b.alive() == {}
        world.now += 86400 - world.now % 86400
        await world.run(90, step=2)
        assert len(world.e2b.alive()) == 1


async def test_a_claimed_sandbox_runs_to_its_end_on_spent_money():
    async with account_world() as world:
        await ready(world, 1)
        world.claim(world.records()[0]["metadata"]["name"])
        world.apply_account(dailySpendMicroUSD=1)
        await world.run(1300, step=20)
        assert "Claimed" in world.phases()
        assert len(world.e2b.alive()) == 1


async def test_what_ended_sandboxes_cost_is_settled_before_their_records_go():
    async with account_world() as world:
        await ready(world, 2)
        await world.run(100, step=2)
        world.apply_pool(0)
        await world.run(10)
        spend = world.account()["status"]["spend"]
        assert 2 * 37 * 100 <= spend["settledMicroUSD"] <= 2 * 37 * 130
        assert spend["reservedMicroUSD"] == 0
        status = [call for call in world.kube.writes() if call.plural == "e2baccounts"]
        deletes = [call for call in world.kube.writes() if (call.verb, call.plural) == ("delete", "e2bsandboxes")]
        assert world.kube.calls.index(status[-1]) > 0
        assert len(deletes) == 2


# Who may


async def test_a_pool_of_a_namespace_that_is_not_allowed_gets_nothing_and_is_told_why():
    async with account_world() as world:
        world.apply_pool(1, namespace="team")
        await world.run(5)
        assert (world.records(), world.e2b.count("create")) == ([], 0)
        told = world.pool_condition("Stalled", "team")
        assert (told["reason"], "allowedNamespaces" in told["message"]) == ("NotAllowed", True)


async def test_a_record_that_somebody_else_writes_in_such_a_namespace_is_not_served_either():
    async with account_world() as world:
        await ready(world, 1)
        (record,) = world.records()
        spec = record["spec"] | {
            "account": {"name": "main", "namespace": "agents"},
            "attemptAt": format_time(world.now),
        }
        world.kube.put(SANDBOXES, "team", {"metadata": {"name": "forged"}, "spec": spec})
        await world.run(200, step=5)
        assert world.e2b.count("create") == 1


async def test_an_address_that_the_operator_does_not_allow_gets_neither_a_request_nor_the_secret_read():
    async with account_world() as world:
        world.apply_account(apiUrl="http://169.254.169.254:80")
        world.apply_pool(1)
        await world.run(5)
        assert world.condition("Stalled")["reason"] == "EndpointNotAllowed"
        assert (world.e2b.requests, [call for call in world.kube.calls if call.plural == "secrets"]) == ([], [])
        assert world.pool_condition("Stalled")["reason"] == "EndpointNotAllowed"


async def test_a_secret_that_may_not_be_read_names_the_role_binding_that_is_missing():
    async with account_world() as world:

        def forbid(call: Call) -> None:
            if call.plural == "secrets":
                raise ForbiddenError(403, "Forbidden", "secrets is forbidden")

        world.fault_before = forbid
        await world.work()
        told = world.condition("Stalled")
        assert told["reason"] == "Forbidden"
        assert "kubectl create rolebinding execpool-e2b-credentials" in told["message"]
        assert "--serviceaccount=execpool-system:execpool-operator --namespace=agents" in told["message"]
        world.fault_before = lambda _call: None
        world.apply_pool(1)
        await world.run(12)
        assert world.verdict(1) == (0, 0, 0)


async def test_a_secret_of_another_type_is_not_sent_to_anybody():
    async with account_world() as world:
        world.apply_secret(type_="Opaque")
        world.apply_pool(1)
        await world.run(8)
        assert world.condition("Stalled")["reason"] == "CredentialInvalid"
        assert world.e2b.requests == []


async def test_a_tier_without_its_account_says_so_and_heals_when_the_account_comes():
    async with account_world() as world:
        world.kube.drop(ACCOUNTS, "agents", "main")
        world.apply_pool(1)
        await world.run(8)
        assert world.pool_condition("Stalled")["reason"] == "AccountNotFound"
        world.apply_account()
        await world.run(40)
        assert (world.verdict(1), world.pool_condition("Stalled")) == ((0, 0, 0), None)


async def test_records_of_a_vanished_account_go_when_every_deadline_has_passed():
    async with account_world() as world:
        ref = await ready(world, 2)
        world.kube.drop(ACCOUNTS, "agents", "main")
        world.delete_pool()
        await world.run(600, ref, step=10)
        assert len(world.records()) == 2
        await world.run(1400, ref, step=10)
        assert (world.records(), world.kube.peek(POOLS), world.e2b.alive()) == ([], (), {})


# Ownership


async def test_a_claim_and_a_retirement_never_both_succeed():
    async with account_world() as world:
        ref = await ready(world, 1)
        taken = world.records()[0]["metadata"]["name"]
        world.apply_pool(0)
        armed = [True]

        def claim_first(call: Call) -> None:
            ends = isinstance(call.body, dict) and call.body.get("status", {}).get("phase") == "Terminating"
            if call.plural == "e2bsandboxes" and ends and armed.pop(0) if armed else False:
                world.claim(taken)

        world.fault_before = claim_first
        await world.run(5, ref)
        assert (world.phases(), len(world.e2b.alive())) == (["Claimed"], 1)


async def test_a_gateway_ends_what_it_holds_by_deleting_the_record():
    async with account_world() as world:
        ref = await ready(world, 1)
        held = world.records()[0]
        world.claim(held["metadata"]["name"])
        await world.run(3, ref)
        await world.kube.delete(SANDBOXES, "agents", held["metadata"]["name"], uid=held["metadata"]["uid"])
        await world.run(5, ref)
        assert held["status"]["sandboxID"] not in world.e2b.alive()
        assert world.verdict(1) == (0, 0, 0)


async def test_a_claimed_sandbox_is_drained_and_then_ended_with_its_pool():
    async with account_world() as world:
        ref = await ready(world, 2, deletion={"policy": "Drain", "timeoutSeconds": 60})
        world.claim(world.records()[0]["metadata"]["name"])
        world.now = parse_time("2026-01-01T00:01:00Z") + 20
        world.delete_pool()
        await world.run(20, ref)
        assert world.phases() == ["Claimed"]
        await world.run(40, ref)
        assert (world.records(), world.e2b.alive(), world.kube.peek(POOLS)) == ([], {}, ())


async def test_the_pool_is_kept_until_the_last_kill_is_confirmed():
    async with account_world() as world:
        ref = await ready(world, 2)
        world.e2b.fault = always(Status(500), "kill")
        world.delete_pool()
        await world.run(30, ref)
        assert (len(world.records()), len(world.kube.peek(POOLS))) == (2, 1)
        world.e2b.fault = lambda _name: None
        await world.run(70, ref)
        assert (world.records(), world.e2b.alive(), world.kube.peek(POOLS)) == ([], {}, ())


# The API server


@pytest.mark.parametrize(
    "error", [ConflictError(409, "Conflict", "changed"), UnreachableError("lost")], ids=["conflict", "answer lost"]
)
async def test_every_write_of_a_status_may_fail_once(error: Exception):
    async with account_world() as world:
        failed: set[str] = set()

        def fail_each_once(call: Call) -> None:
            key = f"{call.verb} {call.plural} {call.name}"
            if call.verb == "patch" and call.plural in ("e2bsandboxes", "e2baccounts") and key not in failed:
                failed.add(key)
                raise error

        if isinstance(error, ConflictError):
            world.fault_before = fail_each_once
        else:
            world.fault_after = fail_each_once
        world.apply_pool(3)
        await world.run(100)
        assert (world.verdict(3), world.e2b.most_of_one_record) == ((0, 0, 0), 1)
        world.delete_pool()
        await world.run(30)
        assert (world.records(), world.e2b.alive()) == ([], {})
        assert len(failed) >= 4


async def test_a_secret_is_read_by_name_and_rarely():
    async with account_world() as world:
        await ready(world, 2)
        world.kube.calls.clear()
        await world.run(300, step=5)
        reads = [call for call in world.kube.calls if call.plural == SECRETS.plural]
        assert {call.verb for call in reads} == {"get"}
        assert len(reads) <= 6


async def test_an_account_and_a_pool_at_rest_write_nothing_but_their_renewals():
    async with account_world() as world:
        await ready(world, 3)
        await world.run(60, step=2)
        world.kube.calls.clear()
        await world.run(600, step=5)
        written = [(call.verb, call.plural) for call in world.kube.writes()]
        assert written.count(("patch", "e2bsandboxes")) == 6
        assert len(written) <= 6 + 4
        assert world.rounds.desks.of(ACCOUNT).state() == "Closed"


async def test_a_sandbox_that_lists_leave_out_is_asked_about_by_name_and_kept():
    async with account_world() as world:
        world.apply_account(plan="Hobby", limits={"createsPerSecond": 5, "sandboxes": 20})
        await ready(world, 2, e2b={"maxAgeSeconds": 86400})
        world.claim(world.records()[0]["metadata"]["name"])
        for one in world.e2b.sandboxes.values():
            one.shown_at = float("inf")
        before = set(world.e2b.alive())
        await world.run(3500, step=20)
        assert before <= set(world.e2b.alive())
        assert world.phases()[0] == "Claimed"
        assert world.e2b.count("kill") == 0


async def test_an_account_that_is_not_e2bs_own_is_told_among_what_is_weaker_than_it_looks():
    async with account_world() as world:
        await ready(world, 1)
        told = world.pool_condition("IsolationVerified")
        assert (told["status"], "not E2B's own" in told["message"]) == ("False", True)
        assert "user namespace" not in told["message"]
