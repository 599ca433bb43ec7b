"""Watching directories, by E2B's SDK: the sync one asks, the async one is told."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from e2b import FileNotFoundException, InvalidArgumentException, NotFoundException, TimeoutException
from e2b.sandbox.filesystem.watch_handle import FilesystemEvent, FilesystemEventType
from tests.component.envd_world import World, envd

CREATE, WRITE = FilesystemEventType.CREATE, FilesystemEventType.WRITE
REMOVE, RENAME, CHMOD = FilesystemEventType.REMOVE, FilesystemEventType.RENAME, FilesystemEventType.CHMOD


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


def kinds(events: list[FilesystemEvent]) -> list[tuple[str, FilesystemEventType]]:
    return [(event.name, event.type) for event in events]


def test_everything_that_happens_is_told_once(world: World) -> None:
    files = world.sandbox().files
    files.make_dir("watched")
    handle = files.watch_dir("watched")
    assert handle.get_new_events() == []
    files.write("watched/a", "1")
    assert kinds(handle.get_new_events()) == [("a", CREATE), ("a", WRITE)]
    files.write("watched/a", "22")
    assert kinds(handle.get_new_events()) == [("a", WRITE)]
    (world.home / "watched/a").chmod(0o700)
    assert kinds(handle.get_new_events()) == [("a", CHMOD)]
    files.rename("watched/a", "watched/b")
    assert kinds(handle.get_new_events()) == [("a", RENAME), ("b", CREATE)]
    files.remove("watched/b")
    assert kinds(handle.get_new_events()) == [("b", REMOVE)]
    files.write("watched/below/c", "x")
    assert kinds(handle.get_new_events()) == [("below", CREATE)]
    assert handle.get_new_events() == []
    handle.stop()
    handle._closed = False
    with pytest.raises(NotFoundException):
        handle.get_new_events()


def test_recursive_watchers_see_below_and_entries_come_along(world: World) -> None:
    files = world.sandbox().files
    files.make_dir("deep/er")
    handle = files.watch_dir("deep", recursive=True, include_entry=True)
    files.write("deep/er/file", "12345")
    events = handle.get_new_events()
    assert ("er/file", CREATE) in kinds(events)
    created = events[0].entry
    assert created is not None
    assert (created.size, created.path) == (5, f"{world.home}/deep/er/file")
    files.rename("deep/er", "deep/moved")
    assert kinds(handle.get_new_events()) == [("er", RENAME), ("moved", CREATE)]
    handle.stop()


def test_only_directories_that_exist_are_watched(world: World) -> None:
    files = world.sandbox().files
    files.write("no directory", "x")
    with pytest.raises(InvalidArgumentException, match="not a directory"):
        files.watch_dir("no directory")
    with pytest.raises(FileNotFoundException):
        files.watch_dir("missing")


def test_watchers_and_unread_events_are_bounded() -> None:
    prelude = "from execpool.executor.runner.agent import watch; watch.MAX_WATCHERS = 3; watch.MAX_EVENTS = 50"
    with envd(prelude=prelude) as world:
        files = world.sandbox().files
        files.make_dir("crowd")
        handles = [files.watch_dir("crowd") for _ in range(3)]
        with pytest.raises(Exception, match="no more are allowed"):
            files.watch_dir("crowd")
        handles[1].stop()
        for number in range(60):
            (world.home / "crowd" / str(number)).touch()
        time.sleep(0.5)
        with pytest.raises(Exception, match="not read in time"):
            handles[0].get_new_events()


async def test_the_async_sdk_is_told_within_a_moment_and_hears_the_end(world: World) -> None:
    files = world.async_sandbox().files
    await files.make_dir("told")
    heard: asyncio.Queue[FilesystemEvent] = asyncio.Queue()
    ended = asyncio.Event()
    handle = await files.watch_dir("told", on_event=heard.put_nowait, on_exit=lambda _error: ended.set(), timeout=0)
    await files.write("told/a", "x")
    async with asyncio.timeout(5):
        event = await heard.get()
    assert (event.name, event.type) == ("a", CREATE)
    await handle.stop()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_watch_ends_with_its_time(world: World) -> None:
    files = world.async_sandbox().files
    await files.make_dir("short")
    ended: asyncio.Queue[BaseException] = asyncio.Queue()
    await files.watch_dir("short", on_event=lambda _event: None, on_exit=ended.put_nowait, timeout=1)
    async with asyncio.timeout(5):
        assert isinstance(await ended.get(), TimeoutException)
