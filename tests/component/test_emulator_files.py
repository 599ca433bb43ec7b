"""Files of sandboxes, through the emulator's data plane."""

import io
import time
import urllib.error
import urllib.request

import pytest
from e2b import FileNotFoundException, FileType
from tests.component.emulator_world import EmulatorWorld, needs_private_places, shared, world

__all__ = ["shared", "world"]


@needs_private_places
def test_files_are_written_read_listed_and_removed(world: EmulatorWorld) -> None:
    files = world.create().files
    files.write("/home/user/folder/a.txt", "text")
    files.write("b.bin", bytes(range(256)))
    assert files.read("folder/a.txt") == "text"
    assert files.read("/home/user/b.bin", format="bytes") == bytes(range(256))
    assert {entry.name: entry.type for entry in files.list("/home/user") if not entry.name.startswith(".")} == {
        "folder": FileType.DIR,
        "b.bin": FileType.FILE,
    }
    assert files.make_dir("folder") is False
    files.rename("b.bin", "c.bin")
    assert files.get_info("c.bin").size == 256
    files.remove("folder")
    assert not files.exists("folder/a.txt")
    with pytest.raises(FileNotFoundException):
        files.read("folder/a.txt")


async def test_the_asynchronous_sdk_streams_both_ways(world: EmulatorWorld) -> None:
    sandbox = await world.acreate()
    content = bytes(1 << 20) * 8
    await sandbox.files.write("big.bin", io.BytesIO(content))
    stream = await sandbox.files.read("big.bin", format="stream")
    assert sum([len(part) async for part in stream]) == len(content)
    await sandbox.kill()


@needs_private_places
def test_code_sees_the_files_and_files_what_code_wrote(world: EmulatorWorld) -> None:
    sandbox = world.create()
    sandbox.files.write("/tmp/in.csv", "a,b\n1,2\n")
    run = sandbox.run_code(
        "import pandas as pd\ndf = pd.read_csv('/tmp/in.csv')\ndf.to_csv('/home/user/out.csv')\nint(df.b[0])"
    )
    assert run.text == "2"
    assert sandbox.files.read("out.csv").endswith("0,1,2\n")


def test_changes_can_be_watched(world: EmulatorWorld) -> None:
    files = world.create().files
    files.make_dir("seen")
    watch = files.watch_dir("seen")
    files.write("seen/new.txt", "x")
    time.sleep(0.5)
    assert "new.txt" in {event.name for event in watch.get_new_events()}
    watch.stop()


def test_a_wrong_token_is_refused(world: EmulatorWorld) -> None:
    sandbox = world.create()
    sandbox.files.write("a.txt", "x")
    reply = world.rest(
        "GET",
        "/files?path=a.txt",
        key=None,
        headers={"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983", "X-Access-Token": "wrong"},
    )
    assert (reply.status, reply.json()["code"]) == (401, 401)
    none = world.rest(
        "POST",
        "/process.Process/List",
        {},
        key=None,
        headers={"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"},
    )
    assert none.status == 401


def test_a_signed_url_finds_its_sandbox_among_all_and_no_other_path(world: EmulatorWorld) -> None:
    sandboxes = [world.create(template="base") for _ in range(3)]
    for number, sandbox in enumerate(sandboxes):
        sandbox.files.write("mine.txt", str(number))
    urls = [sandbox.download_url("mine.txt", use_signature_expiration=60) for sandbox in sandboxes]
    assert [urllib.request.urlopen(url).read() for url in urls] == [b"0", b"1", b"2"]
    for broken in (urls[0].replace("mine", "other"), urls[0].replace("signature=v1_", "signature=v1_x")):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(broken).read()


def test_a_signed_url_ends_with_its_time(world: EmulatorWorld) -> None:
    sandbox = world.create(template="base")
    sandbox.files.write("a.txt", "x")
    url = sandbox.download_url("a.txt", use_signature_expiration=1)
    assert urllib.request.urlopen(url).read() == b"x"
    time.sleep(2.1)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url)
