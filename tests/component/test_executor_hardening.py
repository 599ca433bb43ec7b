"""Each measure that holds a run holds, and a test fails without it; and the fallback of kernels without signal domains.

What a program must not reach is asked of the real thing: sibling runs, the supervisor, the zygote, the server. With one
measure left out (`Measures`, which only a test can do) the same question has another answer, so the question is a good one.
"""

import asyncio
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.component.executor_process import executor, may_do_without_measures, no_process_is_left, wait_until_gone

from execpool.executor.runner import landlock, processes

pytestmark = pytest.mark.skipif(
    landlock.abi() < landlock.SCOPES_SINCE, reason="this kernel has no signal domains: see the fallback"
)
needs_a_namespace = pytest.mark.skipif(
    not may_do_without_measures(),
    reason="run the tests in a pid namespace of their own: unshare --pid --fork --mount-proc",
)

ATTEMPT = """
import ctypes, json, os, signal, socket, resource
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try: action()
    except BaseException as error: return type(error).__name__
    return "ok"
def call(number, *arguments):
    if libc.syscall(number, *arguments) < 0: raise OSError(ctypes.get_errno(), "")
"""


async def ask(running, code, **fields):
    """What attempts of a program came to: a list."""
    events = await running.execute(f"{ATTEMPT}\nprint(json.dumps([attempt(each) for each in [{code}]]))", **fields)
    printed = "".join(event["text"] for event in events if event["type"] == "stdout")
    assert printed, events
    return json.loads(printed)


def status(events):
    return events[-1]["status"], events[-1]["reason"]


SOCKETS = "lambda: socket.socket(socket.AF_INET), lambda: socket.socket(socket.AF_INET6), lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"
REACHING = "lambda: call(101, 0, 0, 0, 0), lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE), lambda: call(29, 0, 4096, 0o1600), lambda: call(447, 0)"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls are those of x86_64")
@pytest.mark.parametrize(
    ("measures", "expected"),
    [
        pytest.param("", "OSError OSError OSError PermissionError PermissionError PermissionError OSError", id="held"),
        pytest.param("seccomp=False", "ok ok ok PermissionError ok ok ok", id="without the filter", marks=needs_a_namespace),
    ],
)  # fmt: skip
async def test_the_filter_refuses_networks_and_what_reaches_others(measures, expected):
    async with executor(slots=1, measures=measures) as running:
        await running.claim()
        said = await ask(running, f"{SOCKETS}, {REACHING}")
        # ptrace(TRACEME) of a process whose parent is out of reach is Landlock's to refuse as well.
        assert said[:3] + said[4:] == [each for index, each in enumerate(expected.split()) if index != 3]


SIGNALS = "lambda: os.kill(os.getppid(), 0), lambda: os.kill(ZYGOTE, 0), lambda: os.kill(SERVER, 0), lambda: os.kill(SIBLING, 0)"
FILES = "lambda: open('/dev/shm/execpool-test', 'w').close(), lambda: os.listdir(WORK), lambda: open(WORK + '/x', 'w'), lambda: open('/proc/self/comm', 'w')"


@pytest.mark.parametrize(
    ("measures", "signals", "files"),
    [
        pytest.param("", "PermissionError", "ok" + " PermissionError" * 3, id="held"),
        pytest.param("landlock=False", "ok", "ok ok ok ok", id="without Landlock", marks=needs_a_namespace),
    ],
)
async def test_landlock_keeps_signals_and_files_apart(measures, signals, files):
    async with executor(slots=2, measures=measures) as running:
        await running.claim()
        async with running.post("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)") as answer:
            await answer.content.readline()
            sibling = json.loads(await answer.content.readline())["text"]
            code = f"{SIGNALS}, {FILES}".replace("ZYGOTE", str(running.runner.process.pid))
            code = code.replace("SERVER", str(running.server.process.pid)).replace("SIBLING", sibling.strip())
            said = await ask(running, code.replace("WORK", repr(str(running.work_dir))))
            assert said == [signals] * 4 + files.split()


