"""What a fresh run finds: nothing of the runner, nothing of an earlier run, and random numbers of its own."""

import asyncio
import json

import pytest
import pytest_asyncio
from tests.component.executor_process import executor, no_process_is_left, wait_until_gone

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with executor(slots=2, runner_variables={"SECRET_OF_THE_POD": "x"}) as running:
        await running.claim()
        yield running


async def say(running, code, **fields):
    """What a program prints, as JSON."""
    events = await running.execute(f"import json\ndef say(x): print(json.dumps(x))\n{code}", **fields)
    printed = "".join(event["text"] for event in events if event["type"] == "stdout")
    assert printed, events
    return json.loads(printed)


RANDOM = """
import random, secrets, uuid
import numpy as np
say([random.random(), np.random.random(), np.random.default_rng().random(), secrets.token_hex(8), str(uuid.uuid4()),
     np.random.randint(1 << 30), random.SystemRandom().random()])
"""


async def test_every_generator_of_random_numbers_differs_from_run_to_run(shared):
    pytest.importorskip("numpy")
    seen = [await say(shared, RANDOM) for _ in range(8)]
    assert [len(set(column)) for column in zip(*seen, strict=True)] == [8] * 7


async def test_descriptors_are_input_outputs_and_the_report(shared):
    code = "import os\nfound = {int(n): os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.islink(f'/proc/self/fd/{n}')}\nsay(found)"
    found = await say(shared, code)
    assert sorted(found) == ["0", "1", "2", "3"]
    assert found["0"] == "/dev/null"
    assert all(found[number].startswith("pipe:") for number in ("1", "2", "3"))
    inherited = (
        "import subprocess\nsay(subprocess.run(['ls', '/proc/self/fd'], capture_output=True, text=True).stdout.split())"
    )
    assert await say(shared, inherited) == ["0", "1", "2", "3"]  # the last is ls reading the directory


async def test_a_run_has_a_new_private_directory_with_a_name_that_nobody_can_guess(shared):
    code = "import os\nsay([os.getcwd(), oct(os.stat('.').st_mode & 0o777), os.listdir('.'), os.environ['HOME'], os.environ['TMPDIR']])"
    places = [await say(shared, code) for _ in range(3)]
    assert len({place[0] for place in places}) == 3
    for cwd, mode, listed, home, temporary in places:
        assert (mode, listed, home, temporary) == ("0o700", [], cwd, cwd)
        assert len(cwd.rpartition("-")[2]) == 24
        assert cwd.startswith(f"{shared.work_dir}/")


async def test_the_environment_holds_what_is_allowed_and_no_more(shared):
    found = await say(shared, "import os\nsay(sorted(os.environ))", env_vars={"MINE": "1"})
    allowed = {"PATH", "LANG", "LC_ALL", "TZ", "HOME", "PWD", "TMPDIR", "MPLBACKEND", "MPLCONFIGDIR", "OMP_NUM_THREADS"}
    assert set(found) <= allowed | {"MINE", "PAGER", "GIT_PAGER"}
    assert "MINE" in found


PROCESS = """
import os, signal, threading, resource, sys, logging, tempfile
handlers = {repr(n).split(":")[0].strip("<"): str(signal.getsignal(n)) for n in signal.valid_signals() if signal.getsignal(n) not in (signal.SIG_DFL, None)}
umask = os.umask(0)
say({"umask": umask, "threads": len(os.listdir("/proc/self/task")), "python": threading.active_count(), "handlers": handlers,
     "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "session": os.getsid(0) == os.getpid(), "argv": sys.argv,
     "core": resource.getrlimit(resource.RLIMIT_CORE), "logging": [logging.root.level, len(logging.root.handlers)],
     "temporary": tempfile.gettempdir() == os.getcwd(), "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0]})
"""


async def test_a_process_starts_as_a_fresh_interpreter_does(shared):
    found = await say(shared, PROCESS)
    assert sorted(found.pop("handlers")) == ["Signals.SIGINT", "Signals.SIGPIPE"]
    assert found == {
        "umask": 0o022,
        "threads": 1,
        "python": 1,
        "blocked": [],
        "session": True,
        "argv": [""],
        "core": [0, 0],
        "logging": [30, 0],
        "temporary": True,
        "files": 1024,
    }


MARK = "a-word-that-only-the-first-run-knew"
SPOIL = f"""
import sys, os, builtins, json, random
builtins.spoiled = {MARK!r}
json.spoiled = sys.spoiled = {MARK!r}
os.environ['SPOILED'] = {MARK!r}
random.seed(1)
keep = [{MARK!r} * 1000]
"""
SEARCH = """
import sys, os, builtins, json, gc
word = '-'.join(['a', 'word', 'that', 'only', 'the', 'first', 'run', 'knew']) * 1000
say([hasattr(builtins, 'spoiled'), hasattr(json, 'spoiled'), hasattr(sys, 'spoiled'), 'SPOILED' in os.environ,
     any(type(each) is list and word in each for each in gc.get_objects())])
"""


async def test_no_object_of_a_run_is_found_in_the_next(shared):
    for _ in range(6):
        await shared.execute(SPOIL)
    for _ in range(6):
        assert await say(shared, SEARCH) == [False] * 5


async def test_history_and_counters_of_the_notebook_begin_anew(shared):
    await shared.execute("1 + 41")
    events = await shared.execute("print(len(In), Out, _ if '_' in globals() else '', 'x' in dir())")
    printed = "".join(event["text"] for event in events if event["type"] == "stdout")
    assert printed == "2 {}  False\n"


async def test_files_that_a_run_leaves_are_gone_when_nobody_runs(shared):
    places = [shared.scratch_dir, shared.directory / "shm"]
    code = "\n".join(
        f"import os\nos.makedirs('{place}/deep/er', exist_ok=True)\nopen('{place}/deep/er/file', 'w').write('x')\nos.chmod('{place}/deep', 0)"
        for place in places
    )
    await shared.execute(code)
    await wait_until_gone(lambda: [path for place in places for path in place.iterdir()])
    await shared.execute("import os\nfor i in range(2000): open(str(i), 'w').close()\nos.makedirs('a/' * 400)")
    await no_process_is_left(shared)
    await wait_until_gone(lambda: list(shared.work_dir.iterdir())[2 * 3 :])


async def test_two_runs_at_once_do_not_find_each_other():
    hide = "import os, time\nopen('secret', 'w').write('hidden')\nprint(os.getcwd(), flush=True)\ntime.sleep(1.2)"
    async with executor(slots=2) as running:
        await running.claim()
        async with running.post(hide) as answer:
            await answer.content.readline()
            place = json.loads(await answer.content.readline())["text"].strip()
            look = f"""
import os
def attempt(action):
    try: return repr(action())
    except OSError as error: return type(error).__name__
place = {place!r}
say([attempt(lambda: open(place + '/secret').read()), attempt(lambda: os.listdir(place)), attempt(lambda: os.listdir(os.path.dirname(place))),
     attempt(lambda: open(place + '/new', 'w')), attempt(lambda: os.rename(place, place + 'x')), attempt(lambda: os.rmdir(place))])
"""
            assert await say(running, look) == ["PermissionError"] * 6
            await answer.read()


async def test_many_forks_stay_clean_beside_each_other():
    async with executor(slots=4) as running:
        await running.claim()
        code = "import os, random\nsay([os.getpid(), random.random(), os.getcwd()])"
        seen = []
        for _ in range(10):
            seen += await asyncio.gather(*(say(running, code) for _ in range(4)))
        assert [len(set(column)) for column in zip(*seen, strict=True)] == [40, 40, 40]
