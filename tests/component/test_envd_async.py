"""What the async SDK does in its own way: streams, callbacks, cancellation, many at once."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from e2b import CommandExitException, FileNotFoundException, NotFoundException, TimeoutException
from tests.component.envd_world import World, envd


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


async def test_files(world: World) -> None:
    files = world.async_sandbox().files
    assert (await files.write("a/b", "x")).name == "b"
    assert await files.read("a/b") == "x"
    assert [entry.name for entry in await files.list("a")] == ["b"]
    assert await files.exists("a/b")
    assert (await files.rename("a/b", "a/c")).path == f"{world.home}/a/c"
    assert not await files.make_dir("a")
    await files.remove("a")
    with pytest.raises(FileNotFoundException):
        await files.get_info("a")


async def test_streams_in_both_directions(world: World) -> None:
    files = world.async_sandbox().files

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(100):
            yield f"{number:07}\n".encode() * 1000

    await files.write("streamed", chunks())
    size = 0
    async for chunk in await files.read("streamed", format="stream"):
        size += len(chunk)
    assert size == 800_000


async def test_a_command_with_input_and_callbacks(world: World) -> None:
    commands = world.async_sandbox().commands
    heard: list[str] = []
    handle = await commands.run("read a; echo got $a", background=True, stdin=True, on_stdout=heard.append)
    await commands.send_stdin(handle.pid, "it\n")
    assert (await handle.wait()).stdout == "got it\n"
    assert "".join(heard) == "got it\n"


async def test_connect_list_kill(world: World) -> None:
    commands = world.async_sandbox().commands
    handle = await commands.run("sleep 66", background=True, timeout=0)
    assert handle.pid in {info.pid for info in await commands.list()}
    again = await world.async_sandbox().commands.connect(handle.pid)
    assert await commands.kill(handle.pid)
    for ending in (handle, again):
        with pytest.raises(CommandExitException) as caught:
            await ending.wait()
        assert caught.value.error == "signal: killed"
    assert not await commands.kill(handle.pid)
    with pytest.raises(NotFoundException):
        await commands.connect(handle.pid)


async def test_time_limits_and_exit_codes(world: World) -> None:
    commands = world.async_sandbox().commands
    with pytest.raises(TimeoutException):
        await commands.run("sleep 67", timeout=0.5)
    with pytest.raises(CommandExitException) as caught:
        await commands.run("exit 4")
    assert caught.value.exit_code == 4


async def test_fifty_commands_and_fifty_files_at_once(world: World) -> None:
    sandbox = world.async_sandbox()
    commands = [sandbox.commands.run(f"sleep 0.2; echo {number}") for number in range(50)]
    writes = [sandbox.files.write(f"at-once/{number}", "x" * 100_000) for number in range(50)]
    results = await asyncio.gather(*commands, *writes)
    assert [result.stdout for result in results[:50]] == [f"{number}\n" for number in range(50)]
    assert len(await sandbox.files.list("at-once")) == 50
