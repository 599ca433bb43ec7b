"""The planner's rules, one table or sentence each; the simulation of random worlds is in test_planning_worlds.py."""

import pytest
from tests.builders import NOW, OLD, claimed, executor, pool, snapshot, spec, troubled

from execpool.api.names import FINALIZER, Reason
from execpool.core.actions import (
    AddFinalizer,
    ApplyPolicies,
    CreateExecutors,
    Plan,
    ReleaseFinalizer,
    RemoveExecutor,
    RemovePolicies,
    RetireExecutor,
)
from execpool.core.model import CreateFailure, Phase, Snapshot
from execpool.core.planning import plan
from execpool.protocol import Expect


def retired(decision: Plan) -> dict[str, Reason]:
    return {action.executor.name: action.because for action in decision.actions if isinstance(action, RetireExecutor)}


def removed(decision: Plan) -> set[str]:
    return {action.executor.name for action in decision.actions if isinstance(action, RemoveExecutor)}


def created(decision: Plan) -> int:
    return sum(action.count for action in decision.actions if isinstance(action, CreateExecutors))


def reasons(decision: Plan) -> set[Reason]:
    return {finding.reason for finding in decision.findings}


def three_ready() -> list:
    return [executor("e1"), executor("e2"), executor("e3")]


def test_a_pool_as_wanted_gives_an_empty_plan():
    assert plan(snapshot(*three_ready())).actions == ()


def test_a_new_pool_gets_its_finalizer_and_policies_before_its_first_executor():
    decision = plan(snapshot(pool=pool(finalizers=()), policies_current=False))
    assert decision.actions == (AddFinalizer(), ApplyPolicies(), CreateExecutors("local", 3))


@pytest.mark.parametrize(
    ("world", "count"),
    [
        pytest.param(snapshot(), 3, id="nothing there: all of them"),
        pytest.param(snapshot(executor("a", Phase.STARTING)), 2, id="starting ones count"),
        pytest.param(snapshot(claimed("a"), claimed("b")), 3, id="claimed ones are not warm"),
        pytest.param(snapshot(*(claimed(f"c{i}") for i in range(5))), 1, id="max counts claimed ones"),
        pytest.param(
            snapshot(*(executor(f"t{i}", Phase.TERMINATING) for i in range(6))),
            0,
            id="terminating ones hold their place",
        ),
        pytest.param(snapshot(*(executor(f"x{i}", Phase.ENDED) for i in range(6))), 3, id="ended ones do not"),
        pytest.param(snapshot(*three_ready(), waiting=2), 2, id="one more for each executor waited for"),
        pytest.param(snapshot(*three_ready(), waiting=50), 3, id="but never above max"),
        pytest.param(snapshot(executor("u", Phase.UNREACHABLE)), 3, id="an unreachable one is not warm"),
        pytest.param(snapshot(pool=pool(spec=spec(suspend=True))), 0, id="suspended: none"),
        pytest.param(snapshot(pool=pool(spec=spec(replicas=0))), 0, id="scaled to zero: none"),
        pytest.param(
            snapshot(pool=pool(spec=spec(replicas=0)), waiting=1), 1, id="scaled to zero and somebody waits: one"
        ),
        pytest.param(snapshot(pool=pool(spec=spec(replicas=9))), 6, id="replicas above max are capped"),
    ],
)
def test_refill_counts_whatever_may_hold_resources(world: Snapshot, count: int):
    assert created(plan(world)) == count


def test_surplus_is_trimmed_unready_first_then_newest_first():
    ready = [executor(f"r{age}", created_at=NOW - age) for age in (10, 20, 30, 40)]
    decision = plan(snapshot(*ready, executor("s", Phase.STARTING)))
    assert retired(decision) == {"s": Reason.SURPLUS, "r10": Reason.SURPLUS}


def test_a_template_change_surges_one_before_it_retires_one():
    outdated = [executor(f"o{i}", template_hash=OLD) for i in range(3)]
    first = plan(snapshot(*outdated))
    assert (created(first), retired(first)) == (1, {})
    second = plan(snapshot(*outdated, executor("n1")))
    assert retired(second) == {"o0": Reason.OUTDATED}


