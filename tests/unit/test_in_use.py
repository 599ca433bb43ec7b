"""Whether anybody uses a pool: the table of core.in_use, row by row."""

import pytest
from tests.builders import NOW, claimed, executor, snapshot

from execpool.core.in_use import QUIET_SECONDS, in_use
from execpool.core.model import Backend, Demand, Phase, Snapshot, Use

LONG_AGO = NOW - QUIET_SECONDS
JUST_NOW = NOW - QUIET_SECONDS + 1
IDLE = Use(since=NOW - 5000)
WARM = (executor("a"), executor("b"), executor("c"))


def on(foreign: int, since: float | None) -> dict[str, Backend]:
    return {"local": Backend("agents/main", "Closed", foreign, since)}


@pytest.mark.parametrize(
    ("world", "status", "reason"),
    [
        pytest.param(snapshot(claimed("x"), backends=on(4, LONG_AGO)), "True", "InUse", id="a claim"),
        pytest.param(snapshot(*WARM, demand=Demand({}, 1)), "True", "InUse", id="a claim that a gateway tells of"),
        pytest.param(
            snapshot(*WARM, use=Use(executions=0, last_at=JUST_NOW), backends=on(4, LONG_AGO)),
            "True",
            "InUse",
            id="an execution nine minutes ago",
        ),
        pytest.param(
            snapshot(*WARM, use=Use(last_at=LONG_AGO), backends=on(4, LONG_AGO)),
            "False",
            "Bypassed",
            id="others for ten minutes, nobody here for ten minutes",
        ),
        pytest.param(snapshot(*WARM, backends=on(1, LONG_AGO)), "False", "Bypassed", id="no gateway tells"),
        pytest.param(
            snapshot(*WARM, use=IDLE, backends=on(4, JUST_NOW)), "Unknown", "NoDemand", id="others, not so long"
        ),
        pytest.param(snapshot(*WARM, use=IDLE, backends=on(0, None)), "Unknown", "NoDemand", id="nobody anywhere"),
        pytest.param(
            snapshot(use=IDLE, backends=on(4, LONG_AGO)), "Unknown", "NoDemand", id="others, and nothing warm"
        ),
        pytest.param(
            snapshot(executor("s", Phase.STARTING), use=IDLE, backends=on(4, LONG_AGO)),
            "Unknown",
            "NoDemand",
            id="others, and what is to be warm starts",
        ),
        pytest.param(snapshot(*WARM, use=IDLE), "Unknown", "NoDemand", id="pods have no account"),
    ],
)
def test_in_use_follows_the_table(world: Snapshot, status: str, reason: str):
    _, found, why, _ = in_use(world)
    assert (found, why) == (status, reason)


def test_the_complaint_has_its_numbers_and_names_instants_not_ages():
    *_, message = in_use(snapshot(*WARM, use=IDLE, backends=on(4, LONG_AGO)))
    later = snapshot(*WARM, use=IDLE, backends=on(4, LONG_AGO), now=NOW + 90)
    assert message == (
        "3 warm sandboxes, 0 executions since 1970-01-12T12:23:20Z, while 4 sandboxes that this pool did not make run on"
        " account agents/main, some at every look since 1970-01-12T13:36:40Z: something goes around the pool"
    )
    assert in_use(later)[3] == message


def test_a_pool_that_is_used_says_how_much():
    use = Use(executions=12, warm_hits=11, last_at=NOW)
    assert in_use(snapshot(claimed("x"), use=use))[3] == (
        "1 executors are claimed; 12 executions in a minute, 11 of them on an executor that was warm"
    )
