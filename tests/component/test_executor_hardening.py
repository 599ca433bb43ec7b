"""What holds a run, beyond the measures one by one (test_executor_measures.py): the fallback, neighbours, lost processes.

What a program must not reach is asked of the real thing: sibling runs, the supervisor, the zygote, the server.
"""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.component.executor_process import executor, no_process_is_left, wait_until_gone

from execpool.executor.runner import landlock, processes

pytestmark = pytest.mark.skipif(
    landlock.abi() < landlock.SCOPES_SINCE, reason="this kernel has no signal domains: see the fallback"
)


def status(events):
    return events[-1]["status"], events[-1]["reason"]


DAEMON = "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: os.execvp('sleep', ['sleep', '61.5'])\n  os._exit(0)\ntime.sleep(0.2)\nprint('left')"


def daemons():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [int(path.parent.name)] if path.read_bytes() == b"sleep\x0061.5\x00" else []
    return found


FALLBACK = [
    pytest.param("import os; os.kill(os.getppid(), 9); import time; time.sleep(9)", "Unknown", "RunnerLost", id="supervisor killed"),
    pytest.param("import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(60)", "TimedOut", "TimeLimit", id="supervisor stopped"),
    pytest.param("import os; ppid = open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1]; os.kill(int(ppid), 15)", "Succeeded", "", id="zygote told to stop"),
    pytest.param("import time; time.sleep(60)", "TimedOut", "TimeLimit", id="asleep"),
]  # fmt: skip


async def until_runs_are_taken(running):
    """A stopped supervisor is ended some seconds after its client was answered; until then nothing new is taken."""
    async with asyncio.timeout(8):
        while True:
            async with running.post("1") as answer:
                if answer.status == 200:
                    return
            await asyncio.sleep(0.1)


async def test_without_signal_domains_the_walk_ends_runs_and_the_runner_goes_on():
    async with executor(slots=2, measures="newest_landlock=5") as running:
        await running.claim()
        assert running.runner.said("imports done")[0]["landlock"] == min(5, landlock.abi())
        for case in FALLBACK:
            code, *expected = case.values
            assert [case.id, *status(await running.execute(code, timeout_seconds=1))] == [case.id, *expected]
            await until_runs_are_taken(running)
        await running.execute(DAEMON)
        await no_process_is_left(running, 6)
        assert daemons() == []
        denied = await running.execute(f"import os\nos.listdir({str(running.work_dir)!r})")
        assert [event["name"] for event in denied if event["type"] == "error"] == ["PermissionError"]  # even so
        assert status(await running.execute("1 + 1")) == ("Succeeded", "")


async def test_a_forged_word_of_the_end_gives_the_forger_no_more_time():
    code = (
        "import gc, os, json, time\n"
        "(nonce,) = {each.nonce for each in gc.get_objects() if type(each).__name__ == 'Request' and each.nonce}\n"
        "said = {'type': 'done', 'nonce': nonce, 'well': True, 'cpu_seconds': 0.0, 'max_rss_bytes': 0}\n"
        "os.write(3, json.dumps(said).encode() + b'\\n')\ntime.sleep(61.5)"
    )
    async with executor(slots=1) as running:
        await running.claim()
        assert status(await running.execute(code, timeout_seconds=30)) == ("Succeeded", "")
        await no_process_is_left(running, 1.5)
        assert status(await running.execute("1 + 1")) == ("Succeeded", "")


async def test_parked_processes_are_replaced_when_they_die():
    async with executor(slots=1) as running:
        await running.claim()
        await no_process_is_left(running)
        for supervisor in processes.children_of(running.runner.process.pid):
            (parked,) = processes.children_of(supervisor)
            os.kill(parked, signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert status(await running.execute("1 + 1")) == ("Succeeded", "")
        await no_process_is_left(running)
        for supervisor in processes.children_of(running.runner.process.pid):
            os.kill(supervisor, signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert status(await running.execute("1 + 1")) == ("Succeeded", "")
        await no_process_is_left(running)
        assert len(processes.children_of(running.runner.process.pid)) == 2


async def test_the_branch_serves_science_and_comes_back_when_it_dies():
    pytest.importorskip("scipy")
    imported = "import sys\nprint('scipy.stats' in sys.modules)\nimport scipy"
    async with executor(slots=2, science=True) as running:
        await running.claim()
        await wait_for_branch(running, 1)
        assert printed(await running.execute(imported)) == "True\n"
        assert printed(await running.execute("import sys\nprint('sci' + 'py.stats' in sys.modules)")) == "False\n"
        branch = branch_of(running)
        # One of its slots goes first: the next one, asked for while nobody knows of the branch's end, must not stay.
        os.kill(processes.children_of(branch)[0], signal.SIGKILL)
        # What a context leaves where the runner was started must not be what the next branch imports.
        poison = "for name in ('scipy', 'sklearn', 'matplotlib', 'joblib'): open(name + '.py', 'w').write('open(__file__ + \".ran\", \"w\")')"
        assert status(await running.execute(poison, stateless=False)) == ("Succeeded", "")
        os.kill(branch, signal.SIGKILL)
        await running.runner.wait_for("branch lost", 5)
        await asyncio.sleep(0.3)  # a slot of it may still be handed out until the server knows
        assert status(await running.execute("import scipy")) == ("Succeeded", "")
        await wait_for_branch(running, 2)
        assert printed(await running.execute(imported)) == "True\n"
        await wait_until_gone(
            lambda: [] if len(processes.children_of(running.runner.process.pid)) == 4 else [branch], 5
        )
        assert len(list(running.home_dir.glob("*.py"))) == 4
        assert list(running.home_dir.glob("*.ran")) == []


def printed(events):
    return "".join(event["text"] for event in events if event["type"] == "stdout")


def branch_of(running):
    """The child of the runner with more than one child of its own."""
    children = processes.children_of(running.runner.process.pid)
    return max(children, key=lambda pid: len(processes.children_of(pid)))


async def wait_for_branch(running, times):
    async with asyncio.timeout(60):
        while len(running.runner.said("imports done")) < times + 1:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    await wait_until_gone(lambda: [] if len(processes.children_of(branch_of(running))) == 2 else [running.work_dir], 10)


async def test_state_tells_the_modules():
    async with executor(slots=1) as running:
        modules = (await running.state()).modules
        assert "orjson" in modules
        assert all(modules.values())