def test_a_template_change_at_max_retires_one_first():
    outdated = [executor(f"o{i}", template_hash=OLD) for i in range(3)]
    decision = plan(snapshot(*outdated, pool=pool(spec=spec(pods={"max": 3}))))
    assert (created(decision), list(retired(decision).values())) == (0, [Reason.OUTDATED])


def test_good_capacity_stays_while_its_replacement_cannot_start():
    outdated = [executor(f"o{i}", template_hash=OLD) for i in range(3)]
    decision = plan(snapshot(*outdated, troubled("n1", Reason.IMAGE_UNAVAILABLE)))
    assert (created(decision), retired(decision)) == (0, {})
    assert Reason.IMAGE_UNAVAILABLE in reasons(decision)


def test_an_outdated_executor_that_never_became_ready_is_given_up_at_once():
    decision = plan(snapshot(executor("o", Phase.STARTING, template_hash=OLD)))
    assert retired(decision) == {"o": Reason.OUTDATED}


@pytest.mark.parametrize("reason", [Reason.UNSCHEDULABLE, Reason.IMAGE_UNAVAILABLE, Reason.CRASHING])
def test_a_stuck_executor_is_held_when_its_replacement_would_be_stuck_too(reason: Reason):
    held = troubled("s", reason)
    decision = plan(
        snapshot(
            held, executor("e2"), executor("e3"), now=NOW + 10_000, pool=pool(spec=spec(pods={"maxAgeSeconds": 604800}))
        )
    )
    assert (retired(decision), created(decision)) == ({}, 0)
    assert reasons(decision) == {reason}


def test_an_executor_that_is_late_without_a_known_trouble_is_given_up_and_replaced():
    decision = plan(snapshot(executor("s", Phase.STARTING, created_at=NOW - 301), executor("e2"), executor("e3")))
    assert (retired(decision), created(decision)) == ({"s": Reason.START_TIMED_OUT}, 1)


def test_over_age_executors_are_replaced_one_at_a_time_and_not_all_at_once():
    old = [executor(f"e{i}", created_at=NOW - 3700) for i in range(3)]
    decision = plan(snapshot(*old))
    assert (created(decision), retired(decision)) == (1, {})
    assert list(retired(plan(snapshot(*old, executor("new")))).values()) == [Reason.OVER_AGE]