@pytest.mark.parametrize(
    ("measures", "limits"),
    [
        pytest.param("", "1024 MemoryError", id="held"),
        pytest.param("limits=False", "- ok", id="without limits"),
    ],
)
async def test_limits_of_the_kernel_are_on(measures, limits):
    async with executor(slots=1, measures=measures, memory_bytes=1 << 30) as running:
        await running.claim()
        events = await running.execute("import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[1])")
        files = next(event["text"] for event in events if event["type"] == "stdout").strip()
        memory = (await ask(running, "lambda: bytearray(2 << 30)"))[0]
        expected_files, expected_memory = limits.split()
        assert (files == "1024") is (expected_files == "1024")
        assert memory == expected_memory


@pytest.mark.parametrize(
    ("measures", "answer"),
    [
        pytest.param("", "PermissionError", id="held twice"),
        pytest.param("landlock=False", "PermissionError", id="held", marks=needs_a_namespace),
        pytest.param("landlock=False, undumpable=False", "ok", id="without it", marks=needs_a_namespace),
    ],
)
async def test_processes_cannot_be_looked_into(measures, answer):
    async with executor(slots=2, measures=measures) as running:
        await running.claim()
        async with running.post("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)") as sibling:
            await sibling.content.readline()
            pid = json.loads(await sibling.content.readline())["text"].strip()
            looks = ", ".join(
                f"lambda: open('/proc/{pid}/{name}', 'rb').read(64)" for name in ("environ", "maps", "auxv")
            )
            assert await ask(running, f"{looks}, lambda: os.readlink('/proc/{pid}/cwd')") == [answer] * 4


DAEMON = "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: os.execvp('sleep', ['sleep', '61.5'])\n  os._exit(0)\ntime.sleep(0.2)\nprint('left')"


def daemons():
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found += [int(path.parent.name)] if path.read_bytes() == b"sleep\x0061.5\x00" else []
    return found


@pytest.mark.parametrize(
    ("measures", "left"), [pytest.param("", 0, id="held"), pytest.param("end_group=False", 1, id="without it")]
)
async def test_what_a_run_started_ends_with_it(measures, left):
    async with executor(slots=1, measures=measures) as running:
        await running.claim()
        await running.execute(DAEMON)
        await asyncio.sleep(0.5)
        found = daemons()
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        assert len(found) == left


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
        denied = await ask(running, f"lambda: os.listdir({str(running.work_dir)!r})")
        assert denied == ["PermissionError"]  # files are apart even so
        assert status(await running.execute("1 + 1")) == ("Succeeded", "")


async def test_a_program_cannot_end_its_neighbours():
    code = "import os, signal, time\nfor pid in [int(n) for n in os.listdir('/proc') if n.isdigit()]:\n  if pid != os.getpid():\n    try: os.kill(pid, signal.SIGSTOP)\n    except OSError: pass"
    async with executor(slots=2) as running:
        await running.claim()
        slow = asyncio.create_task(running.execute("import time; time.sleep(1)\nprint('done')"))
        await asyncio.sleep(0.2)
        assert status(await running.execute(code)) == ("Succeeded", "")
        assert status(await slow) == ("Succeeded", "")


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
        # What a context leaves where the runner was started must not be what the next branch imports.
        poison = "for name in ('scipy', 'sklearn', 'matplotlib', 'joblib'): open(name + '.py', 'w').write('open(__file__ + \".ran\", \"w\")')"
        assert status(await running.execute(poison, stateless=False)) == ("Succeeded", "")
        os.kill(branch, signal.SIGKILL)
        await running.runner.wait_for("branch lost", 5)
        await asyncio.sleep(0.3)  # a slot of it may still be handed out until the server knows
        assert status(await running.execute("import scipy")) == ("Succeeded", "")
        await wait_for_branch(running, 2)
        assert printed(await running.execute(imported)) == "True\n"
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
