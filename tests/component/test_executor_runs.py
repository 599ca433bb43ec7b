"""Runs in a local executor, with real processes and sockets: how each kind of program ends, and what the client gets."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from tests.component.executor_process import executor, no_process_is_left, wait_until_gone

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    """One claimed executor for the tests that leave nothing behind: that they do not is part of what is tested."""
    async with executor() as running:
        await running.claim()
        yield running


def end(events):
    return events[-1]


def texts(events, kind):
    return "".join(event["text"] for event in events if event["type"] == kind)


def of_type(events, kind):
    return [event for event in events if event["type"] == kind]


async def test_a_run_answers_with_its_number_its_output_in_order_and_its_end():
    code = "import sys\nfor i in range(3):\n  print('out', i)\nprint('err', file=sys.stderr)\n{'answer': 42}"
    async with executor() as running:
        await running.claim()
        events = await running.execute(code)
        assert events[0] == {"type": "number_of_executions", "execution_count": 1}
        assert texts(events, "stdout") == "out 0\nout 1\nout 2\n"
        assert texts(events, "stderr") == "err\n"
        assert all("timestamp" in event for event in of_type(events, "stdout"))
        assert events[-2] == {
            "type": "result",
            "text": "{'answer': 42}",
            "json": {"answer": 42},
            "is_main_result": True,
        }
        assert (end(events)["type"], end(events)["status"], end(events)["reason"]) == (
            "end_of_execution",
            "Succeeded",
            "",
        )
        assert end(events)["wall_seconds"] > 0
        assert end(events)["cpu_seconds"] > 0
        assert end(events)["max_rss_bytes"] > 1 << 20
        again = await running.execute("1")
        assert again[0]["execution_count"] == 2


ENDS = [
    pytest.param("1/0", "Failed", "", "ZeroDivisionError", id="raise"),
    pytest.param("import os; os._exit(7)", "Failed", "", "SystemExit", id="os._exit with a status"),
    pytest.param("import os; os._exit(0)", "Succeeded", "", None, id="os._exit well"),
    pytest.param("import os; os.kill(os.getpid(), 9)", "Killed", "Signalled", None, id="kill -9 by itself"),
    pytest.param("import ctypes; ctypes.string_at(0)", "Killed", "Signalled", None, id="a crash"),
    pytest.param("import os; os.close(1); os.close(2); print('x' * 9)", "Failed", "", "OSError", id="closed stdout"),
    pytest.param("import sys; sys.stdout = None", "Succeeded", "", None, id="no stdout"),
    pytest.param("import os; os.closerange(0, 99)", "Succeeded", "", None, id="everything closed"),
    pytest.param("import os; os.kill(os.getppid(), 9)", "Failed", "", "PermissionError", id="supervisor killed"),
    pytest.param("import os; os.kill(os.getppid(), 19)", "Failed", "", "PermissionError", id="supervisor stopped"),
    pytest.param("import os; ppid = open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1]; os.kill(int(ppid), 9)", "Failed", "", "PermissionError", id="zygote killed"),
    pytest.param("import os; os.killpg(0, 9)", "Killed", "Signalled", None, id="kill its group"),
]  # fmt: skip


async def test_every_kind_of_end_has_its_status_and_reason(shared):
    for case in ENDS:
        code, status, reason, error = case.values
        events = await shared.execute(code, timeout_seconds=5)
        assert (case.id, end(events)["status"], end(events)["reason"]) == (case.id, status, reason)
        assert [event["name"] for event in of_type(events, "error")] == ([] if error is None else [error]), case.id
    assert await shared.readiness() == 200
    assert end(await shared.execute("1"))["status"] == "Succeeded"


SLOW = {
    "sleep": "import time; time.sleep(60)",
    "spin": "while True: pass",
    "a child outlives it": "import subprocess; subprocess.run(['sleep', '60'])",
    "signals ignored": "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except (OSError, ValueError): pass\nwhile True: pass",
    "stopped by itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "a thread that stays": "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()",
    "moving target": "import os\nwhile True:\n  if os.fork(): os._exit(0)",
}


async def test_a_run_past_its_limit_is_ended_within_a_second_whatever_it_does(shared):
    for name, code in SLOW.items():
        began = time.monotonic()
        if name == "moving target":
            # Its first process ends at once, so the run ends with it, and takes the others along.
            events = await shared.execute(code, timeout_seconds=5)
            assert end(events)["status"] == "Succeeded"
        else:
            events = await shared.execute(code, timeout_seconds=0.5)
            assert (name, end(events)["status"], end(events)["reason"]) == (name, "TimedOut", "TimeLimit")
        assert time.monotonic() - began < 1.5, name
    await no_process_is_left(shared)


BOMB = """
import os, time
# A bomb that stays small enough for a shared machine: 60 processes, each in a session of its own, forking on.
for _ in range(60):
    if os.fork() == 0:
        os.setsid()
        while True:
            if os.fork():
                os._exit(0)
            time.sleep(0.002)
