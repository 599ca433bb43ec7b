"""Connect's envelopes and proto-JSON: what was written is read, however it is cut; nothing else gets through."""

import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.executor.agent_wire import Code
from execpool.executor.server.envd import codec
from execpool.executor.server.envd.errors import EnvdError

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda v: st.lists(v) | st.dictionaries(texts, v),
    max_leaves=5,
)
messages = st.dictionaries(texts, values, max_size=4)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@given(st.lists(messages, max_size=5), st.lists(st.integers(0, 10_000), max_size=10))
def test_messages_survive_however_the_stream_is_cut(sent: list[dict[str, Any]], places: list[int]) -> None:
    reader = codec.Envelopes()
    stream = b"".join(codec.envelope(message) for message in sent)
    received = [message for piece in cut(stream, places) for message in reader.feed(piece)]
    reader.finish()
    assert received == sent


@given(st.binary(max_size=200))
def test_any_bytes_are_messages_or_an_error(stream: bytes) -> None:
    reader = codec.Envelopes()
    try:
        for message in reader.feed(stream):
            assert isinstance(message, dict)
        reader.finish()
    except EnvdError:
        pass


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"\x01\x00\x00\x00\x02{}", Code.INTERNAL),
        (b"\x02\x00\x00\x00\x02{}", Code.INVALID_ARGUMENT),
        (b"\x80\x00\x00\x00\x02{}", Code.INVALID_ARGUMENT),
        (b"\x00\xff\xff\xff\xff", Code.RESOURCE_EXHAUSTED),
        (b"\x00" + (codec.MAX_MESSAGE_BYTES + 1).to_bytes(4, "big"), Code.RESOURCE_EXHAUSTED),
        (b"\x00\x00\x00\x00\x02[]", Code.INVALID_ARGUMENT),
        (b"\x00\x00\x00\x00\x01{", Code.INVALID_ARGUMENT),
    ],
)
def test_other_envelopes_are_refused_before_their_content_is_kept(head: bytes, code: Code) -> None:
    with pytest.raises(EnvdError) as caught:
        list(codec.Envelopes().feed(head))
    assert caught.value.code is code


def test_a_cut_off_envelope_is_told_at_the_end() -> None:
    reader = codec.Envelopes()
    assert list(reader.feed(codec.envelope({"a": 1})[:-1])) == []
    with pytest.raises(EnvdError):
        reader.finish()


def test_a_deep_message_is_an_error_and_no_crash() -> None:
    with pytest.raises(EnvdError):
        codec.parse(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


@given(st.binary(max_size=50), st.booleans(), st.booleans())
def test_bytes_come_in_either_alphabet_with_or_without_padding(data: bytes, url: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if url else base64.b64encode)(data).decode()
    assert codec.data({"d": text if padded else text.rstrip("=")}, "d") == data


@pytest.mark.parametrize("value", ["*", "a", "äöü", 1, ["x"], {}])
def test_what_is_no_base64_is_refused(value: object) -> None:
    with pytest.raises(EnvdError):
        codec.data({"d": value}, "d")


def test_fields_have_two_names_and_null_is_absent() -> None:
    assert codec.flag({"include_entry": True}, "includeEntry")
    assert codec.flag({"includeEntry": True}, "includeEntry")
    assert not codec.flag({"includeEntry": None}, "includeEntry")
    assert codec.text({"path": None}, "path") == ""
    assert codec.mapping({}, "envs") == {}


@pytest.mark.parametrize(("value", "number"), [(0, 0), (7, 7), ("7", 7), (7.0, 7), (2**32 - 1, 2**32 - 1), (None, 0)])
def test_numbers_may_be_texts(value: object, number: int) -> None:
    assert codec.number({"n": value}, "n") == number


@pytest.mark.parametrize("value", [-1, 2**32, 1.5, "x", "-1", "²", True, [], float("inf")])
def test_other_numbers_are_refused(value: object) -> None:
    with pytest.raises(EnvdError):
        codec.number({"n": value}, "n")


@pytest.mark.parametrize("message", [{"a": 1}, {"a": ["x"]}, {"a": "zero\0byte"}])
def test_texts_are_texts(message: dict[str, Any]) -> None:
    with pytest.raises(EnvdError):
        codec.text(message, "a")


@pytest.mark.parametrize("envs", [[], "x", {"a": 1}, {"a": "\0"}, {"\0": "a"}])
def test_environments_are_texts_by_name(envs: object) -> None:
    with pytest.raises(EnvdError):
        codec.mapping({"envs": envs}, "envs")


@pytest.mark.parametrize("code", list(Code))
def test_every_error_can_be_told_in_every_way(code: Code) -> None:
    error = EnvdError(code, "why")
    assert 400 <= error.plain_status < 600
    assert 400 <= error.connect_status < 600
    assert error.plain() == {"code": error.plain_status, "message": "why"}
    told = json.loads(codec.end(error)[5:])["error"]
    assert told["message"] == "why"
    assert told["code"] in {known.value for known in Code} - {"no_space", "too_large"}


@given(messages)
def test_parse_reads_any_object(message: dict[str, Any]) -> None:
    assert codec.parse(json.dumps(message).encode()) == message
