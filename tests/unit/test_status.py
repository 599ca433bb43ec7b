"""The truth table of core/status.py, row by row, and what each condition says in words."""

import pytest
from tests.builders import OLD, claimed, executor, pool, snapshot, spec, troubled

from execpool.api.names import ConditionType, Reason
from execpool.api.v1alpha1 import Condition, ExecutionPoolStatus
from execpool.core.model import Executor, Phase, Snapshot
from execpool.core.planning import plan
from execpool.core.status import acknowledge, condition, summarize
from execpool.protocol import Egress

THEN, LATER = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"


def status_of(world: Snapshot, timestamp: str = LATER) -> ExecutionPoolStatus:
    return summarize(world, plan(world).findings, timestamp)


def was(ready: str, *, reconciling: bool, generation: int = 1) -> ExecutionPoolStatus:
    conditions = [
        Condition(
            type="Ready", status=ready, observed_generation=generation, last_transition_time=THEN, reason="Serving"
        )
    ]
    if reconciling:
        conditions.append(
            Condition(
                type="Reconciling",
                status="True",
                observed_generation=generation,
                last_transition_time=THEN,
                reason="Applying",
            )
        )
    return ExecutionPoolStatus(observed_generation=generation, conditions=conditions)


BLANK = ExecutionPoolStatus()
FIRST = was("Unknown", reconciling=True)
APPLIED = was("True", reconciling=False)


@pytest.mark.parametrize(
    ("members", "before", "ready", "reconciling"),
    [
        pytest.param([], FIRST, "Unknown", True, id="first generation, nothing serves"),
        pytest.param([executor("s", Phase.STARTING)], FIRST, "Unknown", True, id="first generation, one starting"),
        pytest.param([executor("r")], FIRST, "True", False, id="first generation, one ready: applied"),
        pytest.param([claimed("c")], FIRST, "True", False, id="first generation, claimed at once: applied"),
        pytest.param([], was("False", reconciling=True), "False", True, id="not applied, was False: as it was"),
        pytest.param(
            [executor("o", template_hash=OLD)],
            was("True", reconciling=True),
            "True",
            True,
            id="an older template serves: ready and reconciling",
        ),
        pytest.param(
            [executor("o", template_hash=OLD), executor("n")],
            was("True", reconciling=True),
            "True",
            True,
            id="an older one is left: still reconciling",
        ),
        pytest.param(
            [claimed("o", template_hash=OLD), executor("n")],
            was("True", reconciling=True),
            "True",
            False,
            id="a claimed older one is not waited for",
        ),
        pytest.param(
            [executor("s", Phase.STARTING)], APPLIED, "True", False, id="applied, all claimed away, more on the way"
        ),
        pytest.param([], APPLIED, "False", False, id="applied and nothing serves or comes"),
        pytest.param(
            [troubled("s", Reason.IMAGE_UNAVAILABLE)], APPLIED, "False", False, id="applied and what comes is stuck"
        ),
    ],
)
def test_ready_and_reconciling_follow_the_table(
    members: list[Executor], before: ExecutionPoolStatus, ready: str, reconciling: bool
):
    status = status_of(snapshot(*members, pool=pool(status=before)))
    assert condition(status, ConditionType.READY).status == ready
    assert (condition(status, ConditionType.RECONCILING) is not None) == reconciling


def test_a_new_generation_is_reconciled_even_when_the_last_one_was_applied():
    world = snapshot(executor("o", template_hash=OLD), pool=pool(generation=2, status=APPLIED))
    status = status_of(world)
    assert condition(status, ConditionType.RECONCILING) is not None
    assert status.observed_generation == 2


def test_a_pool_that_wants_nothing_is_ready():
    status = status_of(snapshot(pool=pool(spec=spec(replicas=0), status=FIRST)))
    assert condition(status, ConditionType.READY).status == "True"


