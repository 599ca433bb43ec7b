"""`execpool` as a program: against a gateway in this process, and the secrets that it makes."""

import asyncio
import hashlib
import json
import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from tests.component.gateway_world import SECRET, SOURCE, GatewayWorld, Identity, gateway_world, pool
from tests.component.scripted_executor import FINISH, OK, ScriptedExecutor, chunk, end, scripted, sending

from execpool.api.v1alpha1 import ExecutionKeySpec

EVENTS = (
    b'{"type":"stdout","text":"hello\\n"}',
    b'{"type":"stderr","text":"careful\\n"}',
    b'{"type":"result","text":"42","is_main_result":true}',
    b'{"type":"result","png":"AAAA"}',
)
FAILURE = b'{"type":"error","name":"ValueError","value":"no","traceback":"Traceback: ValueError: no"}'


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


async def execpool(*arguments: str, stdin: str = "", **variables: str) -> Ended:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "COLUMNS": "200", "TERM": "dumb", **variables}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "execpool.cli.main",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def run(world: GatewayWorld, *options: str, key: str = SECRET, stdin: str = "1") -> Ended:
    url = f"http://127.0.0.1:{world.service.port}"
    return await execpool("run", "-", *options, stdin=stdin, EXECPOOL_URL=url, EXECPOOL_KEY=key)


async def test_run_shows_output_and_results_and_ends_well() -> None:
    good = ScriptedExecutor(Identity("good"), script=sending(OK + chunk(*EVENTS, end()) + FINISH))
    async with scripted(good), gateway_world(good.identity) as world:
        ended = await run(
            world, "--pool", "agents", "--user", "ann", "--timeout", "5", "--max-wait", "2", "--tier", "local"
        )
    assert (ended.status, ended.err) == (0, "careful\n")
    assert ended.out == "hello\n42\n<png; --output json shows it>\n"


async def test_run_prints_the_answer_alone_as_json() -> None:
    good = ScriptedExecutor(Identity("good"), script=sending(OK + chunk(*EVENTS, end()) + FINISH))
    async with scripted(good), gateway_world(good.identity) as world:
        ended = await run(world, "--output", "json")
    answer = json.loads(ended.out)
    assert (answer["status"], answer["stdout"], ended.err) == ("Succeeded", "hello\n", "")
    assert "type" not in answer


@pytest.mark.parametrize(
    ("lines", "status", "err"),
    [
        ((FAILURE, end("Failed")), 1, "Traceback: ValueError: no"),
        (
            (end("TimedOut", reason="TimeLimit", message="it ran longer"),),
            3,
            "execpool: TimedOut: TimeLimit it ran longer",
        ),
        ((b"garbage",), 3, "execpool: Unknown: ExecutorMisbehaved"),
    ],
)
async def test_run_ends_as_the_program_did(lines: tuple[bytes, ...], status: int, err: str) -> None:
    one = ScriptedExecutor(Identity("one"), script=sending(OK + chunk(*lines) + FINISH))
    async with scripted(one), gateway_world(one.identity) as world:
        ended = await run(world)
    assert ended.status == status
    assert err in ended.err


async def test_run_prints_a_refusal_as_one_sentence() -> None:
    async with gateway_world(pools=[pool(suspend=True)]) as world:
        suspended = await run(world)
        denied = await run(world, key="ep_wrong")
    assert suspended.status == denied.status == 2
    assert suspended.err == "execpool: PoolSuspended: pool agents is suspended; spec.suspend is true\n"
    assert denied.err == "execpool: Unauthenticated: the execution key is not known\n"


async def test_run_says_when_to_ask_again_also_for_a_refusal_in_the_stream() -> None:
    async with gateway_world() as world:
        at_once = await run(world, "--max-wait", "0")
        later = await run(world, "--max-wait", "0.1")
    assert re.search(r"WaitTooLong: .*\(try again in \d+ s\)", at_once.err)
    assert re.search(r"DeadlinePassed: .*\(try again in \d+ s\)", later.err)
    assert at_once.status == later.status == 2


