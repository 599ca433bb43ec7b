"""What pods, records and the ledger say of a workload: who was warm, what was created for whom, what ran where."""

import json
from dataclasses import replace

import pytest

from execpool.cli.workload_facts import Birth, Executor, Facts, Ledger, combine, read_executors
from execpool.cli.workload_state import Query, WorkloadState

SUBMITTED = 1000.0
A, B = Query("user-1", "sum", "1 + 1"), Query("user-2", "frame", "import pandas as pd")


def line(moment: float, event: str, sandbox: str = "", **more) -> str:
    return json.dumps({"time": moment, "event": event, **({"sandbox_id": sandbox} if sandbox else {}), **more})


def record(name: str, sandbox: str, attempt_at: str, *, claimed: bool = False) -> dict:
    claim = {"claim": {"principal": "x"}} if claimed else {}
    status = {"sandboxID": sandbox, "phase": "Claimed" if claimed else "Ready", **claim}
    return {"kind": "E2BSandbox", "metadata": {"name": name}, "spec": {"attemptAt": attempt_at}, "status": status}


def pod(name: str, created: str, ready: str | None) -> dict:
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": ready}] if ready else []
    return {
        "kind": "Pod",
        "metadata": {"name": name, "creationTimestamp": created},
        "status": {"conditions": conditions},
    }


def answered(*pairs: tuple[Query, str], wait: float = 4.0) -> WorkloadState:
    state = WorkloadState.of([query for query, _ in pairs], 0.0, SUBMITTED)
    for query, executor in pairs:
        timings = {"waitSeconds": wait, "runSeconds": 1.0, "totalSeconds": wait + 1}
        route = {"tier": "e2b", "executor": executor}
        state = state.apply(query, {"type": "answer", "status": "Succeeded", "route": route, "timings": timings}, 9.0)
    return state


def test_the_ledger_tells_when_a_sandbox_was_asked_for_and_counts_what_came_since():
    ledger = Ledger.read(
        [
            line(990.0, "Opened"),
            line(991.0, "Created", "early", drawn_seconds=0.5),
            line(992.0, "ExecutionStarted", "early"),
            line(993.0, "Refused", status=429, call="create"),
            line(1000.4, "Created", "begun-before", drawn_seconds=0.4, late_seconds=0.1),
            line(1003.0, "Created", "late", drawn_seconds=1.0),
            line(1004.0, "ExecutionStarted", "early"),
            line(1005.0, "Refused", status=401, call="list"),
            line(1006.0, "Refused", status=429, call="create"),
        ],
        SUBMITTED,
    )
    assert ledger.births["late"] == Birth(1002.0, 1003.0)
    assert ledger.births["begun-before"].begun == pytest.approx(999.9)
    assert (dict(ledger.executions), ledger.created, ledger.refused) == ({"early": 1}, 1, 1)


def test_pods_and_records_become_executors():
    listed = {
        "items": [
            pod("agents-local-1", "1970-01-01T00:16:30Z", "1970-01-01T00:16:35Z"),
            pod("agents-local-2", "1970-01-01T00:16:50Z", None),
            record("agents-e2b-1", "i1", "1970-01-01T00:16:40.250000Z", claimed=True),
        ]
    }
    assert read_executors(listed) == {
        "agents-local-1": Executor("agents-local-1", Birth(990.0, 995.0)),
        "agents-local-2": Executor("agents-local-2", Birth(1010.0)),
        "agents-e2b-1": Executor("agents-e2b-1", Birth(1000.25), "i1", is_claimed=True),
    }


def test_the_ledger_knows_better_than_a_record_when_a_sandbox_was_asked_for():
    executors = {"agents-e2b-1": Executor("agents-e2b-1", Birth(999.0), "i1")}
    facts = combine(executors, Ledger({"i1": Birth(1001.0, 1001.5)}, {"i1": 2, "gone": 1}, 1, 0))
    assert facts.birth("agents-e2b-1") == Birth(1001.0, 1001.5)
    assert facts.executions == {"agents-e2b-1": 2, "gone": 1}


@pytest.mark.parametrize(
    ("birth", "is_warm", "creation"),
    [
        pytest.param(Birth(990.0, 991.0), True, 0.0, id="there before"),
        pytest.param(Birth(999.0, 1001.0), True, 1.0, id="on its way when the query came"),
        pytest.param(Birth(1001.0, 1002.5), False, 1.5, id="asked for while the query waited"),
        pytest.param(Birth(1001.0, 1008.0), False, 3.0, id="counted no further than the query waited"),
        pytest.param(Birth(1001.0), False, 3.0, id="nobody tells when it was there"),
        pytest.param(None, None, 0.0, id="not known"),
    ],
)
def test_a_query_waits_for_a_creation_that_was_asked_for_after_it_came(birth, is_warm, creation):
    executors = {"s": Executor("s", birth, "i1")} if birth else {}
    state = replace(answered((A, "s")), facts=Facts(executors, {"s": 1}))
    assert state.is_warm_hit(state.rows[0]) is is_warm
    assert state.creation_seconds(state.rows[0]) == pytest.approx(creation)
    assert state.created_on_path() == ({"s"} if is_warm is False else set())


def test_one_creation_for_two_queries_is_one_and_a_pods_is_none_of_the_account():
    executors = {"s": Executor("s", Birth(1001.0, 1002.0), "i1"), "p": Executor("p", Birth(1001.0, 1002.0))}
    queries = [Query(f"user-{number}", "q", "1") for number in range(3)]
    state = answered((queries[0], "s"), (queries[1], "s"), (queries[2], "p"))
    report = replace(state, facts=Facts(executors, {"s": 2}, created=1, refused=0)).report()
    assert (report["createsOnRequestPath"], report["podsCreatedOnRequestPath"]) == (1, 1)
    assert report["executionsBySandbox"] == {"s": 2}


def test_warm_sandboxes_that_nobody_used_are_shown_with_nought():
    executors = {name: Executor(name, Birth(990.0), name) for name in ("s", "t")}
    state = answered((A, "s"))
    assert replace(state, facts=Facts(executors)).executions_by_sandbox() == {"s": 1, "t": 0}
    assert replace(state, facts=Facts(executors, {})).executions_by_sandbox() == {"s": 0, "t": 0}, (
        "the ledger is the truth"
    )


@pytest.mark.parametrize(
    ("code", "is_data"),
    [
        ("import pandas as pd", True),
        ("from sklearn.ensemble import RandomForestClassifier", True),
        ("def f():\n    import scipy.sparse", True),
        ("import numpy as np, math", False),
        ("'pandas'", False),
        ("import pandas as", False),
    ],
)
def test_a_program_is_data_science_by_what_it_imports(code: str, is_data: bool):
    assert Query("user", "name", code).is_data_science is is_data
