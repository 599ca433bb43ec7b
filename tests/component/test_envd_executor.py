"""Files and commands in a whole executor: held as a run is, for as long as the claim, and no longer."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from e2b import AsyncSandbox, CommandExitException, PtySize, SandboxException
from e2b.sandbox_async.commands.command_handle import AsyncCommandHandle
from tests.component.envd_world import known_to_the_sdk
from tests.component.executor_process import LocalExecutor, executor, wait_until_gone

from execpool import protocol
from execpool.executor.server.envd.agent import SILENT_SECONDS

CONFINED = """
import ctypes, os, socket
def attempt(what, act):
    try:
        print(what, act())
    except OSError as error:
        print(what, error.errno)
attempt("inet", lambda: socket.socket(socket.AF_INET).connect(("127.0.0.1", 9)))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).getsockname())
libc = ctypes.CDLL(None, use_errno=True)
print("inotify", libc.inotify_init1(0), ctypes.get_errno())
attempt("parents", lambda: os.kill(RUNNER, 0))
attempt("socket directory", lambda: os.listdir(SOCKETS))
attempt("etc", lambda: open("/etc/execpool-test", "w"))
print(*(line.strip() for line in open("/proc/self/status") if line.startswith(("NoNewPrivs", "Seccomp:"))))
"""


def sandbox_of(running: LocalExecutor) -> AsyncSandbox:
    port = running.server.said("listening")[0]["envd_port"]
    return AsyncSandbox(**known_to_the_sdk(f"http://127.0.0.1:{port}", running.token))


@asynccontextmanager
async def claimed(**options: object) -> AsyncIterator[tuple[LocalExecutor, AsyncSandbox]]:
    async with executor(**options) as running:  # type: ignore[arg-type]
        await running.claim()
        yield running, sandbox_of(running)


async def pid_below(handle: AsyncCommandHandle) -> int:
    """The pid that a command said first."""
    async with asyncio.timeout(10):
        while not handle.stdout:  # noqa: ASYNC110 - it comes from another process
            await asyncio.sleep(0.01)
    return int(handle.stdout)


def process(pid: int) -> list[Path]:
    """The process, unless it has ended; one that nobody has reaped yet has."""
    status = Path(f"/proc/{pid}/stat")
    with suppress(OSError):
        if status.read_text().rpartition(")")[2].split()[0] != "Z":
            return [status]
    return []


async def test_files_and_commands_share_a_home_and_are_held_as_a_run_is() -> None:
    async with claimed() as (running, sandbox):
        constants = f"RUNNER={running.runner.process.pid}\nSOCKETS={str(running.socket_dir)!r}\n"
        await sandbox.files.write("confined.py", constants + CONFINED)
        python = f"PYTHONPATH= {os.sys.executable}"  # type: ignore[attr-defined]
        result = await sandbox.commands.run(f"{python} confined.py")
        assert result.stdout.splitlines() == [
            "inet 101",
            "unix ",
            "inotify -1 38",
            "parents 1",
            "socket directory 13",
            "etc 13",
            "NoNewPrivs:\t1 Seccomp:\t2",
        ]
        assert (await sandbox.files.get_info("confined.py")).size > 500
        with pytest.raises(SandboxException):
            await sandbox.files.write("/etc/execpool-test", "x")
        with pytest.raises(SandboxException):
            await sandbox.files.list(str(running.socket_dir))


async def test_a_terminal_works_behind_the_fence() -> None:
    async with claimed() as (_, sandbox):
        seen = bytearray()
        handle = await sandbox.pty.create(PtySize(rows=11, cols=22), on_data=seen.extend)
        await sandbox.pty.send_stdin(handle.pid, b"stty size; exit\n")
        await handle.wait()
        assert b"11 22" in seen


async def test_commands_end_with_the_claim_daemons_too() -> None:
    async with claimed() as (running, sandbox):
        plain = await sandbox.commands.run("echo $$; sleep 70", background=True, timeout=0)
        daemon = await sandbox.commands.run("setsid sh -c 'echo $$; exec sleep 71' & wait", background=True, timeout=0)
        pids = [await pid_below(plain), await pid_below(daemon)]
        assert [len(process(pid)) for pid in pids] == [1, 1]
        assert (await running.retire("Any"))[0] == 200
        assert await running.server.exit_status() == 0
        assert await running.runner.exit_status() == 0
        for pid in pids:
            assert process(pid) == []


async def test_a_command_in_the_foreground_keeps_the_executor_one_in_the_background_does_not() -> None:
    async with claimed(idle_seconds=1) as (running, sandbox):
        assert (await sandbox.commands.run("sleep 2.5; echo still here")).stdout == "still here\n"
        handle = await sandbox.commands.run("echo $$; exec sleep 72", background=True, timeout=0)
        pid = await pid_below(handle)
        await handle.disconnect()
        assert await running.server.exit_status(8) == 0
        await wait_until_gone(lambda: process(pid))


async def test_an_idle_retirement_does_not_wait_for_calls_whose_clients_have_gone() -> None:
    async with claimed() as (running, sandbox):
        url = f"http://127.0.0.1:{running.server.said('listening')[0]['envd_port']}"
        sleeping = await sandbox.commands.run("sleep 1000", background=True, stdin=True, timeout=0)
        given = {"process": {"pid": sleeping.pid}, "input": {"stdin": "eHh4" * 100_000}}
        stopping = await sandbox.commands.run("kill -STOP $PPID", background=True, timeout=0)
        for handle in (sleeping, stopping):
            await handle.disconnect()
        for method, path, body in (("POST", "/process.Process/SendInput", given), ("GET", "/files?path=x", None)):
            limit = aiohttp.ClientTimeout(0.5)
            with pytest.raises(TimeoutError):
                await running.http.request(method, url + path, json=body, headers=running.headers(), timeout=limit)
        await asyncio.sleep(0.5)
        assert (await running.retire("Idle", running.epoch))[0] == 200


async def test_an_idle_retirement_finds_it_busy_while_a_command_is_listened_to() -> None:
    async with claimed() as (running, sandbox):
        handle = await sandbox.commands.run("echo $$; sleep 73", background=True)
        await pid_below(handle)
        status, refusal = await running.retire("Idle", running.epoch)
        assert (status, refusal["reason"]) == (409, "Busy")
        assert await handle.kill()


async def test_a_lost_runner_ends_commands_and_the_next_call_has_a_new_agent() -> None:
    async with claimed() as (running, sandbox):
        handle = await sandbox.commands.run("echo $$; sleep 74", background=True)
        pid = await pid_below(handle)
        running.runner.process.kill()
        with pytest.raises(SandboxException):
            await handle.wait()
        await wait_until_gone(lambda: process(pid), 5)
        with pytest.raises(SandboxException):
            await sandbox.files.list(".")
        await running.restart_runner()
        await running.wait_ready()
        assert (await sandbox.commands.run("echo again")).stdout == "again\n"


async def test_a_command_that_ends_the_agent_takes_all_others_along() -> None:
    async with claimed() as (running, sandbox):
        other = await sandbox.commands.run("echo $$; sleep 75", background=True)
        pid = await pid_below(other)
        with pytest.raises((SandboxException, CommandExitException)):
            await sandbox.commands.run("kill -9 $PPID; sleep 5")
        await wait_until_gone(lambda: process(pid), 5)
        assert (await sandbox.commands.run("echo again")).stdout == "again\n"
        assert (await running.execute("1+1"))[-1]["status"] == "Succeeded"


async def test_a_command_that_stops_the_agent_is_ended_with_it_and_daemons_too() -> None:
    async with claimed() as (running, sandbox):
        daemon = await sandbox.commands.run("setsid sh -c 'echo $$; exec sleep 76' & wait", background=True)
        pid = await pid_below(daemon)
        with pytest.raises(SandboxException):
            await sandbox.commands.run("kill -STOP $PPID; sleep 60", timeout=1)
        await wait_until_gone(lambda: process(pid), SILENT_SECONDS + 5)
        assert (await sandbox.commands.run("echo again")).stdout == "again\n"
        assert (await running.execute("1+1"))[-1]["status"] == "Succeeded"


async def test_the_gateways_headers_and_no_control_path() -> None:
    async with claimed() as (running, _):
        port = running.server.said("listening")[0]["envd_port"]
        url = f"http://127.0.0.1:{port}"
        async with running.http.get(f"{url}/envs", headers=running.headers()) as answer:
            assert answer.status == 200
        for path in ("/state", "/claim", "/retire", "/challenge", "/readyz", "/execute"):
            async with running.http.post(f"{url}{path}", headers=running.headers(), json={}) as answer:
                assert answer.status == 404
        await running.claim()
        stale = {**running.headers(), protocol.HEADER_EPOCH: "1"}
        async with running.http.get(f"{url}/envs", headers=stale) as answer:
            assert answer.status == 412


async def test_runs_and_commands_go_on_beside_each_other() -> None:
    async with claimed() as (running, sandbox):
        command = asyncio.create_task(sandbox.commands.run("yes | head -c 30000000 | wc -c"))
        began = time.monotonic()
        events = await asyncio.gather(*(running.execute(f"{number}+1") for number in range(4)))
        assert all(event[-1]["status"] == "Succeeded" for event in events)
        assert (await command).stdout.strip() == "30000000"
        assert time.monotonic() - began < 20
