"""How an execution's end is judged, from what its supervisor saw, what the server wanted, and what the program said."""

import signal

import pytest

from execpool.executor import frames
from execpool.executor.server import outcome
from execpool.protocol import RunReason, RunStatus


def ended(code: int = 0, **fields: object) -> frames.Ended:
    return frames.Ended(code, **fields)


@pytest.mark.parametrize(
    ("end", "wish", "error", "status", "reason"),
    [
        pytest.param(ended(), None, None, RunStatus.SUCCEEDED, RunReason.NONE, id="ended by itself"),
        pytest.param(ended(1), None, "ValueError", RunStatus.FAILED, RunReason.NONE, id="raised"),
        pytest.param(ended(3), None, None, RunStatus.FAILED, RunReason.NONE, id="exit status without a word"),
        pytest.param(ended(0), None, "ValueError", RunStatus.FAILED, RunReason.NONE, id="an error and exit status 0"),
        pytest.param(ended(-9, stopped=True), RunReason.TIME_LIMIT, None, RunStatus.TIMED_OUT, RunReason.TIME_LIMIT, id="too long"),
        pytest.param(ended(-24), None, None, RunStatus.TIMED_OUT, RunReason.TIME_LIMIT, id="too much processor time"),
        pytest.param(ended(-9), None, None, RunStatus.KILLED, RunReason.SIGNALLED, id="killed itself"),
        pytest.param(ended(-11), None, None, RunStatus.KILLED, RunReason.SIGNALLED, id="crashed"),
        pytest.param(ended(-9, out_of_memory=True), None, None, RunStatus.KILLED, RunReason.MEMORY_LIMIT, id="OOM"),
        pytest.param(ended(-11, out_of_memory=True), None, None, RunStatus.KILLED, RunReason.SIGNALLED, id="crash in OOM"),
        pytest.param(ended(-9, stopped=True), RunReason.CLIENT_GONE, None, RunStatus.CANCELLED, RunReason.CLIENT_GONE, id="gone"),
        pytest.param(ended(-9, stopped=True), RunReason.OUTPUT_LIMIT, None, RunStatus.KILLED, RunReason.OUTPUT_LIMIT, id="flood"),
        pytest.param(ended(-9, stopped=True), RunReason.RETIRED, None, RunStatus.KILLED, RunReason.RETIRED, id="retired"),
        pytest.param(ended(-9, stopped=True), None, None, RunStatus.KILLED, RunReason.SIGNALLED, id="stopped by itself"),
        pytest.param(ended(), RunReason.CLIENT_GONE, None, RunStatus.SUCCEEDED, RunReason.NONE, id="ended before the stop"),
        pytest.param(None, None, None, RunStatus.UNKNOWN, RunReason.RUNNER_LOST, id="runner lost"),
        pytest.param(None, RunReason.TIME_LIMIT, None, RunStatus.TIMED_OUT, RunReason.TIME_LIMIT, id="lost while ending it"),
    ],
)  # fmt: skip
def test_the_end_of_a_run_is_judged(end, wish, error, status, reason):
    verdict = outcome.judge(end, wish, error, 5.0)
    assert (verdict.status, verdict.reason) == (status, reason)


@pytest.mark.parametrize(
    ("end", "wish", "status", "reason"),
    [
        pytest.param(ended(), None, RunStatus.KILLED, RunReason.CONTEXT_LOST, id="left by itself"),
        pytest.param(ended(-11), None, RunStatus.KILLED, RunReason.CONTEXT_LOST, id="crashed"),
        pytest.param(ended(-9, out_of_memory=True), None, RunStatus.KILLED, RunReason.MEMORY_LIMIT, id="OOM"),
        pytest.param(ended(-9, stopped=True), RunReason.TIME_LIMIT, RunStatus.TIMED_OUT, RunReason.TIME_LIMIT, id="too long"),
        pytest.param(None, RunReason.CLIENT_GONE, RunStatus.CANCELLED, RunReason.CLIENT_GONE, id="lost while ending it"),
        pytest.param(None, None, RunStatus.UNKNOWN, RunReason.RUNNER_LOST, id="runner lost"),
    ],
)  # fmt: skip
def test_the_end_of_a_context_is_told_as_e2b_does(end, wish, status, reason):
    verdict = outcome.judge_context(end, wish, 5.0)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert verdict.error == ("ContextRestarting", "Context was restarted")


def test_a_failure_without_a_word_gets_an_error():
    assert outcome.judge(ended(3), None, None, 5.0).error == ("SystemExit", "3")


def test_every_signal_has_a_sentence():
    for number in (*signal.valid_signals(), 99):
        assert outcome.judge(ended(-number), None, None, 5.0).message
