"""Envd and those who do not go on: clients that have gone or do not read or send, an agent that is stopped."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.component.envd_world import World, envd, envelope, messages

from execpool.executor.server.envd import agent, exchange, files, processes

JSON, CONNECT, BYTES = "application/json", "application/connect+json", "application/octet-stream"
STAT = "filesystem.Filesystem/Stat"


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(agent, "_PING_SECONDS", 0.3)


def test_input_that_a_command_does_not_take_ends_with_its_client(world: World) -> None:
    handle = world.sandbox().commands.run("sleep 1000", background=True, stdin=True, timeout=0)
    handle.disconnect()
    given = {"process": {"pid": handle.pid}, "input": {"stdin": base64.b64encode(b"x" * 200_000).decode()}}
    with world.open("POST", "/process.Process/SendInput", json.dumps(given).encode(), JSON):
        assert world.stays_busy(0.5)
    assert world.becomes(idle=True, seconds=2)
    assert world.sandbox().commands.kill(handle.pid)


@pytest.mark.parametrize(
    ("method", "target", "body", "kind"),
    [
        ("GET", "/files?path=x", b"", ""),
        ("GET", "/metrics", b"", ""),
        ("POST", f"/{STAT}", b'{"path": "."}', JSON),
        ("POST", "/filesystem.Filesystem/ListDir", b'{"path": "."}', JSON),
        ("POST", "/filesystem.Filesystem/GetWatcherEvents", b'{"watcherId": "x"}', JSON),
    ],
)
def test_a_call_that_a_stopped_agent_does_not_answer_ends_with_its_client(
    world: World, method: str, target: str, body: bytes, kind: str
) -> None:
    with world.stopped_agent():
        with world.open(method, target, body, kind):
            assert world.stays_busy(0.3)
        assert world.becomes(idle=True, seconds=1)


@pytest.mark.usefixtures("impatient")
def test_an_upload_to_a_stopped_agent_ends_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STALLED_SECONDS", 0.5)
    with envd() as world, world.stopped_agent():
        with world.open("POST", "/files?path=large", b"x" * 500_000, BYTES, length=1_000_000):
            time.sleep(0.2)
        assert world.becomes(idle=True, seconds=4)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("call", [STAT, "filesystem.Filesystem/ListDir"])
def test_a_stopped_agent_is_given_up_and_the_next_call_has_a_new_one(call: str) -> None:
    with envd() as world:
        with world.stopped_agent():
            began = time.monotonic()
            status, body = world.call(call, {"path": "."})
            assert (status, body["code"]) == (409, "aborted")
            assert 0.8 < time.monotonic() - began < 3
        assert world.call(call, {"path": "."})[0] == 200
        assert len(world.agents) == 2


@pytest.mark.usefixtures("impatient")
def test_a_long_call_of_an_agent_that_lives_takes_its_time(world: World) -> None:
    agents = len(world.agents)
    with world.open("POST", "/files?path=slow", b"x", BYTES, length=2) as client:
        time.sleep(2.5)
        client.sendall(b"y")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
    assert len(world.agents) == agents


def test_an_agent_that_is_late_loses_no_command(world: World) -> None:
    commands = world.sandbox().commands
    first, second = (commands.run("sleep 1000", background=True, timeout=0) for _ in range(2))
    for handle in (first, second):
        handle.disconnect()
    killed: list[bool] = []
    with world.stopped_agent():
        killing = threading.Thread(target=lambda: killed.append(world.sandbox().commands.kill(first.pid)))
        killing.start()
        time.sleep(3)
    killing.join(10)
    assert killed == [True]
    assert [info.pid for info in commands.list()] == [second.pid]
    assert commands.kill(second.pid)


@pytest.mark.usefixtures("impatient")
def test_calls_that_could_not_even_be_sent_end_with_the_agent_and_its_socket() -> None:
    with envd() as world:
        theirs: list[socket.socket] = []

        def start_deaf() -> socket.socket:
            ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            other.settimeout(5)
            theirs.append(other)
            return ours

        assert world.envd is not None
        world.envd._agent._start = start_deaf
        answers: list[tuple[int, dict[str, Any]]] = []

        def ask() -> None:
            answers.append(world.call(STAT, {"path": "x" * 150_000}))

        asking = [threading.Thread(target=ask) for _ in range(4)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(5)
        assert [(status, body["code"]) for status, body in answers] == [(409, "aborted")] * 4
        with theirs[0] as other:
            while other.recv(200_000):
                pass
        world.envd._agent._start = world.start_agent
        assert world.call(STAT, {"path": "."})[0] == 200


def test_a_command_whose_client_goes_while_it_starts_is_listed_all_the_same(world: World) -> None:
    start = envelope({"process": {"cmd": "/bin/sleep", "args": ["1000"]}, "stdin": False, "tag": "left"})
    with world.stopped_agent(), world.open("POST", "/process.Process/Start", start, CONNECT):
        time.sleep(0.2)
    assert world.becomes(idle=True)
    assert world.call("process.Process/SendSignal", {"process": {"tag": "left"}, "signal": 9})[0] == 200


def test_a_watcher_whose_client_goes_while_it_begins_is_given_back() -> None:
    with envd(prelude="from execpool.executor.runner.agent import watch; watch.MAX_WATCHERS = 1") as world:
        with world.stopped_agent():
            with world.open("POST", "/filesystem.Filesystem/WatchDir", envelope({"path": "."}), CONNECT):
                time.sleep(0.2)
            time.sleep(0.2)
        assert world.becomes(idle=True)
        assert world.call("filesystem.Filesystem/CreateWatcher", {"path": "."})[0] == 200


@pytest.mark.parametrize(
    ("target", "kind", "sent"),
    [(f"/{STAT}", JSON, b"{"), ("/process.Process/Start", CONNECT, b"\0\0"), ("/files?path=slow", BYTES, b"x")],
)
def test_a_body_that_does_not_come_is_waited_for_no_longer_than_that(
    world: World, monkeypatch: pytest.MonkeyPatch, target: str, kind: str, sent: bytes
) -> None:
    monkeypatch.setattr(exchange, "MESSAGE_SECONDS", 0.3)
    monkeypatch.setattr(files, "STALLED_SECONDS", 0.3)
    with world.open("POST", target, sent, kind, length=100) as client:
        answer = client.recv(10_000)
        while b"not" not in answer:
            answer += client.recv(10_000)
        assert b"504" in answer or b"deadline_exceeded" in answer
        assert world.becomes(idle=True, seconds=1)


def test_streamed_input_that_a_command_does_not_take_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_INPUT_SECONDS", 0.3)
    handle = world.sandbox().commands.run("sleep 1000", background=True, stdin=True, timeout=0)
    handle.disconnect()
    start = envelope({"start": {"process": {"pid": handle.pid}}})
    data = envelope({"data": {"input": {"stdin": base64.b64encode(b"x" * 200_000).decode()}}})
    _, stream = world.stream("process.Process/StreamInput", start, data)
    assert messages(stream)[-1][1]["error"]["code"] == "deadline_exceeded"
    assert world.sandbox().commands.kill(handle.pid)


@pytest.mark.parametrize("what", ["download", "output", "listing"])
def test_an_answer_that_nobody_reads_is_broken_off(world: World, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(exchange.Exchange, "send_seconds", 0.5)
    (world.home / "large").write_bytes(b"x" * 30_000_000)
    directory = world.home / "many"
    directory.mkdir(exist_ok=True)
    for number in range(20_000 if what == "listing" else 0):
        (directory / f"{number:05}").touch()
    yes = envelope({"process": {"cmd": "/usr/bin/yes", "args": ["unread"]}, "stdin": False, "tag": "unread"})
    requests = {
        "download": ("GET", "/files?path=large", b"", ""),
        "output": ("POST", "/process.Process/Start", yes, CONNECT),
        "listing": ("POST", "/filesystem.Filesystem/ListDir", b'{"path": "many"}', JSON),
    }
    with world.open(*requests[what]) as client:
        assert world.stays_busy(0.3)
        assert world.becomes(idle=True, seconds=10)
        received = 0
        while chunk := client.recv(1 << 20):
            received += len(chunk)
        assert 0 < received < 30_000_000
    if what == "output":
        assert world.call("process.Process/SendSignal", {"process": {"tag": "unread"}, "signal": 9})[0] == 200