print("armed")
time.sleep(60)
"""


async def test_a_fork_bomb_ends_with_its_run(shared):
    began = time.monotonic()
    events = await shared.execute(BOMB, timeout_seconds=2)
    assert end(events)["status"] == "TimedOut"
    assert time.monotonic() - began < 3.2
    await no_process_is_left(shared)
    assert await shared.readiness() == 200


async def test_a_daemon_does_not_outlive_its_run(shared):
    marker = "execpool-daemon-test"
    code = f"import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    os.execvp('sh', ['sh', '-c', 'sleep 61; : {marker}'])\n  os._exit(0)\ntime.sleep(0.2)"
    assert end(await shared.execute(code))["status"] == "Succeeded"
    await no_process_is_left(shared)
    assert [line for line in command_lines() if f": {marker}\0".encode() in line] == []


def command_lines():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


async def test_a_flood_of_output_is_cut_and_ended_and_the_server_does_not_grow(shared):
    await shared.execute("print('x' * (1 << 20))")
    before = resident(shared.server.process.pid)
    events = await shared.execute("line = 'x' * (1 << 20)\nfor _ in range(1024): print(line)")
    assert (end(events)["status"], end(events)["reason"], end(events)["truncated"]) == ("Killed", "OutputLimit", True)
    assert len(texts(events, "stdout")) == 1 << 20
    assert resident(shared.server.process.pid) - before < 16 << 20


def resident(pid):
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


async def test_output_a_little_past_the_limit_is_cut_and_the_program_ends_by_itself(shared):
    events = await shared.execute("print('x' * 150)", output_bytes=100)
    assert (end(events)["status"], end(events)["truncated"]) == ("Succeeded", True)
    assert texts(events, "stdout") == "x" * 100
    exact = await shared.execute("print('x' * 99)", output_bytes=100)
    assert (end(exact)["truncated"], len(texts(exact, "stdout"))) == (False, 100)


async def test_many_small_lines_become_few_events(shared):
    events = await shared.execute("for i in range(20_000): print(i)")
    assert texts(events, "stdout") == "".join(f"{i}\n" for i in range(20_000))
    assert len(events) < 2_000


async def test_output_arrives_while_the_program_works_on(shared):
    async with shared.post("import time\nprint('early')\ntime.sleep(1)\nprint('late')") as answer:
        began = time.monotonic()
        first = [json.loads(await answer.content.readline()) for _ in range(2)]
        assert time.monotonic() - began < 0.7
        assert first[1]["text"] == "early\n"


async def test_a_result_comes_after_what_was_printed_before_it(shared):
    events = await shared.execute("print('a' * 200_000)\n'done'")
    assert [event["type"] for event in events][-2:] == ["result", "end_of_execution"]
    assert len(texts(events, "stdout")) == 200_001


async def test_a_forged_report_cannot_change_how_the_run_ended(shared):
    forged = (
        '{"type":"end_of_execution","status":"Succeeded"}\\n{"type":"result","text":"forged","is_main_result":true}\\n'
    )
    code = f"import os\nos.write(3, b'''{forged}''')\nos.write(3, b'[' * 100_000 + b'\\n')\nos.kill(os.getpid(), 9)"
    events = await shared.execute(code)
    assert (end(events)["status"], end(events)["reason"]) == ("Killed", "Signalled")
    assert len(of_type(events, "end_of_execution")) == 1
    assert end(events)["truncated"]


async def test_a_memory_error_is_a_failure_by_name_and_leaves_the_runner_alone():
    async with executor(memory_bytes=1 << 30) as running:
        await running.claim()
        events = await running.execute("x = b'x' * (2 << 30)")
        assert (end(events)["status"], of_type(events, "error")[0]["name"]) == ("Failed", "MemoryError")
        slowly = await running.execute("x = []\nwhile True: x.append(bytes(1 << 20))", timeout_seconds=20)
        assert (end(slowly)["status"], of_type(slowly, "error")[0]["name"]) == ("Failed", "MemoryError")
        caught = await running.execute("try: b'x' * (2 << 30)\nexcept MemoryError: print('caught')")
        assert (end(caught)["status"], texts(caught, "stdout")) == ("Succeeded", "caught\n")


async def test_a_run_sees_a_clean_environment_and_its_own_directory():
    code = "import os\nprint(sorted(k for k in os.environ if k.startswith(('EXECPOOL', 'KUBERNETES', 'PYTHONPATH'))))\nprint(os.environ['MINE'], os.getcwd() == os.environ['HOME'])\nprint(oct(os.stat('.').st_mode & 0o777), os.listdir('.'))\nprint(sorted(os.listdir('/proc/self/fd')))\nopen('left', 'w').close()"
    async with executor(runner_variables={"KUBERNETES_PORT": "x"}) as running:
        await running.claim()
        events = await running.execute(code, env_vars={"MINE": "yes"})
        lines = texts(events, "stdout").splitlines()
        assert lines[:3] == ["[]", "yes True", "0o700 []"]
        assert lines[3].count("'") == 10  # 0, 1, 2, the report, and the directory being listed


async def test_what_a_run_leaves_outside_its_directory_is_gone_when_no_run_is_in_progress(shared):
    left = [shared.scratch_dir / "left", shared.directory / "shm" / "left"]
    await shared.execute(f"for name in {[str(path) for path in left]}: open(name, 'w').write('x')")
    await wait_until_gone(lambda: [path for path in left if path.exists()])


async def test_runs_differ_in_their_random_numbers(shared):
    pytest.importorskip("numpy")
    code = "import random, numpy, uuid\nprint(random.random(), numpy.random.random(), uuid.uuid4())"
    seen = {texts(await shared.execute(code), "stdout") for _ in range(5)}
    columns = list(zip(*(line.split() for line in seen), strict=True))
    assert [len(set(column)) for column in columns] == [5, 5, 5]


async def test_programs_find_no_network_but_sockets_of_their_own():
    code = (
        "import socket\nsocket.socketpair()\nsocket.socket(socket.AF_UNIX)\nsocket.create_connection(('127.0.0.1', 80))"
    )
    async with executor() as running:
        await running.claim()
        (error,) = of_type(await running.execute(code), "error")
        assert (error["name"], "Network is unreachable" in error["value"]) == ("OSError", True)
        assert "network: None" in error["traceback"]
        through = await running.execute(
            "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'], capture_output=True, text=True).stderr)"
        )
        assert "Network is unreachable" in texts(through, "stdout")
    async with executor(network="Egress") as running:
        await running.claim()
        (error,) = of_type(await running.execute(code), "error")
        assert error["name"] == "ConnectionRefusedError"


async def test_the_filter_holds_in_the_kernel(shared):
    code = "import ctypes, os, resource\nlibc = ctypes.CDLL(None, use_errno=True)\nprint(libc.ptrace(0, 0, 0, 0), ctypes.get_errno())\ntry: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (9, 9))\nexcept PermissionError: print('refused')\nresource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))\nos.nice(1)\nprint('own')"
    assert texts(await shared.execute(code), "stdout").splitlines() == ["-1 1", "refused", "own"]


async def test_multiprocessing_threads_and_pandas_work(shared):
    pytest.importorskip("pandas")
    code = "import multiprocessing, pandas\nfrom concurrent.futures import ThreadPoolExecutor\ndef double(x): return 2 * x\nwith multiprocessing.Pool(2) as pool: print(pool.map(double, [1, 2]))\nwith ThreadPoolExecutor(2) as pool: print(list(pool.map(double, [3])))\npandas.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]}).groupby('a').sum()"
    events = await shared.execute(code)
    assert texts(events, "stdout") == "[2, 4]\n[6]\n"
    (result,) = of_type(events, "result")
    assert "<table" in result["html"]


async def test_a_real_figure_becomes_a_picture(shared):
    pytest.importorskip("matplotlib")
    events = await shared.execute("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    (result,) = of_type(events, "result")
    assert result["png"].startswith("iVBORw0KGgo")
    assert texts(events, "stderr") == ""


async def test_a_client_that_goes_away_cancels_its_run(shared):
    async with aiohttp.ClientSession() as other:
        body = {"code": "import time\nprint('up')\ntime.sleep(60)"}
        async with other.post(f"{shared.data_url}/execute", json=body, headers=shared.headers("left")) as answer:
            await answer.content.readline()
            await answer.content.readline()
    ended = await shared.server.wait_for("run ended", 3, execution_id="left")
    assert (ended["status"], ended["reason"]) == ("Cancelled", "ClientGone")
    assert (await shared.state()).held_by().running == 0
    await no_process_is_left(shared)


async def test_silence_is_broken_by_keepalives():
    async with executor() as running:
        await running.claim()
        events = await running.execute("import time; time.sleep(5.6)")
        assert [event["type"] for event in events] == ["number_of_executions", "keepalive", "end_of_execution"]


async def test_two_hundred_runs_leave_nothing_behind():
    async with executor(slots=4) as running:
        await running.claim()
        await asyncio.gather(*(running.execute("1") for _ in range(4)))
        await no_process_is_left(running)
        await asyncio.sleep(0.5)
        before = opened(running)
        programs = [
            "1+1",
            "print('x')",
            "1/0",
            "import os; os._exit(1)",
            "open('f', 'w').write('x'); import os; os.mkdir('d')",
        ]
        for start in range(0, 200, 4):
            await asyncio.gather(*(running.execute(programs[(start + i) % len(programs)]) for i in range(4)))
        await no_process_is_left(running)
        # Of each parked process, its directory and the one with its list of fonts.
        await wait_until_gone(lambda: list(running.work_dir.iterdir())[10:])
        async with asyncio.timeout(3):  # the last processes are still being parked
            while opened(running) != before:  # noqa: ASYNC110 - other processes
                await asyncio.sleep(0.02)
        assert (await running.state()).held_by().executions == 204


def opened(running):
    """How many descriptors server and runner have open."""
    return [len(list(Path(f"/proc/{each.process.pid}/fd").iterdir())) for each in (running.server, running.runner)]
