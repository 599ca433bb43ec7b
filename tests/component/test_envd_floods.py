"""Envd under load that is meant to hurt: floods, readers that stall, many commands, an agent that dies or lies."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import CommandExitException, SandboxException
from tests.component.envd_world import TOKEN, World, envd, envelope


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


def test_a_slow_reader_makes_the_command_wait_and_nobody_else(world: World) -> None:
    start = envelope({"process": {"cmd": "/bin/sh", "args": ["-c", "yes; :"]}, "stdin": False})
    request = (
        f"POST /process.Process/Start HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n"
        f"Content-Type: application/connect+json\r\nContent-Length: {len(start)}\r\n\r\n"
    )
    before = resident(os.getpid())
    with socket.create_connection(("127.0.0.1", world.port)) as client:
        client.sendall(request.encode() + start)
        time.sleep(1.5)
        assert world.sandbox().commands.run("echo other").stdout == "other\n"
        (running,) = [info for info in world.sandbox().commands.list() if "yes; :" in info.args]
        assert state(running.pid) == "S" or state(child(running.pid)) == "S"
        assert resident(os.getpid()) - before < 60 << 20
        assert resident(world.agents[-1].pid) < 60 << 20
    # The listener is gone: output is dropped and the command runs on.
    time.sleep(0.5)
    assert world.sandbox().commands.kill(running.pid)


def test_output_without_a_listener_is_dropped(world: World) -> None:
    handle = world.sandbox().commands.run("yes | head -c 200000000; echo done > finished", background=True, timeout=0)
    handle.disconnect()
    end = time.monotonic() + 20
    while not (world.home / "finished").exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert (world.home / "finished").exists()
    assert resident(world.agents[-1].pid) < 60 << 20


def test_never_ending_output_reaches_a_reader_as_fast_as_it_reads(world: World) -> None:
    handle = world.sandbox().commands.run("yes", background=True, timeout=0)
    seen = 0
    for stdout, _, _ in handle:
        seen += len(stdout or "")
        if seen > 5_000_000:
            break
    assert handle.kill()


def test_a_command_that_takes_no_input_makes_its_giver_wait_until_the_time_is_over(world: World) -> None:
    handle = world.sandbox().commands.run("sleep 30", background=True, stdin=True)
    message = {"process": {"pid": handle.pid}, "input": {"stdin": "eHh4" * 250_000}}
    status, body = world.call("process.Process/SendInput", message, **{"Connect-Timeout-Ms": "700"})
    assert (status, body["code"]) == (504, "deadline_exceeded")
    assert handle.kill()


def test_commands_are_bounded_in_number() -> None:
    with envd(prelude="from execpool.executor.runner.agent import commands; commands.MAX_PROCESSES = 3") as world:
        commands = world.sandbox().commands
        started = [commands.run("exec sleep 60", background=True) for _ in range(3)]
        with pytest.raises(SandboxException, match="no more are allowed"):
            commands.run("exec sleep 60")
        assert started[0].kill()
        assert commands.run("echo again").stdout == "again\n"


def test_a_command_that_ends_the_agent_ends_with_it_and_the_next_call_has_a_new_one(world: World) -> None:
    handle = world.sandbox().commands.run("sleep 65", background=True)
    with pytest.raises((SandboxException, CommandExitException)):
        world.sandbox().commands.run("kill -9 $PPID; sleep 5")
    with pytest.raises(SandboxException, match="ended with the runner"):
        handle.wait()
    assert world.sandbox().commands.run("echo new").stdout == "new\n"
    assert len(world.agents) > 1
    os.kill(handle.pid, signal.SIGKILL)  # in the executor, the runner does so


@pytest.mark.parametrize("frame", [b"x", b"[]", b"{}", b'{"reply":[]}', b'{"ended":"x","status":1}', b"x" * 200_000])
def test_an_agent_that_lies_is_given_up(frame: bytes) -> None:
    with envd() as world:
        theirs: list[socket.socket] = []

        def start_liar() -> socket.socket:
            ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            theirs.append(other)
            return ours

        assert world.envd is not None
        world.envd._agent._start = start_liar
        answer: list[tuple[int, dict[str, object]]] = []
        caller = threading.Thread(target=lambda: answer.append(world.call("filesystem.Filesystem/Stat", {"path": "x"})))
        caller.start()
        end = time.monotonic() + 5
        while not theirs and time.monotonic() < end:
            time.sleep(0.01)
        theirs[0].recv(1000)
        theirs[0].send(frame)
        caller.join(10)
        theirs[0].close()
        assert answer[0][1]["code"] == "aborted"


def test_an_upload_that_breaks_off_leaves_what_came_and_holds_nothing(world: World) -> None:
    request = (
        f"POST /files?path=half HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\nfirst"
    )
    with socket.create_connection(("127.0.0.1", world.port)) as client:
        client.sendall(request.encode())
        time.sleep(0.3)
    end = time.monotonic() + 5
    while world.ownership._visits and time.monotonic() < end:
        time.sleep(0.01)
    assert world.ownership._visits == 0
    assert (world.home / "half").read_bytes() == b"first"


def test_a_download_of_a_file_that_shrinks_breaks_off(world: World) -> None:
    (world.home / "shrinks").write_bytes(b"x" * 50_000_000)
    with socket.create_connection(("127.0.0.1", world.port)) as client:
        client.sendall(f"GET /files?path=shrinks HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n\r\n".encode())
        client.recv(1000)
        os.truncate(world.home / "shrinks", 0)
        received = 0
        client.settimeout(10)
        while chunk := client.recv(1 << 20):
            received += len(chunk)
    assert received < 50_000_000


def test_nothing_is_served_without_a_claim_and_after_its_end() -> None:
    from execpool.executor.server.claim import Ownership
    from execpool.protocol import Expect

    unclaimed = Ownership(slots=1, idle_seconds=60, max_age_seconds=60, now=time.monotonic())
    with envd(unclaimed) as world:
        assert world.request("GET", "/envs", headers={"X-Access-Token": ""})[0] == 401
        unclaimed.claim("alice", token=TOKEN, now=time.monotonic())
        assert world.request("GET", "/envs")[0] == 200
        unclaimed.retire(Expect.ANY)
        assert world.request("GET", "/envs")[0] == 410


def test_a_call_keeps_the_executor_from_being_idle(world: World) -> None:
    handle = world.sandbox().commands.run("sleep 30", background=True)
    time.sleep(0.1)
    assert world.ownership.ends_at() is None
    claim = world.ownership.state(time.monotonic())
    assert claim is not None
    assert claim.idle_seconds == 0.0
    assert handle.kill()
    with pytest.raises(CommandExitException):
        handle.wait()
    end = time.monotonic() + 5
    while world.ownership.ends_at() is None and time.monotonic() < end:
        time.sleep(0.01)
    assert world.ownership.ends_at() is not None


def resident(pid: int) -> int:
    """The memory of a process, in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
