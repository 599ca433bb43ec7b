"""The monitoring line: what is counted in a minute, what is told of it, and how it reads."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import spec

from execpool.api.e2b import E2BAccountSpec, E2BAccountStatus
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.core.meter import WAITS_KEPT, Meter
from execpool.core.model import BudgetUse, Use
from execpool.core.sample import Account, AccountSample, Sample, fields, line, sample_of
from execpool.core.times import format_seconds
from execpool.core.use import read_use, write_use

NOW = 1_767_225_700.0
USE = Use(executions=12, warm_hits=11, offloaded=4, refused=1, waiting=2, running=1, wait_seconds=0.004, last_at=NOW)
MAIN = AccountSample("agents/main", 5, 20, 2, 0, "Closed", 12_300, 99_900)
SAMPLE = Sample("agents", "agents", 3, 3, 2, USE, (MAIN,), 266_400)


def test_a_line_says_what_is_warm_what_runs_what_the_account_holds_and_what_it_costs():
    assert line(SAMPLE) == (
        "agents/agents  warm 3/3  claimed 2  running 1  waiting 2  warm hits 11/12 (91 %)  p50 wait 0.00 s  offloaded 4"
        "  refused 1  account agents/main: 5/20 sandboxes, creates 2/min, 429s 0, spent $0.0123, reserved $0.0999"
        "  cost $0.2664/h"
    )


@pytest.mark.parametrize(
    ("sample", "says"),
    [
        (replace(SAMPLE, use=None), "claimed 2  no gateway tells of executions  account"),
        (replace(SAMPLE, use=Use()), "warm hits 0/0  p50"),
        (replace(SAMPLE, exhausted=("daily", "creates")), "  exhausted: daily, creates"),
        (replace(SAMPLE, is_bypassed=True), "  something goes around the pool"),
        (replace(SAMPLE, accounts=(replace(MAIN, breaker="Open"),)), "reserved $0.0999, breaker Open"),
        (
            replace(SAMPLE, accounts=(replace(MAIN, learned_creates=29, executions=48),)),
            "creates 2/min, learned creates/min 29, executions/min 48, 429s 0",
        ),
    ],
)
def test_a_line_says_more_when_there_is_more_to_say(sample: Sample, says: str):
    assert says in line(sample)


def test_a_pool_of_pods_has_no_account_and_costs_nothing():
    sample = sample_of(("a", "p"), spec(), ExecutionPoolStatus(), use=Use(), accounts={}, now=NOW)
    assert line(sample) == (
        "a/p  warm 0/0  claimed 0  running 0  waiting 0  warm hits 0/0  p50 wait 0.00 s  offloaded 0  refused 0"
    )


def test_fields_are_plain_json_with_the_numbers_of_the_line():
    told = json.loads(json.dumps(fields(SAMPLE)))
    assert (told["warm"], told["executions"], told["accounts"][0]["sandboxes"]) == (3, 12, 5)
    assert "budgets" not in told


def two_tiers() -> tuple[ExecutionPoolSpec, ExecutionPoolStatus]:
    tiers = [{"name": "local", "pods": {"max": 2}}, {"name": "e2b", "e2b": {"accountRef": {"name": "main"}, "max": 4}}]
    numbers = {"desired": 3, "starting": 1, "terminating": 0, "isolation": "MicroVM"}
    return ExecutionPoolSpec.model_validate({"scaledTier": "e2b", "tiers": tiers}), ExecutionPoolStatus.model_validate(
        {
            "tiers": [
                {"name": "local", "kind": "pods", "ready": 0, "claimed": 1, **numbers, "desired": 0},
                {"name": "e2b", "kind": "e2b", "ready": 3, "claimed": 2, **numbers},
            ],
            "budgets": [{"name": "daily", "limit": 1, "message": "spent"}, {"name": "rate", "limit": 1}],
            "conditions": [
                {
                    "type": "PoolInUse",
                    "status": "False",
                    "reason": "Bypassed",
                    "lastTransitionTime": format_seconds(NOW),
                }
            ],
        }
    )


@pytest.mark.parametrize(("age", "creates"), [(30.0, 2), (61.0, 0)])
def test_a_sample_is_made_of_the_pool_and_its_account_and_old_counts_are_over(age: float, creates: int):
    pool, status = two_tiers()
    seen = E2BAccountStatus.model_validate(
        {
            "sandboxes": {"ours": 5, "foreign": 1},
            "recent": {"at": format_seconds(NOW - age), "creates": 2, "tooMany": 1},
            "learnedLimits": {"createsPerMinute": 29},
        }
    )
    accounts = {("agents", "main"): Account(E2BAccountSpec(credentials_secret="e2b"), seen)}
    sample = sample_of(("agents", "p"), pool, status, use=None, accounts=accounts, now=NOW)
    (account,) = sample.accounts
    assert (sample.warm, sample.warm_wanted, sample.claimed) == (3, 3, 3)
    assert (account.sandboxes, account.sandboxes_limit, account.creates, account.learned_creates) == (
        6,
        20,
        creates,
        29,
    )
    assert sample.cost_per_hour == 5 * 133_200
    assert (sample.exhausted, sample.is_bypassed) == (("daily",), True)


# A minute


def test_a_minute_counts_what_ended_in_it():
    meter = Meter(NOW)
    meter.executed(NOW, 0.5, is_warm=True, is_offloaded=False)
    meter.executed(NOW + 30, 2.0, is_warm=False, is_offloaded=True)
    meter.refused(NOW + 31)
    both = meter.minute(NOW + 31)
    assert (both.executions, both.warm_hits, both.offloaded, both.refused, both.wait_seconds) == (2, 1, 1, 1, 0.5)
    later = meter.minute(NOW + 65)
    assert (later.executions, later.warm_hits, later.wait_seconds, meter.last_at) == (1, 0, 2.0, NOW + 30)
    assert meter.minute(NOW + 200).executions == 0


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=300))
def test_a_minute_holds_what_any_order_of_gaps_left_in_it(gaps: list[tuple[float, float]]):
    now, meter, ends = NOW, Meter(NOW), []
    for gap, wait in gaps:
        now += gap
        meter.executed(now, wait, is_warm=True, is_offloaded=True)
        ends.append(now)
    counted = meter.minute(now)
    least = sum(end > now - 59 for end in ends)
    most = sum(end > now - 61 for end in ends)
    assert least <= counted.executions <= most
    assert len(meter._seconds) <= 61
    assert all(len(second.waits) <= WAITS_KEPT for second in meter._seconds)


def test_a_clock_that_is_put_back_leaves_nothing_of_the_future():
    meter = Meter(NOW)
    meter.executed(NOW + 500, 0.0, is_warm=True, is_offloaded=True)
    assert meter.minute(NOW).executions == 0


# What is told over the Lease

BUDGETS = st.lists(
    st.builds(
        BudgetUse,
        st.text("abc", min_size=1, max_size=3),
        st.integers(0, 1000),
        st.integers(0, 1000),
        st.one_of(st.none(), st.integers(1, 2 * 10**9).map(float)),
        st.sampled_from(["", "held"]),
    ),
    max_size=3,
    unique_by=lambda one: one.name,
).map(tuple)
COUNTS = st.integers(0, 10**6)
USES = st.builds(
    Use, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.integers(0, 100).map(float), COUNTS, COUNTS, BUDGETS
)


@given(st.dictionaries(st.text("abc/", min_size=1, max_size=5), USES, max_size=3))
def test_what_a_gateway_tells_is_read_back(pools: dict[str, Use]):
    annotation = write_use(pools)
    assert all(read_use(["", annotation], key) == use for key, use in pools.items())


@given(USES, USES)
def test_what_two_gateways_tell_adds_up(one: Use, other: Use):
    both = read_use([write_use({"a/p": one}), write_use({"a/p": other})], "a/p")
    assert both is not None
    assert both.executions == one.executions + other.executions
    assert both.last_at == max(one.last_at, other.last_at)


@pytest.mark.parametrize(
    "annotation",
    [
        "",
        "[]",
        "{",
        '{"a/p": 5}',
        "[" * 5000,
        '{"a/p": {"executions": "9", "budgets": [1]}}',
        '{"a/p": {"lastAt": 1e999}}',
    ],
)
def test_what_makes_no_sense_is_nothing(annotation: str):
    use = read_use([annotation], "a/p")
    assert use is None or use == Use()
