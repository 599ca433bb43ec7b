"""What an executor may send, and what becomes of everything else."""

import json

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execpool.gateway import events
from execpool.gateway.events import LineSplitter, MisbehavedError, Transcript

END = b'{"type":"end_of_execution","status":"Succeeded","wall_seconds":0.1}'


def test_output_is_kept_and_passed_on() -> None:
    transcript = Transcript()
    passed = transcript.add(b'{"type":"stdout","text":"hi\\n","timestamp":"x"}')
    assert passed == b'{"type":"stdout","text":"hi\\n"}'
    assert transcript.stdout == b"hi\n"


def test_results_are_kept_by_mime_type_and_unknown_keys_dropped() -> None:
    transcript = Transcript()
    passed = transcript.add(b'{"type":"result","text":"2","is_main_result":true,"html":null,"evil":1}')
    assert json.loads(passed or b"") == {"type": "result", "text": "2", "is_main_result": True}
    assert orjson.dumps(transcript.results) == b'[{"text":"2","is_main_result":true}]'


def test_an_empty_result_is_a_result() -> None:
    assert Transcript().add(b'{"type":"result"}') == b'{"type":"result"}'


def test_the_error_of_a_program_is_kept() -> None:
    transcript = Transcript()
    transcript.add(b'{"type":"error","name":"ValueError","value":"no","traceback":"tb"}')
    assert transcript.error == {"name": "ValueError", "value": "no", "traceback": "tb"}


def test_the_end_is_kept_and_not_passed_on() -> None:
    transcript = Transcript()
    assert transcript.add(END) is None
    assert transcript.end is not None
    assert transcript.end.status == "Succeeded"


@pytest.mark.parametrize(
    "line", [b'{"type":"keepalive"}', b'{"type":"number_of_executions"}', b'{"type":"new"}', b"{}"]
)
def test_other_types_are_dropped(line: bytes) -> None:
    assert Transcript().add(line) is None


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"{" * 5000,
        b'{"type":"stdout","text":1}',
        b'{"type":"stdout","text":null}',
        b'{"type":"stderr","text":["a"]}',
        b'{"type":"stdout","text":"\\ud800"}',
        b'{"type":"result","text":1}',
        b'{"type":"result","png":{}}',
        b'{"type":"result","extra":[]}',
        b'{"type":"result","json":' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"type":"error","name":1}',
        b'{"type":"error","traceback":["a"]}',
        b'{"type":"end_of_execution"}',
        b'{"type":"end_of_execution","status":"Great"}',
        b'{"type":"end_of_execution","status":{}}',
        b'{"type":"end_of_execution","status":"Failed","reason":1}',
        b'{"type":"end_of_execution","status":"Failed","wall_seconds":"1"}',
        b'{"type":"end_of_execution","status":"Failed","wall_seconds":true}',
        b'{"type":"end_of_execution","status":"Failed","wall_seconds":NaN}',
    ],
)
def test_what_the_protocol_does_not_allow_is_misbehaviour(line: bytes) -> None:
    with pytest.raises(MisbehavedError):
        Transcript().add(line)


def test_an_error_longer_than_all_output_may_be_is_misbehaviour() -> None:
    line = orjson.dumps({"type": "error", "name": "E", "value": "x" * (1 << 20), "traceback": "y"})
    with pytest.raises(MisbehavedError):
        Transcript().add(line)


def test_output_beyond_the_bound_is_cut_and_flagged() -> None:
    transcript = Transcript()
    for _ in range(40):
        transcript.add(orjson.dumps({"type": "stdout", "text": "é" * 20_000}))
    assert len(transcript.stdout) == 1 << 20
    assert transcript.truncated


def test_results_beyond_the_bound_are_dropped_and_flagged() -> None:
    transcript = Transcript()
    line = orjson.dumps({"type": "result", "png": "A" * 1_500_000})
    passed = [transcript.add(line) for _ in range(4)]
    assert [one is None for one in passed] == [False, False, True, True]
    assert transcript.truncated


def test_endless_lines_that_say_nothing_are_misbehaviour() -> None:
    transcript = Transcript()
    for _ in range(events.MAX_IDLE_LINES):
        transcript.add(b'{"type":"keepalive"}')
    with pytest.raises(MisbehavedError):
        transcript.add(b'{"type":"keepalive"}')


def test_long_messages_of_the_end_are_cut() -> None:
    transcript = Transcript()
    transcript.add(orjson.dumps({"type": "end_of_execution", "status": "Killed", "message": "m" * 5000}))
    assert transcript.end is not None
    assert len(transcript.end.message) == events.MAX_TEXT


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda c: (
            st.lists(c)
            | st.dictionaries(
                st.sampled_from(["type", "text", "status", "png", "extra", "wall_seconds", "name"]),
                c | st.sampled_from(["stdout", "result", "error", "end_of_execution"]),
            )
        ),
        max_leaves=12,
    ).map(lambda v: json.dumps(v).encode())
)
def test_any_line_is_taken_in_or_misbehaviour(line: bytes) -> None:
    transcript = Transcript()
    try:
        passed = transcript.add(line)
    except MisbehavedError:
        return
    assert passed is None or isinstance(json.loads(passed), dict)
    assert json.loads(orjson.dumps(transcript.results)) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b and b.strip() != b""), max_size=20),
    st.data(),
)
def test_lines_do_not_depend_on_how_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    splitter, got, at = LineSplitter(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 40))
        got += list(splitter.feed(stream[at : at + step]))
        at += step
    assert got == lines


def test_a_line_without_an_end_is_not_held_for_ever() -> None:
    splitter = LineSplitter()
    for _ in range(events.MAX_LINE_BYTES // 65536):
        assert list(splitter.feed(b"x" * 65536)) == []
    with pytest.raises(MisbehavedError):
        list(splitter.feed(b"x"))
