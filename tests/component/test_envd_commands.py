"""Commands, by E2B's SDK: in the foreground and background, with input, signals, limits, and several listeners."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import (
    CommandExitException,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    SandboxException,
    TimeoutException,
)
from e2b.exceptions import AuthenticationException
from tests.component.envd_world import SYSTEM_PYTHON, World, envd, envelope, messages


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


def gone(pid: int, seconds: float = 5.0) -> bool:
    """True when a process has ended within a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


def test_a_command_runs_and_its_output_comes_back(world: World) -> None:
    result = world.sandbox().commands.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code, result.error) == ("out\n", "err\n", 0, None)


def test_a_failure_raises_with_its_exit_code(world: World) -> None:
    with pytest.raises(CommandExitException) as caught:
        world.sandbox().commands.run("echo half; exit 7")
    assert (caught.value.exit_code, caught.value.stdout, caught.value.error) == (7, "half\n", "exit status 7")


def test_directory_environment_and_user(world: World) -> None:
    commands = world.sandbox().commands
    world.sandbox().files.make_dir("place")
    assert commands.run("pwd", cwd="place").stdout == f"{world.home}/place\n"
    assert commands.run("pwd").stdout == f"{world.home}\n"
    assert commands.run("echo $A:$HOME:$USER", envs={"A": "1"}).stdout == f"1:{world.home}:user\n"
    with pytest.raises(InvalidArgumentException, match="cwd '/missing' does not exist"):
        commands.run("true", cwd="/missing")
    with pytest.raises(AuthenticationException):
        commands.run("true", user="root")
    assert commands.run("echo me", user="user").stdout == "me\n"


def test_callbacks_hear_output_while_it_is_written(world: World) -> None:
    heard: list[tuple[float, str]] = []
    world.sandbox().commands.run(
        "for i in 1 2 3; do echo $i; sleep 0.3; done", on_stdout=lambda text: heard.append((time.monotonic(), text))
    )
    assert [text for _, text in heard] == ["1\n", "2\n", "3\n"]
    assert heard[2][0] - heard[0][0] > 0.4


def test_a_background_command_takes_input_and_ends(world: World) -> None:
    handle = world.sandbox().commands.run("cat; echo done", background=True, stdin=True)
    handle.send_stdin("first\n")
    handle.send_stdin(b"second\n")
    handle.close_stdin()
    assert handle.wait().stdout == "first\nsecond\ndone\n"


def test_input_is_streamed(world: World) -> None:
    commands = world.sandbox().commands
    handle = commands.run("wc -c", background=True, stdin=True)
    commands.stream_input(handle.pid, (b"x" * 10_000 for _ in range(50)))
    commands.close_stdin(handle.pid)
    assert handle.wait().stdout.strip() == "500000"


def test_without_stdin_there_is_none(world: World) -> None:
    commands = world.sandbox().commands
    handle = commands.run("cat; sleep 5", background=True)
    with pytest.raises(SandboxException, match="stdin not enabled or closed"):
        commands.send_stdin(handle.pid, "x")
    assert handle.kill()


def test_list_shows_what_runs(world: World) -> None:
    commands = world.sandbox().commands
    handle = commands.run("sleep 60", background=True, envs={"A": "1"}, cwd="/tmp")
    listed = {info.pid: info for info in commands.list()}
    info = listed[handle.pid]
    assert (info.cmd, info.args, info.envs, info.cwd) == ("/bin/bash", ["-l", "-c", "sleep 60"], {"A": "1"}, "/tmp")
    assert handle.kill()
    assert handle.pid not in {info.pid for info in commands.list()}


def test_kill_takes_the_whole_tree_and_says_whether_there_was_one(world: World) -> None:
    commands = world.sandbox().commands
    handle = commands.run("sleep 61 & (sleep 62 & sleep 63) & echo $!; wait", background=True)
    below = int(next(iter(handle))[0] or 0)
    assert handle.kill()
    with pytest.raises(CommandExitException) as caught:
        handle.wait()
    assert (caught.value.exit_code, caught.value.error) == (-1, "signal: killed")
    assert gone(handle.pid)
    assert gone(below)
    assert not commands.kill(handle.pid)


def test_sigterm_can_be_handled(world: World) -> None:
    handle = world.sandbox().commands.run("trap 'echo bye; exit 5' TERM; echo ready; sleep 30 & wait", background=True)
    assert next(iter(handle))[0] == "ready\n"
    selector = {"process": {"pid": handle.pid}, "signal": "SIGNAL_SIGTERM"}
    assert world.call("process.Process/SendSignal", selector) == (200, {})
    with pytest.raises(CommandExitException) as caught:
        handle.wait()
    assert (caught.value.exit_code, caught.value.stdout) == (5, "ready\nbye\n")


def test_the_end_of_the_time_kills_the_command(world: World) -> None:
    commands = world.sandbox().commands
    began = time.monotonic()
    with pytest.raises(TimeoutException):
        commands.run("echo $$ > pid; sleep 64", timeout=1)
    assert time.monotonic() - began < 3
    assert gone(int((world.home / "pid").read_text()))


