"""`execpool dev`: the same pool, gateway and planner without a cluster and without root, and nothing left when it ends."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest
from tests.component.dev_world import NOBODY, POOL, command, dev, execpool, written
from tests.component.watching import is_running, until

from execpool.providers.process_tree import members

SPY = """
import os, socket
def tried(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return "done"
print(tried(lambda: open("/proc/{pid}/environ").read()))
print(tried(lambda: os.listdir(os.path.expanduser("~{user}"))))
print(tried(lambda: os.listdir("{directory}")))
print(tried(lambda: socket.create_connection(("127.0.0.1", {port}))))
"""
REFUSING = POOL.replace(
    "spec:", "spec:\n  budgets: [{name: one, resource: Concurrency, limit: 1, onExhausted: Refuse}]"
)


async def test_what_it_prints_is_enough_to_run_a_file_for_anybody():
    async with dev() as served:
        reached = {"EXECPOOL_URL": served.ready["url"], "EXECPOOL_KEY": served.ready["key"]}
        assert served.ready["url"].startswith("http://127.0.0.1:")
        ran = await execpool(
            "run", "-", "--user", "ada", stdin="import pandas\nprint('hello')\nsum(range(10))", **reached
        )
        assert (ran.status, ran.out, ran.err) == (0, "hello\n45\n", "")


async def test_two_users_have_two_executors_and_one_user_has_one():
    async with dev() as served:
        answers = await asyncio.gather(*(served.run("1", user=user) for user in ("ada", "bob", "ada")))
        ada, bob, again = (answer["route"]["executor"] for answer in answers)
        assert (ada == again, ada != bob) == (True, True)


async def test_it_shows_tiers_with_the_lowest_rank_and_says_what_a_cluster_would_add():
    async with dev() as served:
        (tier,) = served.ready["tiers"]
        assert (tier["pool"], tier["name"], tier["warm"], tier["wanted"], tier["max"]) == ("agents", "local", 2, 2, 4)
        assert tier["isolation"] == "Interpreter"
        said = " ".join(served.ready["lacks"])
        assert all(word in said for word in ("No container", "No memory limit of all", "No NetworkPolicy"))
        status, refused = await served.post("1", minIsolation="Container")
        assert (status, refused["reason"]) == (400, "UnsupportedOption")


async def test_a_program_reaches_neither_the_command_nor_home_nor_other_executors_nor_the_network():
    async with dev() as served:
        user = "root" if os.geteuid() == 0 else ""
        spy = SPY.format(
            pid=served.process.pid, user=user, directory=served.directory(), port=served.ready["url"].rpartition(":")[2]
        )
        answer = await served.run(spy)
        assert answer["stdout"].split() == ["PermissionError"] * 3 + ["OSError"], answer


async def test_budgets_of_the_file_hold():
    async with dev(REFUSING) as served:
        running = asyncio.create_task(served.post("import time; time.sleep(60)"))
        await served.next(lambda event: event.get("claimed") == 1)
        status, refused = await served.post("1")
        assert (status, refused["reason"]) == (429, "BudgetExhausted")
        await served.end(signal.SIGINT)
        await running


async def test_an_executor_that_dies_is_replaced():
    async with dev() as served:
        held = await served.run("1", user="ada")
        await served.next(lambda event: event.get("claimed") == 1)
        (server,) = [pid for pid in served.pids() if _is_server_of_a_claim(pid)]
        os.kill(server, signal.SIGKILL)
        await served.next(lambda event: event.get("claimed") == 0 and event.get("warm") == 2)
        after = await served.run("1", user="ada")
        assert after["route"]["executor"] != held["route"]["executor"]


def _is_server_of_a_claim(pid: int) -> bool:
    """True for the server of an executor that has been claimed: its marker is in its state directory."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        return name == "execpool-server" and any((Path(f"/proc/{pid}/cwd") / "state").iterdir())
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
async def test_when_told_to_end_it_leaves_no_process_and_no_directory(number: signal.Signals):
    async with dev() as served:
        running = asyncio.create_task(served.post("import time; time.sleep(60)"))
        await served.next(lambda event: event.get("claimed") == 1)
        pids, directory = served.pids(), served.directory()
        assert len(pids) > 6
        assert await served.end(number) == 0
        assert not directory.exists()
        assert [pid for pid in pids if is_running(pid)] == []
        status, answer = await running
        assert (status, answer["status"]) == (200, "Cancelled")


async def test_when_told_to_end_while_it_starts_it_leaves_nothing_either():
    process = await asyncio.create_subprocess_exec(
        *command("dev", "--port", "0", "--output", "json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline())["event"] == "step"
        pids = members([process.pid])
        process.send_signal(signal.SIGTERM)
        out, err = await process.communicate()
    assert (process.returncode, err, json.loads(out.splitlines()[-1])["event"]) == (0, b"", "ended")
    assert [pid for pid in pids if is_running(pid)] == []


async def test_nothing_outlives_it_when_it_is_killed_and_the_next_start_cleans_up():
    async with dev() as served:
        await served.run("1", user="ada")
        running = asyncio.create_task(served.post("import subprocess; subprocess.run(['sleep', '60'])"))
        await served.next(lambda event: event.get("claimed") == 2)
        pids, directory = served.pids(), served.directory()
        assert await served.end(signal.SIGKILL) == -signal.SIGKILL
        await until(lambda: not any(map(is_running, pids)), 20)
        await asyncio.gather(running, return_exceptions=True)
    assert directory.exists()
    async with dev() as served:
        assert not directory.exists()


async def test_it_works_without_root():
    async with dev(uid=NOBODY) as served:
        answer = await served.run("import os\nprint(os.getuid(), sum(range(10)))", user="ada")
        uid, result = answer["stdout"].split()
        assert (int(uid) != 0, result) == (True, "45")
        assert await served.end(signal.SIGINT) == 0


@pytest.mark.parametrize(("program", "status"), [("print('hello')", 0), ("1/0", 1)], ids=["ends well", "raises"])
async def test_run_serves_one_program_and_ends_as_it_did(tmp_path: Path, program: str, status: int):
    file = tmp_path / "program.py"
    file.write_text(program)
    ended = await execpool("dev", "--port", "0", "--run", str(file))
    assert ended.status == status
    assert ended.out == ("hello\n" if status == 0 else "")
    assert "the gateway serves the default pool at http://127.0.0.1:" in ended.err


async def test_for_a_person_it_says_where_and_with_which_key():
    with written(POOL) as file:
        process = await asyncio.create_subprocess_exec(
            *command("dev", "--file", str(file), "--port", "0"), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        lines = []
        async with asyncio.timeout(60):
            while not (lines and lines[-1].startswith("ready after")):
                lines.append((await process.stdout.readline()).decode())
        process.send_signal(signal.SIGINT)
        rest = (await process.communicate())[0].decode()
    text = "".join(lines)
    assert "agents/local  pods  2/2   4    Interpreter" in text
    assert "export EXECPOOL_URL=http://127.0.0.1:" in text
    assert "EXECPOOL_KEY=ep_agents_" in text
    assert rest.endswith("ended: SIGINT\n")


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        ("max: 4", "max: 0", "spec.tiers[0].pods.max is 0: it should be greater than or equal to 1"),
        ("max: 4", "max: four", "spec.tiers[0].pods.max is 'four': it should be a valid integer"),
        ("max: 4", "maks: 4", "spec.tiers[0].pods.maks is no field of this release; did you mean max?"),
        ("max: 4", "max: 4, network: Egress", "spec.tiers[0].pods.network is 'Egress': no NetworkPolicy"),
        ("max: 4", "max: 4, runtimeClassName: gvisor", "spec.tiers[0].pods.runtimeClassName is 'gvisor'"),
        ("kind: ExecutionPool", "kind: Deployment", "kind is 'Deployment'; `execpool dev` runs"),
        ("spec:", "spec: [", "this is not YAML"),
    ],
)
async def test_what_is_wrong_with_a_file_is_said_before_anything_starts(was: str, becomes: str, sentence: str):
    with written(POOL.replace(was, becomes)) as file:
        ended = await execpool("dev", str(file), "--port", "0")
    assert (ended.status, ended.out) == (2, "")
    assert str(file) in ended.err
    assert sentence in ended.err


async def test_it_listens_on_loopback_alone():
    ended = await execpool("dev", "--host", "0.0.0.0", "--port", "0")
    assert (ended.status, ended.out) == (2, "")
    assert "--host is '0.0.0.0': only loopback addresses" in ended.err


async def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = await execpool("dev", "--port", str(port))
    assert ended.status == 2
    assert f"--port is {port}: 127.0.0.1 cannot listen there (Address already in use)" in ended.err


async def test_json_is_one_object_a_line_and_ends_with_why():
    async with dev() as served:
        served.process.send_signal(signal.SIGTERM)
        out, _ = await served.process.communicate()
    last = json.loads(out.splitlines()[-1])
    assert last == {"event": "ended", "why": "SIGTERM"}
