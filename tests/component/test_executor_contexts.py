"""Contexts in a local executor: state that stays, one execution at a time, interrupts, restarts, and E2B's words for it all."""

import asyncio
import contextlib
import json
import os
import signal
import time

import aiohttp
import pytest
import pytest_asyncio
from tests.component.executor_process import below, executor, no_process_is_left

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with executor(slots=2) as running:
        await running.claim()
        yield running


async def request(running, method, path, **body):
    async with running.http.request(
        method, f"{running.data_url}{path}", json=body or None, headers=running.headers()
    ) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if answer.content_type == "application/json" else text


@pytest_asyncio.fixture(loop_scope="module")
async def context(shared):
    """A context of its own for a test."""
    status, made = await request(shared, "POST", "/contexts")
    assert status == 200
    yield made["id"]
    await request(shared, "DELETE", f"/contexts/{made['id']}")


def end(events):
    return events[-1]["status"], events[-1]["reason"]


def text(events):
    return next((event["text"] for event in events if event["type"] == "result"), None)


def printed(events, kind="stdout"):
    return "".join(event["text"] for event in events if event["type"] == kind)


def errors(events):
    return [event["name"] for event in events if event["type"] == "error"]


async def test_state_stays_in_a_context_and_nowhere_else(shared, context):
    assert end(await shared.execute("x = 41", context_id=context)) == ("Succeeded", "")
    assert text(await shared.execute("x + 1", context_id=context)) == "42"
    assert errors(await shared.execute("x")) == ["NameError"]
    _, other = await request(shared, "POST", "/contexts")
    assert errors(await shared.execute("x", context_id=other["id"])) == ["NameError"]
    assert (await request(shared, "DELETE", f"/contexts/{other['id']}")) == (200, None)


@contextlib.asynccontextmanager
async def held_up(pid, seconds):
    """Stop a process of ours, as one that gets no processor is, and let it go on after a while."""
    os.kill(pid, signal.SIGSTOP)
    letting_go = asyncio.get_running_loop().call_later(seconds, os.kill, pid, signal.SIGCONT)
    yield
    letting_go.cancel()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


JUST_OVER = "import time\nuntil = time.monotonic() + 1.05\nwhile time.monotonic() < until: time.sleep(0.01)"
IGNORING = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + JUST_OVER.replace("1.05", "1.5")


@pytest.mark.parametrize("late", [JUST_OVER, IGNORING], ids=["interrupted", "stopped"])
async def test_what_ends_one_execution_never_hits_the_next(shared, context, late):
    supervisor = int(text(await shared.execute("import os\nkept = 1\nos.getppid()", context_id=context)))
    one = asyncio.create_task(shared.execute(late, context_id=context, timeout_seconds=1))
    await asyncio.sleep(0.5)
    async with held_up(supervisor, 1.4):
        two = asyncio.create_task(shared.execute("time.sleep(1)\n1 + 1", context_id=context))
        assert end(await one)[0] in ("Succeeded", "TimedOut")
        events = await two
    assert errors(events) in ([], ["NameError"]), "a stopped context begins anew"
    assert end(events)[1] == ""


async def test_a_restart_does_not_wait_for_what_waited_and_what_waited_is_not_run(shared, context):
    running = asyncio.create_task(shared.execute("import time\ntime.sleep(30)", context_id=context))
    await asyncio.sleep(0.2)
    waiting = asyncio.create_task(shared.execute("ran = 1\nimport time\ntime.sleep(5)", context_id=context))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    assert await request(shared, "POST", f"/contexts/{context}/restart") == (200, None)
    assert time.monotonic() - began < 3
    assert end(await running)[0] == "Killed"
    assert end(await waiting) == ("Killed", "NotStarted")
    assert errors(await shared.execute("ran", context_id=context)) == ["NameError"]


async def test_a_context_that_is_deleted_while_it_restarts_has_no_process_left(shared):
    before = len(below(shared))
    _, made = await request(shared, "POST", "/contexts")
    running = asyncio.create_task(shared.execute("import time\ntime.sleep(30)", context_id=made["id"]))
    await asyncio.sleep(0.2)
    restart = asyncio.create_task(request(shared, "POST", f"/contexts/{made['id']}/restart"))
    await asyncio.sleep(0)
    await request(shared, "DELETE", f"/contexts/{made['id']}")
    assert (await restart)[0] in (200, 404, 500)
    await running
    _, listed = await request(shared, "GET", "/contexts")
    assert made["id"] not in [each["id"] for each in listed]
    async with asyncio.timeout(5):
        while len(below(shared)) > before:  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.02)