def test_a_transition_time_moves_only_with_the_status():
    status = status_of(snapshot(executor("r"), pool=pool(status=APPLIED)))
    assert condition(status, ConditionType.READY).last_transition_time == THEN
    assert condition(status, ConditionType.WARM_POOL_FILLED).last_transition_time == LATER


def test_the_first_status_is_unknown_and_reconciling_with_a_selector():
    status = acknowledge(pool(status=BLANK), THEN)
    assert condition(status, ConditionType.READY).status == "Unknown"
    assert condition(status, ConditionType.RECONCILING).status == "True"
    assert status.selector


@pytest.mark.parametrize("reason", [Reason.IMAGE_UNAVAILABLE, Reason.UNSCHEDULABLE, Reason.CRASHING])
def test_the_cause_of_an_empty_place_is_the_reason_of_warm_pool_filled(reason: Reason):
    filled = condition(
        status_of(snapshot(executor("a"), executor("b"), troubled("s", reason))), ConditionType.WARM_POOL_FILLED
    )
    assert (filled.status, filled.reason) == ("False", reason)
    assert "2 of 3 ready" in filled.message
    assert "the provider's words" in filled.message


def test_a_missing_runtime_class_stalls_the_pool():
    world = snapshot(pool=pool(spec=spec(pods={"runtimeClassName": "gvisor"})), runtime_classes=frozenset())
    assert condition(status_of(world), ConditionType.STALLED).reason == Reason.RUNTIME_CLASS_NOT_FOUND


@pytest.mark.parametrize(
    ("world", "status", "says"),
    [
        pytest.param(snapshot(), "Unknown", "no executor has reported", id="nobody has reported"),
        pytest.param(snapshot(executor("r", egress=Egress.CLOSED)), "True", "out of reach", id="policies hold"),
        pytest.param(
            snapshot(executor("r", egress=Egress.OPEN)),
            "False",
            "network policies are not enforced",
            id="policies do not hold",
        ),
        pytest.param(
            snapshot(executor("r", egress=Egress.CLOSED), user_namespaces=False),
            "False",
            "no user namespace",
            id="no user namespaces",
        ),
        pytest.param(
            snapshot(executor("r"), user_namespaces=False, containers=False),
            "False",
            "processes of this machine",
            id="no containers",
        ),
    ],
)
def test_isolation_says_what_is_weaker_than_it_looks(world: Snapshot, status: str, says: str):
    verified = condition(status_of(world), ConditionType.ISOLATION_VERIFIED)
    assert verified.status == status
    assert says in verified.message


def test_without_containers_every_tier_has_the_lowest_rank():
    tiers = [{"name": "a", "pods": {"max": 4}}, {"name": "b", "pods": {"max": 4, "runtimeClassName": "gvisor"}}]
    world = snapshot(
        pool=pool(spec=spec(tiers=tiers, scaledTier="a")), template_hashes={"a": "h", "b": "h"}, containers=False
    )
    assert [tier.isolation for tier in status_of(world).tiers] == ["Interpreter", "Interpreter"]


def test_numbers_are_those_of_the_scaled_tier_and_the_warm_column_those_of_all():
    tiers = [{"name": "a", "pods": {"max": 4}}, {"name": "b", "pods": {"max": 4, "warm": 1}}]
    both = pool(spec=spec(tiers=tiers, scaledTier="a", replicas=2))
    hashes = {"a": "hash-current", "b": "hash-current"}
    members = [
        executor("1", tier="a"),
        executor("2", Phase.STARTING, tier="a"),
        executor("3", tier="b"),
        claimed("4", tier="b"),
    ]
    status = status_of(snapshot(*members, pool=both, template_hashes=hashes))
    assert (status.replicas, status.ready_replicas, status.desired_replicas) == (2, 1, 2)
    assert (status.warm, status.claimed) == ("2/3", 1)
    assert status.selector.endswith("execpool.dev/tier=a")
