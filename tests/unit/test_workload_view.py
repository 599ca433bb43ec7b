"""The table keeps its figures in any terminal, and a line of text says what a row says."""

import io

import pytest
from rich.console import Console

from execpool.cli import workload_view as view
from execpool.cli.workload_state import SEED, Query, WorkloadState

QUERY = Query("user-1", "a_query_with_quite_a_long_name", "1")
ANSWER = {
    "type": "answer",
    "status": "Succeeded",
    "route": {"tier": "local", "executor": "agents-local-0123456789"},
    "timings": {"waitSeconds": 12.34, "runSeconds": 2.5, "totalSeconds": 14.9},
}


def state(*events: dict) -> WorkloadState:
    current = WorkloadState.of([QUERY], 100.0)
    for event in events:
        current = current.apply(QUERY, event, 103.0)
    return current


def drawn(current: WorkloadState, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(view.final(current))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_figures_are_never_cut_and_rows_never_wrap(width: int):
    (row,) = [line for line in drawn(state(ANSWER), width).splitlines() if "user-1" in line]
    assert "Succeeded" in row
    assert row.split()[-4:] == ["12.4", "s", "2.5", "s"]


def test_the_end_is_told_beside_the_figures_of_before():
    text = drawn(state(ANSWER), 120)
    assert "makespan 3.0 s, slowest query 14.9 s\n" in text
    assert "1 of 1 went through the pool, on 1 executors, none shared by users" in text
    assert SEED in text


@pytest.mark.parametrize(
    ("events", "line"),
    [
        pytest.param([{"type": "accepted"}], "accepted", id="accepted"),
        pytest.param([{"type": "waiting", "position": 2}], "waiting, place 2", id="waiting"),
        pytest.param([{"type": "started", "executor": "e"}], "running on e", id="running"),
        pytest.param([ANSWER], "Succeeded after 12.4 s waiting and 2.5 s running", id="done"),
        pytest.param(
            [{"type": "lost", "detail": "gone"}], "Lost after 0.0 s waiting and 0.0 s running: gone", id="lost"
        ),
    ],
)
def test_a_line_says_when_who_and_what(events, line):
    assert view.line(state(*events).row(QUERY), 3.0) == f"   3.0 s  {QUERY.label}  {line}"
