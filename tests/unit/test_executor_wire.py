"""What the server believes: requests, frames, and what a run reports; and how it judges an end."""

import json
import math
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool import protocol
from execpool.executor import frames, settings
from execpool.executor.server import errors, outcome, output, requests
from execpool.protocol import RunReason, RunStatus


def execute(**fields: object) -> protocol.ExecuteRequest:
    return requests.execute(json.dumps({"code": "1", **fields}).encode())


def ended(code: int = 0, **fields: object) -> frames.Ended:
    values = {"timed_out": False, "stopped": False, "out_of_memory": False}
    return frames.Ended(
        **{"exit_code": code, "wall_seconds": 0.1, "cpu_seconds": 0.1, "max_rss_bytes": 1, **values, **fields}
    )


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
        b'{"code": "1", "language": "ruby"}',
        b'{"code": "1", "language": "python", "context_id": "x"}',
    ],
)
def test_a_body_that_is_not_as_agreed_is_refused(body):
    with pytest.raises(errors.BadRequest):
        requests.execute(body)


def test_a_context_is_not_found_while_there_are_none():
    with pytest.raises(errors.NotFound):
        execute(context_id="abc")


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
        frames.Start("run", 1.5),
        frames.Stop("run"),
        frames.Shutdown(),
        frames.Hello(1, 2, 3),
        frames.Started(),
        frames.Refused("why"),
        ended(-9, timed_out=True),
    ],
)
def test_a_frame_survives_the_wire(frame):
    assert frames.decode(frames.encode(frame)) == frame


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b'{"kind": "Nuke"}', b'{"kind": "Stop"}', b'{"kind": "Stop", "run": 1}', b'{"kind": []}',
     b'{"kind": "Start", "run": "a", "timeout_seconds": true}', b'{"kind": "Stop", "run": "' + b"x" * 5000 + b'"}'],
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
    for _ in range(9):
        assert reports.feed(b"x" * (1 << 20)) == []
    assert reports.lost
    assert reports.flooding


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_no_report_at_all_breaks_the_reader(pieces):
    reports = output.Reports()
    for piece in pieces:
        for event in reports.feed(piece):
            assert json.loads(event)["type"] in {"result", "error"}


@pytest.mark.parametrize(
    ("end", "wish", "error", "status", "reason"),
    [
        pytest.param(ended(), None, None, RunStatus.SUCCEEDED, RunReason.NONE, id="ended by itself"),
        pytest.param(ended(1), None, "ValueError", RunStatus.FAILED, RunReason.NONE, id="raised"),
        pytest.param(ended(3), None, None, RunStatus.FAILED, RunReason.NONE, id="exit status without a word"),
        pytest.param(ended(0), None, "ValueError", RunStatus.FAILED, RunReason.NONE, id="an error and exit status 0"),
        pytest.param(ended(-9, timed_out=True), None, None, RunStatus.TIMED_OUT, RunReason.TIME_LIMIT, id="too long"),
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


def test_a_failure_without_a_word_gets_an_error():
    assert outcome.judge(ended(3), None, None, 5.0).error == ("SystemExit", "3")


def test_every_signal_has_a_sentence():
    for number in (*signal.valid_signals(), 99):
        assert outcome.judge(ended(-number), None, None, 5.0).message


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
