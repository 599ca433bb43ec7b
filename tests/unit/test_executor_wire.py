"""What the server believes: requests, frames, and what a run reports; and how it judges an end."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool import protocol
from execpool.executor import frames, settings
from execpool.executor.server import errors, output, requests, scan


def execute(**fields: object) -> protocol.ExecuteRequest:
    return requests.execute(json.dumps({"code": "1", **fields}).encode())


def test_an_e2b_request_with_its_four_keys_is_read():
    request = execute(context_id=None, language=" Python ", env_vars={"A": "1"})
    assert (request.code, request.env_vars, request.timeout_seconds) == ("1", {"A": "1"}, 60.0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b'{"code": 1}',
        b'{"language": "python"}',
        b"[" * 100_000,
        b'{"code": "\\ud800"}',
        b'{"code": "1", "timeout_seconds": 0}',
        b'{"code": "1", "timeout_seconds": -1}',
        b'{"code": "1", "timeout_seconds": NaN}',
        b'{"code": "1", "timeout_seconds": 1e9}',
        b'{"code": "1", "timeout_seconds": true}',
        b'{"code": "1", "timeout_seconds": "5"}',
        b'{"code": "1", "output_bytes": 0}',
        b'{"code": "1", "output_bytes": 99999999999}',
        b'{"code": "1", "output_bytes": 1.5}',
        b'{"code": "1", "env_vars": ["A"]}',
        b'{"code": "1", "env_vars": {"A": 1}}',
        b'{"code": "1", "env_vars": {"A=B": "1"}}',
        b'{"code": "1", "env_vars": {"A": "\\u0000"}}',
        b'{"code": "1", "stateless": "yes"}',
        b'{"code": "1", "context_id": 5}',
        b'{"code": "1", "language": "python", "context_id": "x"}',
    ],
)
def test_a_body_that_is_not_as_agreed_is_refused(body):
    with pytest.raises(errors.BadRequest):
        requests.execute(body)


@pytest.mark.parametrize(
    ("fields", "stateless", "language"),
    [
        pytest.param({}, False, "python", id="E2B's bodies run in the default context"),
        pytest.param({"stateless": True}, True, "python", id="a fresh process"),
        pytest.param({"stateless": True, "language": "Bash "}, True, "bash", id="a fresh shell"),
        pytest.param({"stateless": True, "context_id": "abc"}, False, "python", id="a named context is one"),
        pytest.param({"language": "python3"}, False, "python", id="an alias"),
    ],
)
def test_a_request_says_where_it_runs(fields, stateless, language):
    request = execute(**fields)
    assert (request.stateless, request.language) == (stateless, language)


@pytest.mark.parametrize("language", ["ruby", "javascript", "", 5])
def test_a_language_that_does_not_run_here_is_refused_as_e2b_does(language):
    with pytest.raises(errors.NoSuchLanguage) as refused:
        execute(language=language)
    assert (refused.value.status, refused.value.in_plain_text) == (500, True)
    with pytest.raises(errors.NoSuchLanguage):
        requests.create_context(json.dumps({"language": language}).encode())


@pytest.mark.parametrize("body", [b"[]", b"x", b'{"cwd": 1}', b'{"cwd": "a\\u0000"}'])
def test_a_strange_context_is_refused(body):
    with pytest.raises(errors.BadRequest):
        requests.create_context(body)


@pytest.mark.parametrize(
    ("code", "imports"),
    [
        ("import numpy as np\nnp.mean([1])", frames.Imports.BASE),
        ("from scipy import stats", frames.Imports.SCIENCE),
        ("import pandas\nframe.plot()", frames.Imports.SCIENCE),
        ("import sklearn.linear_model", frames.Imports.SCIENCE),
        ("def f():\n  import matplotlib.pyplot as plt", frames.Imports.SCIENCE),
        ("plotted = 1", frames.Imports.BASE),
    ],
)
def test_the_imports_of_a_program_are_seen_by_its_text(code, imports):
    assert scan.wanted_imports(code) is imports


def test_code_longer_than_allowed_is_refused():
    with pytest.raises(errors.TooLarge):
        execute(code="x" * (protocol.MAX_CODE_BYTES + 1))


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 129, "a\n", "../a"])
def test_a_strange_execution_id_is_refused(name):
    with pytest.raises(errors.BadRequest):
        requests.execution_id(name)


@pytest.mark.parametrize(("text", "epoch"), [("7", 7), ("", -1), ("-1", -1), ("1e3", -1), ("٣", -1), ("9" * 40, -1)])
def test_what_is_no_number_is_no_epoch(text, epoch):
    assert requests.epoch(text) == epoch


@pytest.mark.parametrize(
    "body",
    [
        {"secret": 1, "principal": "p"},
        {"secret": "s"},
        {"secret": "s", "principal": ""},
        {"secret": "s", "principal": "a b"},
        {"secret": "s", "principal": "p" * 300},
        {"secret": "s", "principal": "p", "env_vars": {"A": "\ud800"}},
        {"secret": "s", "principal": "p", "env_vars": {"A=B": "c"}},
        {"secret": "s", "principal": "p", "env_vars": {"A": "x" * requests.MAX_ENV_BYTES}},
    ],
)
def test_a_strange_claim_is_refused(body):
    with pytest.raises(errors.BadRequest):
        requests.claim(json.dumps(body).encode())


@pytest.mark.parametrize(
    "body",
    [
        {"secret": "s", "expect": "Cold"},
        {"secret": "s", "expect": ["Any"]},
        {"secret": "s", "expect": "Any", "epoch": "1"},
    ],
)
def test_a_strange_retirement_is_refused(body):
    with pytest.raises(errors.BadRequest):
        requests.retire(json.dumps(body).encode())


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_body_at_all_breaks_the_readers(body):
    for read in (requests.execute, requests.claim, requests.retire, requests.challenge):
        try:
            assert read(body)
        except errors.Refusal:
            continue


@pytest.mark.parametrize(
    "frame",
    [
        frames.Fork("slot", "Run", "Base"),
        frames.End("slot"),
        frames.Sweep(),
        frames.Swept(),
        frames.Shutdown(),
        frames.Hello(1, 2, 3),
        frames.Ready("Science"),
        frames.Away("Science"),
        frames.Parked(1),
        frames.Refused("why"),
        frames.Interrupt(1),
        frames.Stop(1),
        frames.Ended(-9, stopped=True, cpu_seconds=0.5, number=3),
    ],
)
def test_a_frame_survives_the_wire(frame):
    assert frames.decode(frames.encode(frame)) == frame


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"frame": "Nuke"}', b'{"frame": "Stop"}', b'{"frame": "Stop", "number": "1"}', b'{"frame": []}',
     b'{"frame": "Stop", "number": true}', b'{"frame": "End", "slot": "' + b"x" * 5000 + b'"}'],
)  # fmt: skip
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(frames.FrameError):
        frames.decode(data)


def test_output_beyond_the_allowance_is_dropped_and_as_much_again_is_a_flood():
    allowance = output.Allowance(10)
    stream = output.TextStream("stdout", allowance)
    assert json.loads(stream.feed(b"123456"))["text"] == "123456"
    assert json.loads(stream.feed(b"7890abc"))["text"] == "7890"
    assert allowance.exceeded
    assert not allowance.flooding
    assert stream.feed(b"x" * 8) == b""
    assert allowance.flooding


@pytest.mark.parametrize(("capped", "kept"), [(True, 10), (False, 10_000)])
def test_the_cap_is_what_bounds_output(capped, kept):
    allowance = output.Allowance(10, capped=capped)
    stream = output.TextStream("stdout", allowance)
    said = [stream.feed(b"x" * 100) for _ in range(100)]
    assert sum(len(json.loads(line)["text"]) for line in said if line) == kept
    assert allowance.flooding is capped


def test_a_character_cut_in_two_arrives_whole_and_half_a_one_at_the_end_is_replaced():
    stream = output.TextStream("stdout", output.Allowance(100))
    euro = "€".encode()
    assert stream.feed(euro[:1]) == b""
    assert json.loads(stream.feed(euro[1:] + euro[:2]))["text"] == "€"
    assert json.loads(stream.feed(b"", last=True))["text"] == "�"


def test_output_events_carry_a_timestamp():
    event = json.loads(output.TextStream("stderr", output.Allowance(9)).feed(b"x"))
    assert (event["type"], event["timestamp"][-6:]) == ("stderr", "+00:00")


def test_reports_keep_known_fields_only():
    reports = output.Reports()
    (event,) = reports.feed(b'{"type":"result","text":"1","evil":"x","html":5,"is_main_result":1}\n')
    assert json.loads(event) == {"type": "result", "text": "1", "is_main_result": False}
    assert not reports.lost


def test_a_report_cut_in_pieces_arrives_whole():
    reports = output.Reports()
    line = b'{"type":"error","name":"E","value":"v","traceback":"t"}\n'
    assert reports.feed(line[:9]) == []
    assert json.loads(reports.feed(line[9:])[0])["name"] == "E"
    assert reports.error_name == "E"


@pytest.mark.parametrize(
    "line", [b"nonsense\n", b"[]\n", b'{"type":"end_of_execution","status":"Succeeded"}\n', b"[" * 90_000 + b"\n"]
)
def test_a_forged_report_is_dropped_with_a_flag(line):
    reports = output.Reports()
    assert reports.feed(line) == []
    assert reports.lost


def test_reports_without_end_are_a_flood_and_are_not_kept():
    reports = output.Reports()
    for _ in range(17):
        assert reports.feed(b"x" * (1 << 20)) == []
    assert reports.lost
    assert reports.flooding


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_no_report_at_all_breaks_the_reader(pieces):
    reports = output.Reports()
    for piece in pieces:
        for event in reports.feed(piece):
            assert json.loads(event)["type"] in {"result", "error"}


def test_a_request_survives_the_wire():
    request = frames.Request("1", "bash", {"A": "ä"}, 2.5, "n", setup=True, cwd="/")
    assert frames.decode_request(frames.encode_request(request)) == request


def done(**fields: object) -> bytes:
    values = {"type": "done", "nonce": "mine", "well": True, "cpu_seconds": 0.1, "max_rss_bytes": 1}
    return json.dumps({**values, **fields}).encode() + b"\n"


def test_a_request_is_over_when_its_process_says_so_with_its_nonce():
    reports = output.Reports("mine")
    assert reports.feed(done(nonce="another")) == []
    assert (reports.done, reports.lost) == (None, True)
    assert reports.feed(done() + b'{"type":"result","text":"late"}\n') == []
    assert reports.done == frames.Done("mine", well=True, cpu_seconds=0.1, max_rss_bytes=1)


@pytest.mark.parametrize(
    "fields", [{"well": 1}, {"cpu_seconds": "1"}, {"max_rss_bytes": None}, {"type": "x" * 9, "well": 0}]
)
def test_a_request_is_not_over_by_a_word_of_another_form(fields):
    reports = output.Reports("mine")
    reports.feed(done(**fields))
    assert reports.done is None


SERVER = {"EXECPOOL_EXECUTOR_ID": "e", "EXECPOOL_POD_UID": "u", "EXECPOOL_SECRET_SHA256": "s"}


def test_settings_come_from_the_environment():
    read = settings.server_settings(
        {**SERVER, "EXECPOOL_SLOTS": "3", "EXECPOOL_IDLE_SECONDS": "1.5", "KUBERNETES_SERVICE_HOST": "h"}
    )
    assert (read.slots, read.idle_seconds, read.api_server, read.data_port) == (3, 1.5, ("h", 443), protocol.DATA_PORT)


@pytest.mark.parametrize(
    "variables",
    [
        {"EXECPOOL_EXECUTOR_ID": ""},
        {"EXECPOOL_SLOTS": "0"},
        {"EXECPOOL_SLOTS": "x"},
        {"EXECPOOL_IDLE_SECONDS": "-1"},
        {"EXECPOOL_IDLE_SECONDS": "nan"},
        {"EXECPOOL_MAX_AGE_SECONDS": str(math.inf)},
        {"EXECPOOL_DATA_PORT": "-5"},
    ],
)
def test_a_bad_setting_is_named(variables):
    with pytest.raises(settings.SettingsError, match=next(iter(variables))):
        settings.server_settings({**SERVER, **variables})


def test_an_unknown_network_is_an_error_and_not_the_weaker_one():
    with pytest.raises(settings.SettingsError, match="EXECPOOL_NETWORK"):
        settings.runner_settings({"EXECPOOL_NETWORK": "none"})


def test_the_environment_of_user_code_holds_nothing_of_ours():
    read = settings.runner_settings({"EXECPOOL_SLOTS": "2", "PATH": "/bin", "KUBERNETES_PORT": "x", "LANG": "C.UTF-8"})
    assert dict(read.user_environment) == {"PATH": "/bin", "LANG": "C.UTF-8"}
