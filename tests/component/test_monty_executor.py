"""An executor with the Monty runtime, over its ports: the same streams as from Python, or NotSupported and nothing else."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
import pytest_asyncio
from tests.component.executor_process import executor

pytestmark = pytest.mark.asyncio(loop_scope="module")
MONTY = {"EXECPOOL_RUNTIME": "Monty"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def monty():
    async with executor(slots=2, runner_variables=MONTY) as running:
        await running.claim()
        yield running


def kinds(events):
    return [event["type"] for event in events]


async def test_output_and_the_last_value_arrive_as_from_python(monty):
    events = await monty.execute("print('out')\nx = 21\nx * 2")
    assert kinds(events) == ["number_of_executions", "stdout", "result", "end_of_execution"]
    assert events[1]["text"] == "out\n"
    assert (events[2]["text"], events[2]["is_main_result"]) == ("42", True)
    assert (events[-1]["status"], events[-1]["reason"], events[-1]["truncated"]) == ("Succeeded", "", False)
    assert events[-1]["max_rss_bytes"] > 1 << 20
    assert kinds(await monty.execute("x = 1")) == ["number_of_executions", "end_of_execution"]


async def test_what_is_not_supported_says_why_and_nothing_else(monty):
    for code in ("import socket", "print('before')\n1/0", "while True: pass", "print('x' * 70_000)", "class A: pass"):
        events = await monty.execute(code)
        assert kinds(events) == ["number_of_executions", "end_of_execution"], code
        assert events[-1]["status"] == "NotSupported"
        assert events[-1]["message"].startswith("not run: ")


async def test_a_limit_below_its_own_is_a_time_limit(monty):
    began = time.monotonic()
    events = await monty.execute("while True: pass", timeout_seconds=0.05)
    assert (events[-1]["status"], events[-1]["reason"]) == ("TimedOut", "TimeLimit")
    assert time.monotonic() - began < 1.05
    assert (await monty.execute("1"))[-1]["status"] == "Succeeded"


async def test_a_client_that_leaves_ends_its_run_and_the_slot_is_free(monty):
    async with monty.post("while True: pass") as answer:
        await answer.content.readline()
    async with asyncio.timeout(0.2):  # sooner than the program would have met its own limit
        while (await monty.state()).held_by().running:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    answers = await asyncio.gather(*(monty.execute(f"{n}") for n in range(2)))
    assert [events[-1]["status"] for events in answers] == ["Succeeded", "Succeeded"]


async def test_a_worker_that_is_killed_is_replaced(monty):
    workers = workers_of(monty)
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    assert (await monty.execute("1 + 1"))[-1]["status"] in {"Succeeded", "Killed"}
    assert (await monty.execute("1 + 1"))[-1]["status"] == "Succeeded"


def workers_of(monty):
    return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/comm") if is_worker(path, monty)]


def is_worker(comm, monty):
    try:
        parent = (comm.parent / "stat").read_text().rpartition(")")[2].split()[1]
        return comm.read_text() == "monty\n" and int(parent) == monty.runner.process.pid
    except OSError:
        return False


async def test_no_contexts_are_kept(monty):
    async with monty.http.post(f"{monty.data_url}/contexts", json={}, headers=monty.headers()) as answer:
        made = answer.status
        name = (await answer.json())["id"] if made < 300 else ""
    if name:
        events = await monty.execute("x = 1", stateless=False, context_id=name)
        assert events[-1]["status"] != "Succeeded"
    events = await monty.execute("1", stateless=False)
    assert events[-1]["status"] != "Succeeded"


async def test_it_leaves_when_the_server_does_and_says_what_can_be_imported():
    async with executor(runner_variables=MONTY) as running:
        state = await running.state()
        assert set(state.modules) >= {"math", "json"}
        await running.retire("Any")
        assert await running.server.exit_status() == 0
        assert await running.runner.exit_status() == 0


async def test_a_runner_that_is_restarted_serves_on():
    async with executor(runner_variables=MONTY) as running:
        await running.claim()
        await running.runner.end()
        await running.restart_runner()
        await running.wait_ready()
        assert (await running.execute("1"))[-1]["status"] == "Succeeded"