async def test_calls_about_contexts_keep_an_executor_from_being_idle():
    async with executor(idle_seconds=1) as running:
        await running.claim()
        for _ in range(6):
            status, made = await request(running, "POST", "/contexts")
            assert status == 200
            await asyncio.sleep(0.4)
            assert (await request(running, "DELETE", f"/contexts/{made['id']}"))[0] == 200


async def test_executions_of_a_context_are_counted_by_itself(shared, context):
    assert [(await shared.execute("1", context_id=context))[0]["execution_count"] for _ in range(3)] == [1, 2, 3]


async def test_a_body_of_e2b_runs_in_the_default_context_of_its_language(shared):
    await shared.execute("e2b = 1", stateless=False)
    assert text(await shared.execute("e2b", stateless=False, context_id=None, language=None, env_vars=None)) == "1"
    await shared.execute("e2b=2", stateless=False, language="bash")
    assert printed(await shared.execute("echo $e2b", stateless=False, language="bash")) == "2\n"
    status, listed = await request(shared, "GET", "/contexts")
    assert status == 200
    assert sorted(each["language"] for each in listed) == ["bash", "python"]
    assert {frozenset(each) for each in listed} == {frozenset({"id", "language", "cwd"})}


async def test_a_context_starts_in_its_directory(shared, tmp_path):
    status, made = await request(shared, "POST", "/contexts", cwd="/usr", language="Python")
    assert (status, made["cwd"], made["language"]) == (200, "/usr", "python")
    assert text(await shared.execute("import os; os.getcwd()", context_id=made["id"])) == "/usr"
    await request(shared, "DELETE", f"/contexts/{made['id']}")
    status, said = await request(shared, "POST", "/contexts", cwd="/nowhere")
    assert (status, "/nowhere" in said) == (500, True)


async def test_what_is_asked_wrongly_is_answered_as_e2b_does(shared):
    assert await request(shared, "DELETE", "/contexts/none") == (404, "Context none not found")
    assert await request(shared, "POST", "/contexts/none/restart") == (404, "Context none not found")
    assert (await request(shared, "POST", "/execute", code="1", context_id="none"))[:2] == (
        404,
        "Context none not found",
    )
    assert (await request(shared, "POST", "/execute", code="1", context_id="a", language="python"))[0] == 400
    assert (await request(shared, "POST", "/execute", code="1", language="ruby"))[0] == 500
    assert (await request(shared, "POST", "/contexts", language="r"))[0] == 500
    async with shared.http.get(f"{shared.data_url}/contexts") as answer:
        assert answer.status == 401


async def test_one_execution_runs_at_a_time_and_the_others_have_headers_meanwhile(shared, context):
    slow = asyncio.create_task(shared.execute("import time; time.sleep(0.6); order = ['slow']", context_id=context))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    async with shared.post("order.append('quick'); order", context_id=context) as answer:
        assert answer.status == 200
        assert time.monotonic() - began < 0.3
        events = [json.loads(line) for line in (await answer.text()).splitlines()]
    assert text(events) == "['slow', 'quick']"
    assert end(await slow) == ("Succeeded", "")


async def test_contexts_take_no_slot_and_run_beside_each_other(shared):
    made = [(await request(shared, "POST", "/contexts"))[1]["id"] for _ in range(3)]
    began = time.monotonic()
    runs = [shared.execute("import time; time.sleep(0.7)", context_id=name) for name in made]
    await asyncio.gather(*runs, shared.execute("1"), shared.execute("1"))
    assert time.monotonic() - began < 1.9
    for name in made:
        await request(shared, "DELETE", f"/contexts/{name}")


async def test_a_client_that_goes_away_interrupts_and_the_state_stays(shared, context):
    code = "import time\nkept = 1\ntry:\n  time.sleep(60)\nexcept KeyboardInterrupt:\n  kept = 2\n  raise"
    async with aiohttp.ClientSession() as other:
        body = {"code": code, "context_id": context}
        async with other.post(f"{shared.data_url}/execute", json=body, headers=shared.headers("gone")) as answer:
            await answer.content.readline()
            await asyncio.sleep(0.3)
    ended = await shared.server.wait_for("run ended", 3, execution_id="gone")
    assert (ended["status"], ended["reason"]) == ("Cancelled", "ClientGone")
    assert text(await shared.execute("kept", context_id=context)) == "2"


async def test_a_client_that_goes_away_while_it_waits_never_ran(shared, context):
    slow = asyncio.create_task(shared.execute("import time; time.sleep(0.8); ran = []", context_id=context))
    await asyncio.sleep(0.1)
    async with aiohttp.ClientSession() as other:
        body = {"code": "ran.append(1)", "context_id": context}
        async with other.post(f"{shared.data_url}/execute", json=body, headers=shared.headers("waited")):
            pass
    ended = await shared.server.wait_for("run ended", 3, execution_id="waited")
    assert ended["status"] == "Cancelled"
    await slow
    assert text(await shared.execute("ran", context_id=context)) == "[]"


