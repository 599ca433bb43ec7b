"""`execpool workload` against a small gateway that speaks its protocol over a real socket."""

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console
from typer.testing import CliRunner

from execpool.cli import workload_view as view
from execpool.cli.workload import Tiers, read_queries, workload
from execpool.cli.workload import run as submit
from execpool.cli.workload_facts import Birth, Executor, Facts

app = typer.Typer()
app.command()(workload)

LONG = "x" * 300_000


def lines(executor: str, *, status: str = "Succeeded", error: dict | None = None) -> list[dict]:
    return [
        {"type": "accepted", "id": "1"},
        {"type": "waiting", "position": 1},
        {"type": "started", "executor": executor, "tier": "local"},
        {"type": "stdout", "text": LONG},
        {"type": "answer", "status": status, "error": error, "stdout": LONG, "results": [],
         "route": {"tier": "local", "executor": executor}, "timings": {"waitSeconds": 0.1, "runSeconds": 0.2, "totalSeconds": 0.3}},
    ]  # fmt: skip


class FakeGateway:
    """Answers by what the code says; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.at_once = 0
        self.most_at_once = 0

    async def execute(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(asked)
        self.headers.append(dict(request.headers))
        if "refuse" in asked["code"]:
            return web.json_response({"reason": "QueueFull", "detail": "256 wait", "status": 429}, status=429)
        if "proxy" in asked["code"]:
            return web.Response(text="<h1>Bad Gateway</h1>", status=502)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0.05)
        self.at_once -= 1
        return await self._stream(request, asked)

    async def _stream(self, request: web.Request, asked: dict) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        told = lines(f"agents-{asked['user']}")
        if "fail" in asked["code"]:
            told = lines("agents-1", status="Failed", error={"name": "ValueError", "value": "no", "traceback": ""})
        if "late" in asked["code"]:
            told = [*told[:2], {"type": "refused", "problem": {"reason": "DeadlinePassed", "detail": "120 s"}}]
        if "break" in asked["code"]:
            told = told[:3]
        for line in told:
            await response.write(json.dumps(line).encode() + b"\n")
        return response


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
async def url(gateway: FakeGateway) -> AsyncIterator[str]:
    served = web.Application()
    served.router.add_post("/v1/executions", gateway.execute)
    async with TestServer(served) as server:
        yield str(server.make_url("/"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for user in ("user-1", "user-2", "user-3"):
        (tmp_path / user).mkdir()
        (tmp_path / user / "first.py").write_text('"""What?"""\n1')
        (tmp_path / user / "second.py").write_text("2")
    return tmp_path


async def run(*arguments: str | Path):
    """Run the command in a thread of its own, as it has an event loop of its own."""
    command = [str(argument) for argument in arguments]
    with ThreadPoolExecutor(1) as thread:
        return await asyncio.get_running_loop().run_in_executor(thread, CliRunner().invoke, app, command)


async def test_all_queries_are_submitted_at_once_as_their_users_and_the_table_tells(gateway, url, folder):
    result = await run(folder, "--url", url, "--key", "ep_k", "--pool", "agents", "--max-wait", "9")
    assert result.exit_code == 0, result.output
    assert gateway.most_at_once == 6
    assert sorted(asked["user"] for asked in gateway.asked) == sorted(["user-1", "user-2", "user-3"] * 2)
    expected = {"pool": "agents", "timeoutSeconds": 120.0, "maxWaitSeconds": 9.0}
    assert all({name: asked[name] for name in expected} == expected for asked in gateway.asked)
    assert all(headers["Authorization"] == "Bearer ep_k" for headers in gateway.headers)
    assert all(headers["Accept"] == "application/x-ndjson" for headers in gateway.headers)
    assert "user-1/first  running on agents-user-1" in result.output
    assert "6 of 6 went through the pool" in " ".join(result.output.split())
    assert "before execpool: 27-320 s per query" in result.output


async def test_programs_ask_for_the_tier_of_their_kind(gateway, url, folder):
    (folder / "user-1" / "first.py").write_text("import pandas")
    await run(folder, "--url", url, "--key", "k", "--simple-tier", "local", "--data-tier", "e2b")
    assert {asked["tier"] for asked in gateway.asked if "pandas" in asked["code"]} == {"e2b"}
    assert {asked["tier"] for asked in gateway.asked if "pandas" not in asked["code"]} == {"local"}


async def test_what_a_witness_tells_is_in_the_table_and_in_the_summary(gateway, url, folder):
    began = time.time()
    executors = {
        "agents-user-1": Executor("agents-user-1", Birth(began - 9, began - 8), "i1", is_claimed=True),
        "agents-user-2": Executor("agents-user-2", Birth(began + 9, began + 10), "i2"),
    }
    looks = []

    def look() -> Facts:
        looks.append(1)
        return Facts(executors, {"agents-user-1": 2}, created=3, refused=1)

    console = Console(file=io.StringIO(), width=view.PLAIN_WIDTH)
    queries = read_queries(folder)
    state = await submit(queries, url, "k", {}, console, tiers=Tiers(), look=look)
    console.print(view.final(state))
    text = " ".join(console.file.getvalue().split())
    assert len(looks) >= 2, "at the begin and at the end"
    assert "429s seen 1 (aim 0); creates on the request path 1 (aim 0), to keep the pool warm 2" in text
    assert "2 sandboxes, 1 claimed; executions by the account's ledger: 2 (1 2)" in text
    assert (state.report()["refusedWith429"], state.report()["createsOnRequestPath"]) == (1, 1)
    assert ("yes" in text, "no" in text) == (True, True)


async def test_json_is_all_that_standard_output_gets(gateway, url, folder):
    result = await run(folder, "--url", url, "--key", "k", "--output", "json")
    report = json.loads(result.stdout)
    assert (report["throughPool"], report["executors"], report["executorsSharedByUsers"]) == (6, 3, 0)
    assert "pool" not in gateway.asked[0]


async def test_the_picture_holds_the_table_and_calls_nobody(url, folder, tmp_path):
    picture = tmp_path / "table.svg"
    await run(folder, "--url", url, "--key", "k", "--record", picture)
    text = picture.read_text()
    assert text.startswith("<svg")
    assert "agents-user-2" in text
    assert "url(" not in text.replace("url(#", "")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        pytest.param("fail", "Failed, ValueError: no", id="a program that raises"),
        pytest.param("refuse", "Refused, QueueFull: 256 wait", id="a refusal"),
        pytest.param("late", "Refused, DeadlinePassed: 120 s", id="a refusal after a wait"),
        pytest.param("proxy", "Refused, HTTP 502: Bad Gateway", id="a proxy's error page"),
        pytest.param("break", "Lost, the gateway ended its answer", id="a stream that breaks off"),
    ],
)
async def test_one_query_that_does_not_end_well_makes_the_command_fail_and_is_told(url, folder, code, told):
    (folder / "user-2" / "first.py").write_text(f"# {code}")
    result = await run(folder, "--url", url, "--key", "k")
    assert result.exit_code == 1
    assert f"user-2/first: {told}" in " ".join(result.output.split())
    assert "1 failed" in result.output


async def test_a_gateway_that_is_not_there_is_told_for_each_query(folder):
    result = await run(folder, "--url", "http://127.0.0.1:9", "--key", "k", "--output", "json")
    assert result.exit_code == 1
    assert {query["status"] for query in json.loads(result.stdout)["queries"]} == {"Lost"}


async def test_a_folder_without_programs_is_a_usage_error(tmp_path):
    result = await run(tmp_path, "--url", "http://127.0.0.1:9", "--key", "k")
    assert result.exit_code == 2
