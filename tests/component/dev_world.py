"""`execpool dev` as a user has it: the real command in a process of its own, and what becomes of everything it started."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from execpool.providers import process_tree
from execpool.providers.processes import PREFIX

SOURCE = Path(process_tree.__file__).parents[2]
NOBODY = 65534
WAIT_SECONDS = 60.0

POOL = """
apiVersion: execpool.dev/v1alpha1
kind: ExecutionPool
metadata: {name: agents, namespace: agents}
spec:
  replicas: 2
  tiers:
  - name: local
    pods: {max: 4, slots: 2, resources: {limits: {memory: 512Mi}}}
"""

Event = dict[str, Any]


@dataclass
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass
class Dev:
    """The command while it serves."""

    process: asyncio.subprocess.Process
    ready: Event
    http: aiohttp.ClientSession

    async def post(self, code: str, **fields: Any) -> tuple[int, Event]:
        headers = {"Authorization": f"Bearer {self.ready['key']}"}
        async with self.http.post(
            f"{self.ready['url']}/v1/executions", json={"code": code, **fields}, headers=headers
        ) as response:
            return response.status, await response.json(content_type=None)

    async def run(self, code: str, **fields: Any) -> Event:
        status, answer = await self.post(code, **fields)
        assert status == 200, answer
        return answer

    async def next(self, fits: Callable[[Event], bool]) -> Event:
        """Return the next event that fits."""
        async with asyncio.timeout(WAIT_SECONDS):
            return await _until(self.process, fits)

    def pids(self) -> list[int]:
        return process_tree.members([self.process.pid])

    def directory(self) -> Path:
        """Where its executors have their places: the working directories of their processes are below."""
        for pid in self.pids():
            with suppress(OSError):
                where = Path(f"/proc/{pid}/cwd").readlink()
                for path in (where, *where.parents):
                    if path.name.startswith(PREFIX):
                        return path
        raise AssertionError("no process has a directory of ours")

    async def end(self, number: signal.Signals) -> int:
        """Send a signal; return the exit status once it has ended."""
        self.process.send_signal(number)
        async with asyncio.timeout(WAIT_SECONDS):
            await self.process.communicate()
        return self.process.returncode or 0


def command(*arguments: str, uid: int | None = None) -> list[str]:
    """The command line; as another user, when we are root, who may read where Python is and nothing else more than anybody."""
    dropped = [
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--bounding-set=-all,+dac_read_search",
        "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
    ]  # fmt: skip
    prefix = dropped if uid is not None and os.geteuid() == 0 else []
    return [*prefix, sys.executable, "-m", "execpool.cli.main", *arguments]


async def execpool(*arguments: str, uid: int | None = None, stdin: str = "", **variables: str) -> Ended:
    """Run a command of ours to its end."""
    process = await _start(*arguments, uid=uid, variables=variables)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            out, err = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ended(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def dev(text: str = POOL, *options: str, uid: int | None = None) -> AsyncIterator[Dev]:
    """Serve a pool; whatever is left afterwards is killed."""
    with written(text) as file:
        process = await _start("dev", str(file), "--port", "0", "--output", "json", *options, uid=uid)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                ready = await _until(process, lambda event: event["event"] == "ready")
            async with aiohttp.ClientSession() as http:
                yield Dev(process, ready, http)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()


@contextmanager
def written(text: str) -> Iterator[Path]:
    """A file with this text, which everybody can read."""
    with tempfile.NamedTemporaryFile("w", prefix="ep-", suffix=".yaml", dir="/var/tmp") as file:
        file.write(text)
        file.flush()
        Path(file.name).chmod(0o644)
        yield Path(file.name)


async def _start(
    *arguments: str, uid: int | None = None, variables: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "COLUMNS": "200", "TERM": "dumb"}
    return await asyncio.create_subprocess_exec(
        *command(*arguments, uid=uid),
        env={**environment, **(variables or {})},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )


async def _until(process: asyncio.subprocess.Process, fits: Callable[[Event], bool]) -> Event:
    assert process.stdout is not None
    while line := await process.stdout.readline():
        if fits(event := json.loads(line)):
            return event
    assert process.stderr is not None
    raise AssertionError(f"it ended instead: {(await process.stderr.read()).decode()}")