async def test_a_limit_interrupts_and_keeps_the_state(shared, context):
    began = time.monotonic()
    events = await shared.execute("state = 7\nwhile True: pass", context_id=context, timeout_seconds=0.5)
    assert time.monotonic() - began < 1.5
    assert (end(events), errors(events)) == (("TimedOut", "TimeLimit"), ["KeyboardInterrupt"])
    assert text(await shared.execute("state", context_id=context)) == "7"


STUBBORN = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass"


async def test_a_context_that_resists_is_ended_within_a_second_and_starts_anew(shared, context):
    await shared.execute("state = 7", context_id=context)
    began = time.monotonic()
    events = await shared.execute(STUBBORN, context_id=context, timeout_seconds=0.5)
    assert time.monotonic() - began < 1.5
    assert (end(events), errors(events)) == (("TimedOut", "TimeLimit"), ["ContextRestarting"])
    again = await shared.execute("state", context_id=context)
    assert (errors(again), again[0]["execution_count"]) == (["NameError"], 1)


DEATHS = ["import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)", "import os; os.closerange(0, 99)\nwhile True: pass"]  # fmt: skip


async def test_a_context_that_dies_says_so_and_starts_anew(shared, context):
    for code in DEATHS[:3]:
        events = await shared.execute(code, context_id=context)
        assert (end(events), errors(events)) == (("Killed", "ContextLost"), ["ContextRestarting"]), code
        error = next(event for event in events if event["type"] == "error")
        assert error["value"] == "Context was restarted"
        assert text(await shared.execute("1 + 1", context_id=context)) == "2"


async def test_a_context_that_closed_its_ears_is_ended_at_the_limit(shared, context):
    began = time.monotonic()
    events = await shared.execute(DEATHS[3], context_id=context, timeout_seconds=0.5)
    assert time.monotonic() - began < 1.5
    assert end(events) == ("TimedOut", "TimeLimit")
    assert text(await shared.execute("1 + 1", context_id=context)) == "2"


async def test_a_restart_forgets_and_ends_what_runs(shared, context):
    running = asyncio.create_task(shared.execute("x = 1\nimport time; time.sleep(60)", context_id=context))
    await asyncio.sleep(0.3)
    assert await request(shared, "POST", f"/contexts/{context}/restart") == (200, None)
    events = await running
    assert (end(events), errors(events)) == (("Killed", "ContextLost"), ["ContextRestarting"])
    assert errors(await shared.execute("x", context_id=context)) == ["NameError"]


async def test_a_deletion_ends_what_runs_and_what_waits(shared):
    _, made = await request(shared, "POST", "/contexts")
    running = asyncio.create_task(shared.execute("import time; time.sleep(60)", context_id=made["id"]))
    await asyncio.sleep(0.2)
    waiting = asyncio.create_task(shared.execute("1", context_id=made["id"]))
    await asyncio.sleep(0.2)
    assert await request(shared, "DELETE", f"/contexts/{made['id']}") == (200, None)
    assert end(await running) == ("Killed", "ContextLost")
    events = await waiting
    assert (end(events), errors(events)) == (("Killed", "NotStarted"), ["ContextError"])
    assert (await request(shared, "POST", "/execute", code="1", context_id=made["id"]))[0] == 404


async def test_variables_of_a_call_are_gone_after_it(shared, context):
    code = "import os; os.environ.get('MINE')"
    assert text(await shared.execute(code, context_id=context, env_vars={"MINE": "yes"})) == "yes"
    assert text(await shared.execute(code, context_id=context)) is None
    await shared.execute("import os; os.environ['MINE'] = 'own'", context_id=context)
    assert text(await shared.execute(code, context_id=context, env_vars={"MINE": "yes"})) == "yes"
    assert text(await shared.execute(code, context_id=context)) == "own"


async def test_variables_of_the_claim_are_in_contexts_and_runs():
    async with executor() as running:
        claim = {"secret": running.secret, "principal": "p", "env_vars": {"SANDBOX": "yes"}}
        status, grant = await running.control("/claim", claim)
        assert status == 200
        running.token, running.epoch = grant["token"], grant["epoch"]
        code = "import os; os.environ['SANDBOX']"
        assert text(await running.execute(code)) == "yes"
        assert text(await running.execute(code, stateless=False)) == "yes"
        assert printed(await running.execute("echo $SANDBOX", language="bash", stateless=False)) == "yes\n"
        assert printed(await running.execute("echo $SANDBOX $OWN", language="bash", env_vars={"OWN": "x"})) == "yes x\n"
        status, _ = await running.control("/claim", {**claim, "env_vars": {"A=B": "x"}})
        assert status == 400