def test_a_client_that_goes_does_not_end_its_command_and_another_can_connect(world: World) -> None:
    commands = world.sandbox().commands
    handle = commands.run("read x; echo got $x; sleep 0.2; echo end", background=True, stdin=True, timeout=0)
    handle.disconnect()
    time.sleep(0.2)
    again = world.sandbox().commands.connect(handle.pid)
    assert again.pid == handle.pid
    commands.send_stdin(handle.pid, "it\n")
    assert again.wait().stdout == "got it\nend\n"
    with pytest.raises(NotFoundException, match="not found"):
        commands.connect(handle.pid)


def test_several_listeners_hear_the_same(world: World) -> None:
    commands = world.sandbox().commands
    handle = commands.run("read x; seq 1 20000", background=True, stdin=True)
    others = [commands.connect(handle.pid) for _ in range(3)]
    results: dict[int, str] = {}

    def listen(number: int) -> None:
        results[number] = others[number].wait().stdout

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    commands.send_stdin(handle.pid, "go\n")
    expected = handle.wait().stdout
    for thread in threads:
        thread.join(20)
    assert expected.endswith("20000\n")
    assert set(results.values()) == {expected}


def test_a_daemon_that_keeps_the_output_open_does_not_delay_the_end(world: World) -> None:
    began = time.monotonic()
    result = world.sandbox().commands.run("sleep 8 & echo started")
    assert result.stdout == "started\n"
    assert time.monotonic() - began < 4


def test_a_daemon_that_floods_does_not_delay_the_end(world: World) -> None:
    began = time.monotonic()
    result = world.sandbox().commands.run("yes & sleep 0.2; echo started")
    assert time.monotonic() - began < 5
    assert "y\n" in result.stdout


def test_a_missing_program_is_invalid(world: World) -> None:
    start = {"process": {"cmd": "/no/such/program"}}
    status, stream = world.stream("process.Process/Start", envelope(start))
    ((flags, end),) = messages(stream)
    assert (status, flags, end["error"]["code"]) == (200, 2, "invalid_argument")
    assert "no such file" in end["error"]["message"]


def test_a_tag_selects_a_command(world: World) -> None:
    commands = world.sandbox().commands
    start = {"process": {"cmd": "sleep", "args": ["0.5"]}, "tag": "mine", "stdin": False}
    listening = threading.Thread(target=world.stream, args=("process.Process/Start", envelope(start)))
    listening.start()
    end = time.monotonic() + 5
    while not any(info.tag == "mine" for info in commands.list()) and time.monotonic() < end:
        time.sleep(0.02)
    selector = {"process": {"tag": "mine"}, "signal": "SIGNAL_SIGKILL"}
    assert world.call("process.Process/SendSignal", selector)[0] == 200
    listening.join(10)
    assert world.call("process.Process/SendSignal", selector)[0] == 404


def test_silence_is_broken_by_keepalives(world: World) -> None:
    start = {"process": {"cmd": "sleep", "args": ["2.5"]}, "stdin": False}
    _, stream = world.stream("process.Process/Start", envelope(start), **{"Keepalive-Ping-Interval": "1"})
    events = [message.get("event", {}) for _, message in messages(stream)]
    assert [next(iter(event), "") for event in events] == ["start", "keepalive", "keepalive", "end", ""]
    assert events[3]["end"] == {"exitCode": 0, "exited": True, "status": "exit status 0"}


def test_a_signal_from_within_is_told(world: World) -> None:
    with pytest.raises(CommandExitException) as caught:
        world.sandbox().commands.run("kill -SEGV $$")
    assert "segmentation fault" in str(caught.value.error)


def test_a_command_that_ends_at_once_is_heard_of_every_time(world: World) -> None:
    start = envelope({"process": {"cmd": "/bin/true"}, "stdin": False})
    for _ in range(50):
        _, stream = world.stream("process.Process/Start", start)
        assert [next(iter(message.get("event", {})), "") for _, message in messages(stream)] == ["start", "end", ""]


@pytest.mark.skipif(os.getuid() != 0 or not Path(SYSTEM_PYTHON).exists(), reason="needs a second user")
def test_server_and_commands_may_be_of_different_users() -> None:
    with envd(user=1000) as other:
        sandbox = other.sandbox()
        result = sandbox.commands.run("id -u; echo err > /dev/stderr; echo out > /dev/stdout; cat < /dev/stdin")
        assert (result.stdout, result.stderr) == ("1000\nout\n", "err\n")
        sandbox.files.write("theirs", "x")
        assert sandbox.files.get_info("theirs").owner == "user"
        assert (other.home / "theirs").stat().st_uid == 1000
        handle = sandbox.pty.create(PtySize(rows=5, cols=6))
        sandbox.pty.send_stdin(handle.pid, b"stty size > /dev/tty; exit\n")
        seen = b"".join(output or b"" for _, _, output in handle)
        assert b"5 6" in seen
