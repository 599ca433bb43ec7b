"""A bundle becomes an event: fields, the rule of quotes, JSON that any reader takes, and the limit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execpool.executor.runner import display_events
from execpool.executor.runner.display_events import MAX_EVENT_BYTES, result


def test_every_format_has_its_field_and_others_are_extra():
    bundle = {mime: mime for mime in display_events.FIELDS} | {"application/x-mine": {"a": 1}}
    event = result(bundle, main=True)
    assert {field: event[field] for field in display_events.FIELDS.values()} == {
        f: m for m, f in display_events.FIELDS.items()
    }
    assert (event["type"], event["is_main_result"], event["extra"]) == (
        "result",
        True,
        {"application/x-mine": {"a": 1}},
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'abc'", "abc"),
        ('"it\'s"', "it's"),
        ("['a']", "['a']"),
        ("'", "'"),
        ("''", ""),
        ("'a", "'a"),
        ("'\"'", '"'),
        ("", ""),
    ],
)
def test_a_text_loses_one_pair_of_quotes(text, shown):
    assert result({"text/plain": text}, main=True)["text"] == shown


def test_bytes_become_base64():
    assert result({"image/png": b"\x89PNG"}, main=False)["png"] == "iVBORw=="


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([float("nan"), float("inf"), 1.5], [None, None, 1.5]),
        ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
        ([np.float64(2), np.int8(3)], [2.0, 3]),
        ([1 << 70], [1 << 70]),
        ([{1, 2}], ["{1, 2}"]),
        ({"a": "\ud800"}, {"a": "\ud800"}),
        ([[1 << 70, float("nan")]], [[1 << 70, None]]),
    ],
    ids=["not a number", "keys", "numpy", "large", "a set", "surrogate", "large beside not a number"],
)
def test_structured_values_are_json_that_any_reader_takes(value, shown):
    event = result({"application/json": value}, main=True)
    assert event["json"] == shown
    assert json.loads(json.dumps(event, allow_nan=False)) == event


def test_what_cannot_be_json_is_left_out():
    loop: list[object] = []
    loop.append(loop)

    class Odd:
        def __str__(self):
            raise KeyError

    event = result({"text/plain": "t", "application/json": loop, "e2b/data": {"a": Odd()}}, main=True)
    assert event == {"type": "result", "text": "t", "is_main_result": True}


def test_a_long_text_keeps_both_ends():
    text = result({"text/plain": "a" + "x" * (2 << 20) + "z"}, main=True)["text"]
    assert (text[0], text[-1]) == ("a", "z")
    assert "characters left out" in text
    assert len(text) < display_events.MAX_TEXT + 100


def test_the_largest_fields_go_first_and_the_text_says_which():
    bundle = {"text/plain": "t", "text/html": "h" * (3 << 20), "image/svg+xml": "s" * (2 << 20), "text/latex": "l"}
    event = result(bundle, main=True)
    assert event["text"] == "t\n[execpool left out text/html: 3.0 MiB, more than fits one event]"
    assert (len(event["svg"]), event["latex"]) == (2 << 20, "l")


def test_a_structured_value_counts_as_its_json():
    event = result({"application/json": ["x" * 100] * 50_000}, main=True)
    assert event["text"].startswith("[execpool left out application/json: 4.9 MiB")


sizes = st.integers(0, 5) | st.integers(0, 5 << 20)
texts = st.builds(lambda size, letter: letter * size, sizes, st.sampled_from(["x", '"', "\n", "\u00e9", "\0"]))


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from([*display_events.FIELDS, "x/y"]), texts, max_size=4))
def test_no_event_is_larger_than_the_limit(bundle):
    assert len(json.dumps(result(bundle, main=True), ensure_ascii=False).encode("utf-8", "replace")) <= MAX_EVENT_BYTES


def test_an_error_is_bounded():
    event = display_events.failure("N" * 1000, "v" * 100_000, "t" * (1 << 20))
    assert len(json.dumps(event)) < 300_000
    assert event["traceback"].endswith("t")