def test_at_max_and_waited_for_the_longest_idle_claims_are_reclaimed():
    members = [claimed("c1", idle=10), claimed("c2", idle=30), claimed("c3", running=1, idle=0)]
    decision = plan(snapshot(*members, waiting=1, pool=pool(spec=spec(replicas=1, pods={"max": 3}))))
    assert retired(decision) == {"c2": Reason.RECLAIMED_FOR_WAITERS}
    assert decision.actions[0].expect is Expect.IDLE


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([claimed("c1", held=4.9), claimed("c2", running=1), claimed("c3", running=1)], "held for less than 5 s"),
        ([claimed("c1", idle=0.9), claimed("c2", running=1), claimed("c3", running=1)], "idle for less than 1 s"),
        ([claimed("c1"), claimed("c2")], "there is room below max"),
        ([claimed("c1"), claimed("c2"), executor("t", Phase.TERMINATING)], "one is ending already"),
        ([claimed("c1"), claimed("c2"), executor("r")], "one is ready"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_claim_is_not_reclaimed_without_need(members: list, why: str):
    decision = plan(snapshot(*members, waiting=1, pool=pool(spec=spec(replicas=1, pods={"max": 3}))))
    assert retired(decision) == {}, why


def test_a_waiter_and_a_young_claim_bring_the_planner_back_when_the_claim_may_be_taken():
    decision = plan(snapshot(claimed("c1", held=3.0), waiting=1, pool=pool(spec=spec(pods={"max": 1}))))
    assert decision.requeue_after == pytest.approx(2.0)


def test_a_failed_creation_is_not_repeated_before_its_time():
    failure = CreateFailure(Reason.QUOTA_EXCEEDED, "exceeded quota", retry_at=NOW + 7)
    decision = plan(snapshot(failures={"local": failure}))
    assert (created(decision), decision.requeue_after) == (0, 7.0)
    assert "next attempt at 13:46:47 UTC" in decision.findings[0].message


def test_a_failed_creation_is_no_longer_told_when_nothing_is_wanted():
    failure = CreateFailure(Reason.INVALID_SPEC, "invalid", retry_at=NOW - 1)
    decision = plan(snapshot(failures={"local": failure}, pool=pool(spec=spec(replicas=0))))
    assert (decision.findings, decision.requeue_after) == ((), 60.0)


@pytest.mark.parametrize(
    "world",
    [
        pytest.param(snapshot(troubled("s", Reason.UNSCHEDULABLE), now=NOW + 10_000), id="unschedulable past its time"),
        pytest.param(
            snapshot(executor("o", created_at=NOW - 9000), troubled("n", Reason.IMAGE_UNAVAILABLE)),
            id="over age, and its replacement cannot start",
        ),
    ],
)
def test_what_is_due_and_cannot_be_mended_by_time_does_not_spin(world: Snapshot):
    assert plan(world).requeue_after >= 30.0


def test_a_missing_runtime_class_creates_nothing_and_says_which_ones_exist():
    decision = plan(
        snapshot(pool=pool(spec=spec(pods={"runtimeClassName": "gvisor"})), runtime_classes=frozenset({"kata"}))
    )
    assert created(decision) == 0
    assert "gvisor, which does not exist (known: kata)" in decision.findings[0].message


def test_suspension_retires_what_nobody_uses_and_leaves_runs_alone():
    members = [executor("warm"), claimed("idle"), claimed("busy", running=1, idle=0)]
    decision = plan(snapshot(*members, pool=pool(spec=spec(suspend=True))))
    assert retired(decision) == {"warm": Reason.SUSPENDED, "idle": Reason.SUSPENDED}
    assert decision.requeue_after <= 1.0


def test_a_tier_dropped_from_the_spec_is_emptied_without_ending_runs():
    gone = [executor("w", tier="old"), claimed("busy", tier="old", running=1)]
    assert retired(plan(snapshot(*three_ready(), *gone))) == {"w": Reason.OUTDATED}


def test_ended_executors_are_swept():
    assert removed(plan(snapshot(*three_ready(), executor("x", Phase.ENDED), executor("y", Phase.EXITING)))) == {
        "x",
        "y",
    }


def deleted(*members, seconds_ago: float = 1.0, **deletion):
    return snapshot(
        *members, pool=pool(deleted_at=NOW - seconds_ago, spec=spec(deletion=deletion or {"policy": "Drain"}))
    )


def test_deletion_drains_idle_ones_first_and_says_how_long_runs_have():
    decision = plan(deleted(executor("warm"), claimed("idle"), claimed("busy", running=1)))
    assert retired(decision) == {"warm": Reason.DELETING, "idle": Reason.DELETING}
    assert "may go on until 13:51:39 UTC" in decision.findings[0].message


@pytest.mark.parametrize(
    "world", [deleted(claimed("b", running=1), seconds_ago=301.0), deleted(claimed("b", running=1), policy="Delete")]
)
def test_deletion_ends_running_ones_by_force_after_the_drain_or_when_told_to(world: Snapshot):
    assert removed(plan(world)) == {"b"}


def test_the_finalizer_goes_only_when_no_executor_is_left():
    assert plan(deleted(executor("t", Phase.TERMINATING))).actions == ()
    assert plan(deleted()).actions == (RemovePolicies(), ReleaseFinalizer())


def test_a_deleted_pool_without_our_finalizer_is_left_alone():
    world = snapshot(executor("e"), pool=pool(deleted_at=NOW, finalizers=("other/finalizer",)))
    assert plan(world) == Plan()


def test_the_finalizer_name_is_the_documented_one():
    assert FINALIZER == "execpool.dev/executors"
