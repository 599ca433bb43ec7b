"""Commands of sandboxes, through the emulator's data plane."""

import time

import pytest
from e2b import CommandExitException, PtySize, SandboxException, TimeoutException
from tests.component.emulator_world import EmulatorWorld, later, needs_private_places, shared, until, world

__all__ = ["shared", "world"]


@needs_private_places
def test_a_command_says_what_it_has_to_and_how_it_ended(world: EmulatorWorld) -> None:
    sandbox = world.create()
    result = sandbox.commands.run("echo out; echo err >&2; pwd")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n/home/user\n", "err\n", 0)
    with pytest.raises(CommandExitException) as raised:
        sandbox.commands.run("exit 3")
    assert raised.value.exit_code == 3


def test_python_is_found_by_commands(world: EmulatorWorld) -> None:
    assert world.create().commands.run("python -c 'print(6 * 7)'").stdout == "42\n"


def test_a_command_in_the_background_is_written_to_listed_and_killed(world: EmulatorWorld) -> None:
    sandbox = world.create()
    handle = sandbox.commands.run("cat", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "line\n")
    assert handle.pid in [each.pid for each in sandbox.commands.list()]
    again = sandbox.commands.connect(handle.pid)
    assert again.kill() is True
    assert handle.pid not in [each.pid for each in sandbox.commands.list()]


async def test_the_asynchronous_sdk_hears_output_as_it_comes(world: EmulatorWorld) -> None:
    sandbox = await world.acreate()
    moments: list[float] = []
    handle = await sandbox.commands.run(
        "for n in 1 2 3; do echo $n; sleep 0.3; done",
        background=True,
        on_stdout=lambda _: moments.append(time.monotonic()),
    )
    assert (await handle.wait()).stdout == "1\n2\n3\n"
    assert moments[-1] - moments[0] > 0.5
    await sandbox.kill()


def test_a_terminal_works(world: EmulatorWorld) -> None:
    sandbox = world.create()
    seen = bytearray()
    terminal = sandbox.pty.create(PtySize(rows=11, cols=22))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; exit\n")
    terminal.wait(on_pty=seen.extend)
    assert b"11 22" in seen


def test_a_command_outlives_its_listener_but_not_its_time(world: EmulatorWorld) -> None:
    sandbox = world.create()
    handle = sandbox.commands.run("sleep 1; touch done.txt", background=True)
    handle.disconnect()
    until(lambda: sandbox.files.exists("done.txt"))
    with pytest.raises(TimeoutException):
        sandbox.commands.run("sleep 60", timeout=1)


def test_a_sandbox_that_is_killed_ends_its_commands_and_says_so(world: EmulatorWorld) -> None:
    sandbox = world.create()
    with later(0.5, sandbox.kill), pytest.raises(SandboxException):
        sandbox.commands.run("sleep 60")
    with pytest.raises(TimeoutException, match="not found"):
        sandbox.commands.run("true")
