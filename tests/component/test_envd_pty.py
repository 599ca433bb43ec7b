"""Terminals, by E2B's SDK."""

import time
from collections.abc import Iterator

import pytest
from e2b import PtySize, SandboxException
from e2b.sandbox_sync.commands.command_handle import CommandHandle
from tests.component.envd_world import World, envd


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


def read_until(handle: CommandHandle, wanted: bytes) -> bytes:
    seen = b""
    for _, _, output in handle:
        seen += output or b""
        if wanted in seen:
            return seen
    raise AssertionError(f"the terminal ended before {wanted!r}: {seen!r}")


def test_a_shell_with_a_terminal_of_its_size(world: World) -> None:
    pty = world.sandbox().pty
    handle = pty.create(PtySize(rows=33, cols=77), envs={"PS1": "> "})
    pty.send_stdin(handle.pid, b"stty size; test -t 0 && echo is-a-$((1+0))-tty\n")
    seen = read_until(handle, b"is-a-1-tty")
    assert b"33 77" in seen
    pty.resize(handle.pid, PtySize(rows=10, cols=20))
    pty.send_stdin(handle.pid, b"stty size; echo done-$((1+1))\n")
    assert b"10 20" in read_until(handle, b"done-2")
    pty.send_stdin(handle.pid, b"exit 3\n")
    with pytest.raises(Exception, match="3"):
        handle.wait()


def test_control_c_interrupts_what_runs(world: World) -> None:
    pty = world.sandbox().pty
    handle = pty.create(PtySize(rows=24, cols=80))
    pty.send_stdin(handle.pid, b"sh -c 'echo go-$((1+0)); exec sleep 30'\n")
    read_until(handle, b"go-1")
    began = time.monotonic()
    pty.send_stdin(handle.pid, b"\x03")
    read_until(handle, b"^C")
    time.sleep(0.3)  # and drops what was typed ahead
    pty.send_stdin(handle.pid, b"echo back-$((1+0))\n")
    read_until(handle, b"back-1")
    assert time.monotonic() - began < 5
    assert pty.kill(handle.pid)


def test_a_terminal_takes_no_stdin_and_pipes_take_no_terminal(world: World) -> None:
    sandbox = world.sandbox()
    handle = sandbox.pty.create(PtySize(rows=24, cols=80))
    with pytest.raises(SandboxException, match="write to the pty"):
        sandbox.commands.send_stdin(handle.pid, "x")
    with pytest.raises(SandboxException, match="cannot close stdin for PTY"):
        sandbox.commands.close_stdin(handle.pid)
    assert handle.kill()
    plain = sandbox.commands.run("sleep 30", background=True)
    with pytest.raises(SandboxException, match="tty not assigned"):
        sandbox.pty.send_stdin(plain.pid, b"x")
    with pytest.raises(SandboxException, match="tty not assigned"):
        sandbox.pty.resize(plain.pid, PtySize(rows=1, cols=1))
    assert plain.kill()


def test_a_terminal_can_be_left_and_taken_up_again(world: World) -> None:
    pty = world.sandbox().pty
    handle = pty.create(PtySize(rows=24, cols=80), timeout=0)
    pty.send_stdin(handle.pid, b"VALUE=kept; echo ready-$((1+0))\n")
    read_until(handle, b"ready-1")
    handle.disconnect()
    again = world.sandbox().pty.connect(handle.pid)
    pty.send_stdin(handle.pid, b"echo it-was-$VALUE\n")
    read_until(again, b"it-was-kept")
    assert again.kill()


async def test_the_async_sdk(world: World) -> None:
    sandbox = world.async_sandbox()
    heard = bytearray()
    handle = await sandbox.pty.create(PtySize(rows=24, cols=80), on_data=heard.extend)
    await sandbox.pty.send_stdin(handle.pid, b"echo async-$((1+0)); exit\n")
    await handle.wait()
    assert b"async-1" in heard
