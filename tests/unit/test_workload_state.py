"""The workload's rows follow what the gateway says, and nothing that it says can break them."""

import pytest

from execpool.cli.workload_state import Query, Stage, WorkloadState

A = Query("user-1", "sum", '"""What is 1 + 1?"""\n1 + 1\n')
B = Query("user-2", "sum", "2 + 2")

ACCEPTED = {"type": "accepted", "id": "x"}
STARTED = {"type": "started", "executor": "agents-local-1", "tier": "local"}


def answer(status: str = "Succeeded", executor: str = "agents-local-1", **more):
    return {
        "type": "answer",
        "status": status,
        "route": {"tier": "local", "executor": executor},
        "timings": {"waitSeconds": 1.5, "runSeconds": 2.5, "totalSeconds": 4.0},
        "results": [{"text": "2", "is_main_result": True}],
        **more,
    }


def after(*events, state: WorkloadState | None = None, query: Query = A, began: float = 100.0) -> WorkloadState:
    state = state or WorkloadState.of([A, B], began)
    for step, event in enumerate(events, start=1):
        state = state.apply(query, event, began + step)
    return state


@pytest.mark.parametrize(
    ("events", "stage"),
    [
        pytest.param([], Stage.SENT, id="nothing heard yet"),
        pytest.param([ACCEPTED], Stage.WAITING, id="accepted"),
        pytest.param([ACCEPTED, {"type": "waiting", "position": 3}], Stage.WAITING, id="in the queue"),
        pytest.param([ACCEPTED, STARTED], Stage.RUNNING, id="running"),
        pytest.param([ACCEPTED, STARTED, {"type": "stdout", "text": "hi"}], Stage.RUNNING, id="printing"),
        pytest.param(
            [ACCEPTED, STARTED, {"type": "keepalive"}, {"of": "a newer release"}], Stage.RUNNING, id="unknown lines"
        ),
        pytest.param([ACCEPTED, STARTED, answer()], Stage.DONE, id="answered"),
        pytest.param([{"type": "refused", "problem": {}}], Stage.DONE, id="refused"),
        pytest.param([{"type": "lost"}], Stage.DONE, id="lost"),
    ],
)
def test_each_event_moves_a_query_to_its_stage_and_leaves_the_other_alone(events, stage):
    state = after(*events)
    assert state.row(A).stage is stage
    assert state.row(B).stage is Stage.SENT


def test_the_place_in_the_queue_is_forgotten_once_it_runs():
    waiting = after(ACCEPTED, {"type": "waiting", "position": 3})
    assert waiting.row(A).position == 3
    assert after(STARTED, state=waiting).row(A).position == 0


def test_an_answer_brings_times_executor_and_result():
    row = after(ACCEPTED, STARTED, answer()).row(A)
    assert (row.wait_seconds, row.run_seconds, row.total_seconds) == (1.5, 2.5, 4.0)
    assert (row.executor, row.tier, row.result) == ("agents-local-1", "local", "2")
    assert row.is_good
    assert row.is_pooled


def test_a_program_that_raised_says_what():
    error = {"name": "ValueError", "value": "no", "traceback": "..."}
    row = after(STARTED, answer("Failed", error=error)).row(A)
    assert (row.outcome, row.detail, row.is_good, row.is_pooled) == ("Failed", "ValueError: no", False, True)


def test_a_limit_says_its_reason():
    row = after(STARTED, answer("TimedOut", reason="TimeLimit", message="60 s are over")).row(A)
    assert (row.outcome, row.detail) == ("TimedOut", "TimeLimit: 60 s are over")


def test_a_refusal_keeps_its_reason_and_did_not_go_through_the_pool():
    row = after({"type": "refused", "problem": {"reason": "QueueFull", "detail": "256 wait"}}).row(A)
    assert (row.outcome, row.detail, row.is_pooled) == ("Refused", "QueueFull: 256 wait", False)


def test_a_stream_that_breaks_off_is_lost_and_one_that_ended_is_not():
    lost = {"type": "lost", "detail": "gone"}
    assert after(STARTED, lost).row(A).outcome == "Lost"
    assert after(STARTED, answer(), lost).row(A).outcome == "Succeeded"


def test_the_makespan_ends_with_the_last_answer():
    state = after(answer())
    assert state.ended is None
    state = state.apply(B, answer(executor="agents-local-2"), 112.0)
    assert state.makespan == 12.0
    assert after(ACCEPTED, state=state).makespan == 12.0


def test_the_report_counts_what_went_through_the_pool_and_executors_that_two_users_shared():
    state = after(answer(), began=100.0)
    report = after(answer(), state=state, query=B).report()
    assert {name: report[name] for name in ("throughPool", "executors", "executorsSharedByUsers", "failed")} == {
        "throughPool": 2,
        "executors": 1,
        "executorsSharedByUsers": 1,
        "failed": 0,
    }
    assert report["queries"][0]["question"] == "What is 1 + 1?"


def test_a_program_without_docstring_or_that_is_not_python_has_no_question():
    assert B.question == ""
    assert Query("u", "n", "not python (").question == ""
    assert Query("u", "n", "nul \0").question == ""