async def test_bash_keeps_its_state_and_streams_both_outputs(shared):
    _, made = await request(shared, "POST", "/contexts", language="bash")
    name = made["id"]
    assert end(await shared.execute("cd /usr; f() { echo from f $1; }; x='a b'", context_id=name)) == ("Succeeded", "")
    events = await shared.execute('f 1; pwd; echo "$x"; echo wrong >&2', context_id=name)
    assert (printed(events), printed(events, "stderr")) == ("from f 1\n/usr\na b\n", "wrong\n")
    failed = await shared.execute("false", context_id=name)
    assert (end(failed), errors(failed)) == (("Failed", ""), ["ExitStatus"])
    assert errors(await shared.execute("if", context_id=name)) == ["ExitStatus"]
    slow = await shared.execute("sleep 60", context_id=name, timeout_seconds=0.5)
    assert end(slow) == ("TimedOut", "TimeLimit")
    assert printed(await shared.execute("pwd", context_id=name)) == "/usr\n"
    assert (
        printed(await shared.execute("cat <<'E'\n" + "line\n" * 50_000 + "E\n", context_id=name)).count("line")
        == 50_000
    )
    assert end(await shared.execute("exit 3", context_id=name)) == ("Failed", "")
    assert printed(await shared.execute("pwd", context_id=name)) != "/usr\n"
    await request(shared, "DELETE", f"/contexts/{name}")


async def test_contexts_share_a_home_and_temporary_files_that_runs_do_not_sweep(shared, context):
    code = "import os\nopen('shared.txt', 'w').write('x')\nopen(os.path.join(os.environ['TMPDIR'], 'kept'), 'w').write('y')"
    assert end(await shared.execute(code, context_id=context)) == ("Succeeded", "")
    await shared.execute("1")
    await shared.execute("open(__import__('os').environ['TMPDIR'] + '/x', 'w')")
    _, other = await request(shared, "POST", "/contexts")
    read = "import os\nopen('shared.txt').read() + open(os.path.join(os.environ['TMPDIR'], 'kept')).read()"
    assert text(await shared.execute(read, context_id=other["id"])) == "xy"
    denied = f"import os; os.listdir({str(shared.home_dir)!r})"
    assert errors(await shared.execute(denied)) == ["PermissionError"]
    await request(shared, "DELETE", f"/contexts/{other['id']}")


async def test_output_of_a_context_is_limited_and_ends_the_execution_not_the_state(shared, context):
    events = await shared.execute("s = 1\nwhile True: print('x' * 1000)", context_id=context, output_bytes=10_000)
    assert end(events) == ("Killed", "OutputLimit")
    assert events[-1]["truncated"]
    assert len(printed(events)) == 10_000
    assert text(await shared.execute("s", context_id=context)) == "1"


async def test_what_a_thread_prints_between_executions_blocks_nobody(shared, context):
    code = "import threading, time\nstop = False\ndef work():\n  while not stop: print('x' * 10_000)\nthreading.Thread(target=work, daemon=True).start()"
    await shared.execute(code, context_id=context)
    await asyncio.sleep(0.5)
    await shared.execute("stop = True", context_id=context, output_bytes=1 << 20)
    await asyncio.sleep(0.1)
    assert text(await shared.execute("1 + 1", context_id=context)) == "2"


async def test_a_forged_end_only_ends_the_forgers_own_answer(shared, context):
    forged = 'import os\nos.write(3, b\'{"type":"done","nonce":"guess","well":true,"cpu_seconds":0,"max_rss_bytes":0}\\n\')\nraise KeyError'
    assert errors(await shared.execute(forged, context_id=context)) == ["KeyError"]
    assert text(await shared.execute("1 + 1", context_id=context)) == "2"


async def test_a_lost_runner_ends_contexts_and_they_start_anew_with_the_next():
    async with executor(slots=1) as running:
        await running.claim()
        await running.execute("x = 1", stateless=False)
        task = asyncio.create_task(running.execute("import time; time.sleep(60)", stateless=False))
        await asyncio.sleep(0.3)
        running.runner.process.kill()
        events = await task
        assert (end(events), errors(events)) == (("Unknown", "RunnerLost"), ["ContextRestarting"])
        await running.runner.exit_status()
        await running.wait_ready(ready=False)
        await running.restart_runner()
        await running.wait_ready()
        assert errors(await running.execute("x", stateless=False)) == ["NameError"]


async def test_deleted_contexts_leave_no_process(shared):
    _, listed = await request(shared, "GET", "/contexts")
    for each in listed:
        await request(shared, "DELETE", f"/contexts/{each['id']}")
    await no_process_is_left(shared)
    assert (await shared.state()).held_by().running == 0