@pytest.mark.parametrize(
    ("arguments", "variables", "err"),
    [
        (("run", "-"), {}, "no gateway"),
        (("run", "-", "--url", "http://127.0.0.1:9"), {}, "no key"),
        (("run", "absent.py"), {"EXECPOOL_URL": "http://x", "EXECPOOL_KEY": "k"}, "absent.py: No such file"),
        (("run", "-", "--url", "http://127.0.0.1:9"), {"EXECPOOL_KEY": "k"}, "does not answer"),
    ],
)
async def test_run_says_what_is_missing(arguments: tuple[str, ...], variables: dict[str, str], err: str) -> None:
    ended = await execpool(*arguments, **variables)
    assert ended.status == 2
    assert err in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "part",
    [
        b"",
        OK,
        OK + chunk(b'{"type":"accepted","id":"x"}', b'{"type":"started","executor":"e","tier":"t"}'),
        OK + b"zz\r\n",
    ],
    ids=["no answer", "no line", "started", "not HTTP"],
)
async def test_an_answer_that_breaks_off_may_have_run(part: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(part)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ended = await execpool("run", "-", "--url", url, "--key", "k", stdin="1")
    server.close()
    assert ended.status == 3
    assert "the code may have run" in ended.err


async def test_a_new_key_is_shown_once_and_its_manifest_holds_only_its_hash() -> None:
    ended = await execpool(
        "key", "create", "--tenant", "acme", "-n", "team", "--pool", "b", "--pool", "a", "--expires", "30d"
    )
    manifest = yaml.safe_load(ended.out)
    key = ended.err.split()[-1]
    assert re.fullmatch(r"ep_team_[\w-]{43}", key)
    assert key not in ended.out
    spec = ExecutionKeySpec.model_validate(manifest["spec"])
    assert spec.key_hash == hashlib.sha256(key.encode()).hexdigest()
    assert (spec.tenant, spec.pools) == ("acme", ["a", "b"])
    assert spec.expires_at is not None
    assert manifest["metadata"]["namespace"] == "team"
    assert manifest["metadata"]["name"] == f"acme-{spec.key_hash[:8]}"


async def test_a_new_key_can_go_to_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "key"
    arguments = ("key", "create", "--tenant", "acme", "--output", "json", "--secret-file", str(file))
    ended = await execpool(*arguments)
    key = file.read_text().strip()
    assert json.loads(ended.out)["spec"]["keyHash"] == hashlib.sha256(key.encode()).hexdigest()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert key not in ended.out + ended.err
    again = await execpool(*arguments)
    assert (again.status, file.read_text().strip()) == (2, key)
    assert "name another file, or remove it" in " ".join(again.err.replace("│", " ").split())


async def test_a_new_key_for_a_shell_leaves_its_manifest_on_stderr() -> None:
    ended = await execpool("key", "create", "--tenant", "acme", "--output", "env")
    key = ended.out.strip().removeprefix("export EXECPOOL_KEY=")
    assert yaml.safe_load(ended.err)["spec"]["keyHash"] == hashlib.sha256(key.encode()).hexdigest()


@pytest.mark.parametrize(
    "arguments", [("--tenant", "Not A Name"), ("--tenant", "a", "--expires", "soon"), ("--tenant", "a", "--pool", "_")]
)
async def test_a_key_that_the_api_server_would_refuse_is_not_made(arguments: tuple[str, ...]) -> None:
    ended = await execpool("key", "create", *arguments)
    assert (ended.status, ended.out) == (2, "")


async def test_a_wrong_tenant_is_told_the_rule() -> None:
    ended = await execpool("key", "create", "--tenant", "Not A Name")
    assert "lower-case letters, digits and dashes, at most 63" in " ".join(ended.err.replace("│", " ").split())


async def test_a_root_key_is_a_secret_that_settings_accept(tmp_path: Path) -> None:
    from execpool.settings import GatewaySettings

    ended = await execpool("root-key", "create")
    manifest = yaml.safe_load(ended.out)
    assert manifest["metadata"] == {"name": "execpool-root-key", "namespace": "execpool-system"}
    (tmp_path / "current").write_text(manifest["stringData"]["current"])
    assert len(GatewaySettings(root_key_dir=tmp_path).key_ring().current.material) == 32


async def test_the_command_starts_without_the_control_plane() -> None:
    probe = "import sys, execpool.cli.main; print([m for m in ('kubernetes', 'kopf', 'starlette', 'uvicorn') if m in sys.modules])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", probe, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)}, stdout=asyncio.subprocess.PIPE
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"


async def test_version_is_printed() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", (await execpool("version")).out)
