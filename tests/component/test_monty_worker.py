"""The fence of a Monty worker, tried from inside: what a worker could do whose interpreter has been taken over."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.component import monty_reference
from tests.hostile.model import MARK, Targets
from tests.hostile.programs import FOR_MONTY, PROGRAMS

from execpool.executor.monty.engine import Job, NotSupported
from execpool.executor.monty.program import Program

SOURCE = Path(__file__).resolve().parents[2] / "operator"

INSIDE = """
import json, mmap, os, resource, signal, socket, sys, threading
sys.path.insert(0, {source!r})
from execpool.executor.monty import fence, worker
from execpool.executor.runner import landlock, sandbox
left_out = set({left_out!r})

def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return os.strerror(error.errno)
    except (MemoryError, RuntimeError) as error:
        return type(error).__name__
    return "done"

def fork():
    if os.fork() == 0:
        os._exit(0)

if "limits" not in left_out:
    worker._limit()
if "landlock" not in left_out:
    sandbox.no_new_privileges()
    landlock.enter_files(landlock.abi(), worker._grants("/nonexistent/monty"))
if "filter" not in left_out:
    fence.enter_filter()
thread = threading.Thread(target=int)
print(json.dumps({{
    "read": outcome(open, {canary!r}),
    "write": outcome(open, {canary!r} + ".new", "w"),
    "list": outcome(os.listdir, "/"),
    "look into others": outcome(open, f"/proc/{{os.getppid()}}/environ"),
    "signal": outcome(os.kill, os.getppid(), 0),
    "network": outcome(socket.socket, socket.AF_INET),
    "unix socket": outcome(socket.socket, socket.AF_UNIX),
    "new process": outcome(fork),
    "another program": outcome(os.execv, {canary!r}, ["x"]),
    "limits of others": outcome(resource.prlimit, os.getppid(), resource.RLIMIT_NOFILE),
    "memory": outcome(bytearray, 256 << 20),
    "thread": outcome(lambda: (thread.start(), thread.join())),
    "map": outcome(mmap.mmap, -1, 4096),
}}))
"""

STILL_WORKS = ("thread", "map")


def from_inside(tmp_path, *left_out):
    """What each attempt came to, under all measures but those left out."""
    canary = tmp_path / "canary"
    canary.write_text("x")
    code = INSIDE.format(source=str(SOURCE), left_out=left_out, canary=str(canary))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_worker_that_was_taken_over_reaches_nothing(tmp_path):
    found = from_inside(tmp_path)
    assert [what for what, outcome in found.items() if outcome == "done"] == list(STILL_WORKS)


@pytest.mark.parametrize(
    ("measure", "then_possible"),
    [
        ("filter", {"network", "unix socket", "new process", "limits of others"}),
        ("landlock", {"read", "write"}),
        ("limits", {"memory"}),
    ],
)
def test_each_measure_holds_something_that_no_other_does(tmp_path, measure, then_possible):
    found = from_inside(tmp_path, measure)
    assert then_possible <= {what for what, outcome in found.items() if outcome == "done"}


async def test_hostile_programs_are_held_by_the_worker_alone_when_no_check_comes_first(tmp_path):
    targets = Targets()
    async with monty_reference.engine(tmp_path) as engine:
        for hostile in (*PROGRAMS, *FOR_MONTY):
            job, printed = Job(hostile.code), []
            source = targets.code(hostile)
            with suppress(NotSupported):
                await engine.feed(job, Program(source, has_result=False), lambda _, text, out=printed: out.append(text))
            assert MARK not in "".join(printed), hostile.name
            assert job.crashed is None, hostile.name
            assert (await engine.run(Job("1 + 1"))).text == "2", hostile.name
