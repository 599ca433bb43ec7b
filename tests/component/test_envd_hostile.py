"""What envd does with those who mean harm: callers without the token, odd paths and requests, trees that trap."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from e2b import SandboxException
from tests.component.envd_world import TOKEN, World, envd, envelope, messages

from execpool.executor import agent_wire
from execpool.executor.server.envd import codec
from execpool.protocol import HEADER_EPOCH, HEADER_TOKEN


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


@pytest.mark.parametrize(
    "headers", [{"X-Access-Token": ""}, {"X-Access-Token": "guess"}, {HEADER_TOKEN: "guess", HEADER_EPOCH: "1"}]
)
@pytest.mark.parametrize("path", ["/files", "/envs", "/init", "/process.Process/List", "/filesystem.Filesystem/Stat"])
def test_nothing_is_done_without_the_token(world: World, headers: dict[str, str], path: str) -> None:
    status, body, _ = world.request("GET" if path in ("/files", "/envs") else "POST", path, b"{}", headers)
    assert status == 401
    assert json.loads(body)["code"] == 401


def test_the_gateways_token_is_fenced_by_the_epoch(world: World) -> None:
    ours = {"X-Access-Token": "", HEADER_TOKEN: TOKEN}
    assert world.request("GET", "/envs", headers={**ours, HEADER_EPOCH: "1"})[0] == 200
    assert world.request("GET", "/envs", headers={**ours, HEADER_EPOCH: "0"})[0] == 412
    assert world.request("GET", "/envs", headers={**ours, HEADER_EPOCH: "x"})[0] == 412


def test_a_path_leads_nowhere_that_a_command_could_not_go(world: World) -> None:
    files, commands = world.sandbox().files, world.sandbox().commands
    for path in ("/../../../etc/passwd", "../../../../../../etc/passwd", "/etc/passwd"):
        assert files.read(path) == commands.run("cat /etc/passwd").stdout


def test_links_out_of_a_tree_are_not_followed_by_list_and_remove(world: World) -> None:
    files = world.sandbox().files
    files.write("treasure/kept", "x")
    files.make_dir("trap/below")
    (world.home / "trap/out").symlink_to(world.home / "treasure")
    (world.home / "trap/below/root").symlink_to("/")
    assert [entry.name for entry in files.list("trap", depth=50)] == ["below", "root", "out"]
    files.remove("trap")
    assert files.read("treasure/kept") == "x"


@pytest.mark.parametrize("make", ["mkfifo it", "rm -f it; ln -s /dev/zero it", "rm -f it; ln -s /proc/self/mem it"])
def test_what_is_no_regular_file_does_not_hold_the_agent(world: World, make: str) -> None:
    sandbox = world.sandbox()
    sandbox.commands.run(f"rm -rf odd; mkdir odd; cd odd; {make}")
    began = time.monotonic()
    for attempt in (lambda: sandbox.files.read("odd/it"), lambda: sandbox.files.write("odd/it", "x")):
        with suppress(SandboxException):
            attempt()
    assert sandbox.files.exists("odd")
    assert time.monotonic() - began < 3


def test_proc_files_end(world: World) -> None:
    assert world.sandbox().files.read("/proc/self/environ") == ""
    assert world.sandbox().files.read("/proc/cpuinfo") == ""


@pytest.mark.parametrize("path", ["x" * 300, "x/" * 3000, "a\0b", "~nobody/x"])
def test_odd_paths_are_errors_and_nothing_else(world: World, path: str) -> None:
    for method in ("Stat", "ListDir", "MakeDir", "CreateWatcher"):
        status, body = world.call(f"filesystem.Filesystem/{method}", {"path": path})
        assert (status, body["code"]) == (400, "invalid_argument")
    assert world.request("GET", "/files", path=path)[0] == 400
    assert world.request("POST", "/files", b"x", {"Content-Type": "application/octet-stream"}, path=path)[0] == 400


def test_a_path_of_two_thousand_directories(world: World) -> None:
    path = "p/" * 1900
    assert world.sandbox().files.make_dir(path)
    assert world.sandbox().files.write(path + "file", "x").name == "file"
    assert len(world.sandbox().files.list("p", depth=5000)) == 1900
    world.sandbox().files.rename("p", "q")
    world.sandbox().files.remove("q")


def test_names_that_are_no_text_are_listed_all_the_same(world: World) -> None:
    directory = os.fsencode(world.home / "bytes")
    (world.home / "bytes").mkdir()
    for name in (b"\xff\xfe", b"new\nline", b"tab\t\x01", "ü".encode()):
        os.close(os.open(directory + b"/" + name, os.O_CREAT))
    assert {entry.name for entry in world.sandbox().files.list("bytes")} == {"��", "new\nline", "tab\t\x01", "ü"}
    world.sandbox().files.remove("bytes")


def test_a_tree_deeper_than_a_path_is_removed(world: World) -> None:
    script = "import os\nos.makedirs('deep')\nos.chdir('deep')\nfor i in range(3000):\n os.mkdir('d')\n os.chdir('d')\n"
    world.sandbox().files.write("dig.py", script)
    world.sandbox().commands.run(f"{Path(os.sys.executable)} dig.py")  # type: ignore[attr-defined]
    world.sandbox().files.remove("deep")
    assert not (world.home / "deep").exists()


def test_a_tree_without_rights_is_removed(world: World) -> None:
    world.sandbox().commands.run("mkdir -p shut/in/side; touch shut/in/file; chmod 0 shut/in/side shut/in shut")
    world.sandbox().files.remove("shut")
    assert not (world.home / "shut").exists()


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 400, "invalid_argument"),
        (b"[1]", {}, 400, "invalid_argument"),
        (b"\xff", {}, 400, "invalid_argument"),
        (b'{"path": 5}', {}, 400, "invalid_argument"),
        (b'{"path": {"a": "b"}}', {}, 400, "invalid_argument"),
        (b"{}", {"Content-Encoding": "gzip"}, 501, "unimplemented"),
        (b"{}", {"Connect-Timeout-Ms": "soon"}, 400, "invalid_argument"),
        (b" " * (codec.MAX_MESSAGE_BYTES + 1), {}, 400, "out_of_range"),
    ],
)
def test_odd_unary_calls(world: World, body: bytes, headers: dict[str, str], status: int, code: str) -> None:
    found, answer = world.call("filesystem.Filesystem/Stat", body, **headers)
    assert (found, answer["code"]) == (status, code)


@pytest.mark.parametrize(
    ("stream", "headers", "code"),
    [
        (b"", {}, "invalid_argument"),
        (envelope({}) * 2, {}, "invalid_argument"),
        (envelope({})[:-1], {}, "invalid_argument"),
        (envelope({}, flags=1), {}, "internal"),
        (envelope({}, flags=2), {}, "invalid_argument"),
        (b"\x00\xff\xff\xff\xff", {}, "resource_exhausted"),
        (envelope({}), {"Connect-Content-Encoding": "gzip"}, "unimplemented"),
        (envelope({"process": {"cmd": 1}}), {}, "invalid_argument"),
        (envelope({"process": {"cmd": ""}}), {}, "invalid_argument"),
        (envelope({"process": {"cmd": "/bin/true", "envs": {"a=b": "c"}}}), {}, "invalid_argument"),
        (envelope({"process": {"cmd": "/bin/true", "args": ["x" * 200_000]}}), {}, "invalid_argument"),
        (envelope({"process": {"cmd": "/bin/true"}, "pty": {"size": {"cols": -1}}}), {}, "invalid_argument"),
    ],
)
def test_odd_streams_end_with_an_error(world: World, stream: bytes, headers: dict[str, str], code: str) -> None:
    status, answer = world.stream("process.Process/Start", stream, **headers)
    ((flags, end),) = messages(answer)
    assert (status, flags, end["error"]["code"]) == (200, 2, code)


def test_other_content_types_and_paths_are_refused(world: World) -> None:
    kinds = {"Content-Type": "application/proto"}
    assert world.request("POST", "/process.Process/List", b"", kinds)[0] == 415
    assert world.request("POST", "/process.Process/Start", b"", kinds)[0] == 415
    assert world.request("POST", "/process.Process/Unknown", b"{}")[0] == 404
    assert world.request("GET", "/process.Process/List")[0] == 404
    assert world.request("GET", "/..%2f..%2fetc/passwd")[0] == 404


@pytest.mark.parametrize("path", ["/files", "/envs", "/health"])
def test_a_query_of_many_fields_is_no_fault_of_ours(world: World, path: str) -> None:
    query = {f"field{number}": "x" for number in range(100)}
    assert world.request("GET", path, headers={"X-Access-Token": ""}, **query)[0] in (204, 400, 401)


@pytest.mark.parametrize("signal", [[], {}, 1.5])
def test_a_signal_of_another_form_is_refused(world: World, signal: object) -> None:
    handle = world.sandbox().commands.run("sleep 60", background=True)
    message = {"process": {"pid": handle.pid}, "signal": signal}
    status, answer = world.call("process.Process/SendSignal", message)
    assert (status, answer["code"]) == (400, "invalid_argument")
    assert handle.kill()


def test_a_fault_of_ours_is_told_as_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert world.envd is not None
    monkeypatch.setattr(world.envd, "_files", None)
    status, body, _ = world.request("GET", "/files", path="x")
    assert (status, json.loads(body)["code"]) == (500, 500)


def test_init_is_not_there_for_clients(world: World) -> None:
    assert world.request("POST", "/init", b'{"envVars": {"A": "1"}}')[0] == 404
    assert world.request("GET", "/envs")[1] == b"{}"


@pytest.mark.parametrize(
    "variables",
    [{"A=B": "c"}, {"": "c"}, {"A": "\0"}, {"A": "x" * 70_000}, {f"A{number}": "" for number in range(2000)}, {"A": 1}],
)
def test_no_environment_is_taken_that_nothing_could_start_with(world: World, variables: dict[str, object]) -> None:
    ours = {"X-Access-Token": "", HEADER_TOKEN: TOKEN, HEADER_EPOCH: "1"}
    assert world.request("POST", "/init", json.dumps({"envVars": variables}).encode(), ours)[0] == 400
    assert world.request("GET", "/envs")[1] == b"{}"


@pytest.mark.parametrize("side", ["server", "agent"])
def test_a_listing_is_bounded_in_bytes(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered = "from execpool.executor import agent_wire; agent_wire.MAX_LISTING_BYTES = 100_000"
    if side == "server":
        monkeypatch.setattr(agent_wire, "MAX_LISTING_BYTES", 100_000)
    with envd(prelude=lowered if side == "agent" else "pass") as world:
        for number in range(400):
            (world.home / f"{number:03}{'x' * 200}").touch()
        status, answer = world.call("filesystem.Filesystem/ListDir", {"path": "."})
        assert (status, answer["code"]) == (429, "resource_exhausted")
        assert len(world.agents) == 1
        (world.home / "few/below").mkdir(parents=True)
        assert len(world.call("filesystem.Filesystem/ListDir", {"path": "few"})[1]["entries"]) == 1
