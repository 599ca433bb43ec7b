"""What passes from the report pipe, where a program can write what it likes: known, typed, bounded, and nothing else."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execpool.executor.runner import display_events
from execpool.executor.server import output
from execpool.protocol import MAX_RESULT_BYTES

MIB = 1 << 20


def heard(*events, reports=None):
    """The events that pass, of lines that a process writes."""
    reports = reports or output.Reports()
    wire = b"".join((event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n" for event in events)
    return [json.loads(line) for line in reports.feed(wire)]


def result(**fields):
    return {"type": "result", **fields}


@pytest.mark.parametrize(
    "fields",
    [{"text": 1}, {"png": ["x"]}, {"html": {"a": "b"}}, {"data": [1]}, {"chart": "line"}, {"extra": "x"}, {"extra": [1]}, {"json": None}, {"evil": "x"}],
    ids=str,
)  # fmt: skip
def test_a_field_of_another_type_does_not_reach_the_client(fields):
    assert heard(result(markdown="kept", **fields)) == [result(markdown="kept", is_main_result=False)]


@pytest.mark.parametrize(
    "nested", [b"[" * 100_000 + b"]" * 100_000, b"[" + b"{}," * 100_000 + b"{}]"], ids=["deep", "wide"]
)
def test_a_line_of_many_lists_is_not_even_read(nested, monkeypatch):
    monkeypatch.setattr(output.orjson, "loads", lambda _: pytest.fail("read"))
    assert heard(b'{"type":"result","json":' + nested + b"}") == []


def test_brackets_within_a_text_do_not_count():
    html = "<script>[{" * 40_000 + '"\\'
    assert heard(result(html=html)) == [result(html=html, is_main_result=False)]


def test_a_line_that_comes_in_small_pieces_costs_no_more_than_its_bytes():
    reports, line = output.Reports(), json.dumps(result(text="x" * MIB)).encode()
    tracemalloc.start()
    for start in range(0, len(line), 2):
        assert reports.feed(line[start : start + 2]) == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3 * MIB


def test_every_field_of_its_type_passes():
    event = result(
        **dict.fromkeys(("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "javascript"), "x"),
        json=[1], data={"a": [1]}, chart={"type": "line"}, extra={"a/b": 1}, is_main_result=True,
    )  # fmt: skip
    assert heard(event) == [event]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "stdout", "text": "forged", "timestamp": "now"},
        {"type": "end_of_execution", "status": "Succeeded"},
        {"type": "number_of_executions", "execution_count": 7},
        {"type": "keepalive"},
        {"type": ["result"], "text": "x"},
        {"type": "result"},
        {"type": "result", "is_main_result": True},
        {"type": "error"},
        {"type": "error", "name": 5, "value": "v"},
        {"type": "error", "name": {"a": 1}},
    ],
    ids=str,
)
def test_an_event_that_a_notebook_does_not_report_is_dropped_with_a_flag(event):
    reports = output.Reports()
    assert heard(event, reports=reports) == []
    assert reports.lost
    assert reports.error_name is None


def test_an_error_has_texts_within_their_bounds_whatever_it_held():
    (event,) = heard({"type": "error", "name": "N" * 9999, "value": ["v"], "traceback": "t" * (3 * MIB), "more": 1})
    assert event == {"type": "error", "name": "N" * 256, "value": "", "traceback": "t" * (512 * 1024)}


def test_errors_are_counted():
    reports = output.Reports()
    assert len(heard(*[{"type": "error", "name": "E"}] * 50, reports=reports)) == output.MAX_ERRORS
    assert reports.lost


@pytest.mark.parametrize("depth", [200, 250, 260, 400, 1000, 2000])
def test_a_value_that_is_nested_deeply_breaks_nothing(depth):
    reports = output.Reports()
    wire = b'{"type":"result","text":"t","json":' + b"[" * depth + b"]" * depth + b"}"
    said = heard(wire, {"type": "error", "name": "E"}, reports=reports)
    assert said[-1]["name"] == "E"
    assert reports.lost == (depth > 250)
    assert [event["text"] for event in said[:-1]] == (["t"] if depth <= 1000 else [])


def test_the_largest_event_of_the_notebook_fits():
    bundle = {"text/plain": "t", "text/html": "h" * (display_events.MAX_EVENT_BYTES - 10_000)}
    event = display_events.result(bundle, main=True)
    assert "truncated" not in event
    reports = output.Reports()
    assert heard(event, reports=reports)[0]["html"] == bundle["text/html"]
    assert not reports.lost


def test_what_the_notebook_left_out_is_a_flag_of_the_answer_and_no_field():
    event = display_events.result({"text/plain": "t", "image/png": "p" * (10 * MIB)}, main=True)
    reports = output.Reports()
    assert heard(event, reports=reports) == [
        {"type": "result", "text": "t\n[execpool left out image/png: 10.0 MiB, more than fits one event]", "is_main_result": True}
    ]  # fmt: skip
    assert reports.lost


def test_results_beyond_their_allowance_leave_a_note_with_their_text():
    reports = output.Reports()
    said = heard(*[result(html="h" * (2 * MIB), text="t" * 5000, is_main_result=True)] * 3, reports=reports)
    assert [len(event.get("html", "")) for event in said] == [2 * MIB, 0, 0]
    assert (
        said[1]["text"] == f"{'t' * 1024} ...\n[execpool left out a result: 2.0 MiB, and results of one run have 4 MiB]"
    )
    assert said[1]["is_main_result"]
    assert reports.lost


def test_a_small_result_after_a_large_one_that_did_not_fit_passes():
    said = heard(result(html="h" * (3 * MIB)), result(html="h" * (3 * MIB)), result(text="the answer"))
    assert said[-1]["text"] == "the answer"


def test_an_error_and_the_end_are_heard_however_much_was_shown_before():
    reports = output.Reports("mine")
    done = {"type": "done", "nonce": "mine", "well": False, "cpu_seconds": 0.0, "max_rss_bytes": 0}
    said = heard(*[result(png="p" * (3 * MIB))] * 4, {"type": "error", "name": "E"}, done, reports=reports)
    assert said[-1]["name"] == "E"
    assert reports.done is not None
    assert not reports.flooding


def test_a_line_that_is_too_long_costs_itself_and_not_the_next():
    reports = output.Reports()
    assert heard(b"x" * (5 * MIB), {"type": "error", "name": "E"}, reports=reports)[0]["name"] == "E"
    assert reports.lost


def test_all_results_of_a_run_together_are_bounded_with_their_notes():
    reports, size, events = output.Reports(), 0, 0
    wire = json.dumps(result(text="t" * 900, html="\0" * 9000)).encode() + b"\n"
    while not reports.flooding:
        passed = reports.feed(wire)
        size, events = size + sum(map(len, passed)), events + len(passed)
    assert size <= MAX_RESULT_BYTES
    assert events < 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)
names = st.sampled_from(["type", "text", "html", "json", "data", "chart", "extra", "is_main_result", "name", "value", "traceback", "nonce"])  # fmt: skip


@settings(max_examples=200)
@given(st.sampled_from(["result", "error", "done", "stdout"]), st.dictionaries(names, json_values, max_size=6))
def test_whatever_a_program_writes_a_client_gets_the_types_of_the_protocol(kind, fields):
    for event in heard({"type": kind, **fields}, reports=output.Reports("mine")):
        if event["type"] == "error":
            assert {type(event[key]) for key in ("name", "value", "traceback")} == {str}
            continue
        assert (event["type"], type(event["is_main_result"])) == ("result", bool)
        assert all(isinstance(event.get(key, ""), str) for key in ("text", "html"))
        assert all(isinstance(event.get(key, {}), dict) for key in ("data", "chart", "extra"))
        assert "nonce" not in event
        assert "name" not in event


def test_output_of_many_escapes_comes_in_lines_that_a_gateway_takes():
    stream = output.TextStream("stdout", output.Allowance(MIB))
    lines = stream.feed(b"\0" * (512 * 1024)).splitlines()
    assert max(map(len, lines)) < MIB
    assert "".join(json.loads(line)["text"] for line in lines) == "\0" * (512 * 1024)
