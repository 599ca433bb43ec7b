"""Looking at and moving files and directories, by E2B's SDK."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2b import FileNotFoundException, InvalidArgumentException, SandboxException
from e2b.sandbox.filesystem.filesystem import FileType
from tests.component.envd_world import World, envd


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


def test_list_shows_one_level_sorted_and_more_when_asked(world: World) -> None:
    files = world.sandbox().files
    files.write_files([{"path": f"listed/{name}", "data": name} for name in ("b", "a", "d/e", "d/f/g")])
    shallow = files.list("listed")
    assert [(entry.name, entry.type) for entry in shallow] == [
        ("a", FileType.FILE),
        ("b", FileType.FILE),
        ("d", FileType.DIR),
    ]
    deep = files.list("listed", depth=3)
    assert [entry.path.removeprefix(f"{world.home}/listed/") for entry in deep] == [
        "a",
        "b",
        "d",
        "d/e",
        "d/f",
        "d/f/g",
    ]


def test_list_of_thousands_comes_whole(world: World) -> None:
    (world.home / "thousands").mkdir()
    for number in range(3000):
        (world.home / "thousands" / f"{number:04}-{'x' * 200}").touch()
    assert len(world.sandbox().files.list("thousands")) == 3000


def test_list_refuses_what_is_no_directory(world: World) -> None:
    files = world.sandbox().files
    files.write("plain", "x")
    with pytest.raises(InvalidArgumentException, match="path is not a directory"):
        files.list("plain")
    with pytest.raises(FileNotFoundException):
        files.list("missing")


def test_info_describes_a_file_and_a_directory(world: World) -> None:
    files = world.sandbox().files
    files.write("described", "12345")
    info = files.get_info("described")
    assert (info.name, info.type, info.size, info.mode) == ("described", FileType.FILE, 5, 0o644)
    assert (info.permissions, info.owner, info.group) == ("-rw-r--r--", "user", "user")
    assert info.modified_time.timestamp() == pytest.approx((world.home / "described").stat().st_mtime, abs=1e-3)
    assert files.get_info("~").type is FileType.DIR
    with pytest.raises(FileNotFoundException):
        files.get_info("missing")


def test_links_are_shown_as_links_and_where_they_lead(world: World) -> None:
    files = world.sandbox().files
    files.write("target", "x")
    (world.home / "link").symlink_to("target")
    (world.home / "broken").symlink_to("nowhere")
    (world.home / "cycle").symlink_to("cycle")
    info = files.get_info("link")
    assert (info.type, info.symlink_target) == (FileType.SYMLINK, f"{world.home}/target")
    assert files.exists("broken")
    assert {entry.name for entry in files.list(".")} >= {"link", "broken", "cycle"}


def test_exists(world: World) -> None:
    files = world.sandbox().files
    files.write("there", "x")
    assert files.exists("there")
    assert not files.exists("not there")
    assert not files.exists("there/below")
    assert files.exists("/tmp")


def test_make_dir_makes_parents_and_says_whether_it_did(world: World) -> None:
    files = world.sandbox().files
    assert files.make_dir("made/in/depth")
    assert not files.make_dir("made/in/depth")
    files.write("made/file", "x")
    with pytest.raises(InvalidArgumentException):
        files.make_dir("made/file")


def test_rename_moves_a_tree_and_makes_parents(world: World) -> None:
    files = world.sandbox().files
    files.write("old/a/b", "x")
    info = files.rename("old", "new/place")
    assert (info.name, info.type) == ("place", FileType.DIR)
    assert files.read("new/place/a/b") == "x"
    assert not files.exists("old")
    with pytest.raises(FileNotFoundException):
        files.rename("missing", "elsewhere/x")
    assert not files.exists("elsewhere")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="a second file system is needed")
def test_rename_between_file_systems_copies(world: World) -> None:
    files = world.sandbox().files
    elsewhere = f"/dev/shm/{world.home.name}"
    files.write("crossing/a/b", "x" * 100_000)
    (world.home / "crossing/link").symlink_to("a/b")
    (world.home / "crossing/a/b").chmod(0o700)
    try:
        files.rename("crossing", elsewhere)
        assert not files.exists("crossing")
        assert files.read(f"{elsewhere}/link") == "x" * 100_000
        assert files.get_info(f"{elsewhere}/a/b").mode == 0o700
    finally:
        files.remove(elsewhere)
    assert not files.exists(elsewhere)


def test_remove_takes_files_trees_and_what_is_not_there(world: World) -> None:
    files = world.sandbox().files
    files.write("gone/a/b", "x")
    files.write("kept", "x")
    (world.home / "gone/link").symlink_to(world.home / "kept")
    files.remove("gone")
    files.remove("gone")
    assert not files.exists("gone")
    assert files.read("kept") == "x"
    (world.home / "link").unlink(missing_ok=True)
    (world.home / "link").symlink_to("kept")
    files.remove("link")
    assert files.exists("kept")


def test_a_user_of_ones_own_is_refused(world: World) -> None:
    with pytest.raises(Exception, match="unknown user nobody"):
        world.sandbox().files.list(".", user="nobody")


def test_what_may_not_be_is_an_error_of_the_sdk(world: World) -> None:
    with pytest.raises(SandboxException):
        world.sandbox().files.make_dir("/proc/nothing/here")
