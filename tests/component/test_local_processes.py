"""Executors as processes of this machine: their start, their places, their pauses and their end."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.component.watching import is_running, until

from execpool.protocol import CONTROL_PORT
from execpool.providers import process_tree
from execpool.providers.local_executor import Identity, LocalExecutor
from execpool.providers.nursery_link import NotStartedError
from execpool.providers.processes import PREFIX, Limits, Processes

OWNER = """
import asyncio, sys
from pathlib import Path
from execpool.providers.processes import Identity, Processes
async def own():
    async with Processes(Path(sys.argv[1])) as processes:
        executor = await processes.start(Identity.drawn())
        print(*executor.pids(), flush=True)
        await asyncio.sleep(60)
asyncio.run(own())
"""


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    async with Processes() as started:
        yield started


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ep-", dir="/var/tmp") as name:
        yield Path(name)


def owned(parent: Path) -> int:
    return len(list(parent.glob(f"{PREFIX}*")))


async def test_an_executor_listens_on_an_address_of_its_own_and_leaves_nothing(processes: Processes) -> None:
    one, other = await asyncio.gather(*(processes.start(Identity.drawn()) for _ in range(2)))
    assert one.address != other.address
    assert all(address.startswith("127.") for address in (one.address, other.address))
    pids = one.pids()
    assert len(pids) >= 4
    await one.end()
    assert await one.died != 0
    assert not any(map(is_running, pids))
    assert not one.places.root.exists()
    assert processes.running() == [other]


async def test_an_executor_says_who_it_is_and_has_the_slots_that_were_asked_for(processes: Processes) -> None:
    identity = Identity.drawn()
    executor = await processes.start(identity, slots=2, limits=Limits(memory_bytes=1 << 30))
    async with aiohttp.ClientSession() as http, http.get(f"http://{executor.address}:{CONTROL_PORT}/state") as answer:
        said = await answer.json(content_type=None)
    assert (said["executor_id"], said["pod_uid"], said["slots"]) == (identity.executor_id, identity.uid, 2)
    assert identity.secret not in repr(identity)


async def test_a_frozen_executor_uses_no_processor_and_goes_on(processes: Processes) -> None:
    executor = await processes.start(Identity.drawn())
    await executor.freeze()
    used = executor.usage().cpu_seconds
    assert {state(pid) for pid in executor.pids()} == {"T"}
    await asyncio.sleep(0.2)
    assert executor.usage().cpu_seconds == used
    await executor.thaw()
    assert "T" not in {state(pid) for pid in executor.pids()}


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_a_runner_that_ends_is_started_again_and_a_server_that_ends_is_the_end(processes: Processes) -> None:
    executor = await processes.start(Identity.drawn())
    server, runner = executor.pids()[:2]
    os.kill(runner, signal.SIGKILL)
    await until(lambda: len(executor.pids()) >= 4 and runner not in executor.pids())
    os.kill(server, signal.SIGKILL)
    assert await executor.died == -signal.SIGKILL
    await until(lambda: not executor.places.root.exists())
    assert processes.running() == []


def killed_owner(parent: Path) -> list[int]:
    """Start an executor in another process, kill that, and return the executor's pids."""
    environment = {"PYTHONPATH": str(Path(process_tree.__file__).parents[2])}
    command = [sys.executable, "-c", OWNER, str(parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        owner.kill()
    return pids


async def test_nothing_outlives_its_owner_and_the_next_one_cleans_up(short_path: Path) -> None:
    pids = await asyncio.to_thread(killed_owner, short_path)
    assert len(pids) >= 4
    await until(lambda: not any(map(is_running, pids)))
    assert owned(short_path) == 1
    async with Processes(short_path):
        assert owned(short_path) == 1
    assert owned(short_path) == 0


async def test_a_place_whose_path_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotStartedError, match="more than 36 characters"):
        await Processes(tmp_path).__aenter__()


def test_a_tree_that_forks_without_end_is_ended_whole() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "while :; do sleep 5 & sleep 0.001; done"]) as bomb:
        time.sleep(0.3)
        process_tree.freeze([bomb.pid])
        pids = process_tree.members([bomb.pid])
        assert len(pids) > 10
        process_tree.end([bomb.pid])
    deadline = time.monotonic() + 5
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_starts_are_quick_because_what_they_import_is_there(processes: Processes) -> None:
    await processes.start(Identity.drawn())
    began = time.monotonic()
    executor: LocalExecutor = await processes.start(Identity.drawn())
    assert executor.usage().cpu_seconds < 1.5
    assert time.monotonic() - began < 10
