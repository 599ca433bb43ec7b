"""An executor that is claimed, for benchmarks of the executor itself: runs code, reads the server's clock, looks inside.

Programs of our own run in the runner's container too, beside the runner and under the same limits (`exec_in_runner`):
what they measure differs from the product in nothing but what they do.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from benchmarks import processes
from benchmarks.cluster import Namespace
from benchmarks.executors import claim, execute_headers, executor_of
from benchmarks.figures import BenchmarkError
from execpool.kube.client import Object
from execpool.protocol import ClaimGrant, ExecuteRequest

CLUSTER = Path(__file__).resolve().parents[1] / "tests" / "cluster"
GROUPBY = "import pandas as pd\npd.DataFrame({'a': [1, 1, 2], 'b': [1, 2, 3]}).groupby('a').sum()"
LIMIT = aiohttp.ClientTimeout(total=75, connect=5)


@dataclass(frozen=True)
class Answer:
    """What came of a request: its HTTP status, its events, and when it was sent and answered (monotonic)."""

    status: int
    events: list[Any]
    sent: float
    answered: float

    @property
    def end(self) -> str:
        """How it ended, in two words."""
        if not self.events:
            return f"HTTP {self.status}"
        last = self.events[-1]
        return f"{last.get('status')} {last.get('reason') or ''}".strip()

    @property
    def well(self) -> bool:
        """True when the program succeeded."""
        return self.end == "Succeeded"

    @property
    def printed(self) -> str:
        """All that it wrote to stdout."""
        return "".join(event["text"] for event in self.events if event["type"] == "stdout")


@dataclass(frozen=True)
class Held:
    """A claimed executor."""

    http: aiohttp.ClientSession
    url: str
    grant: ClaimGrant
    pod: Object

    async def ask(self, request: ExecuteRequest) -> Answer:
        """Run something and return whatever comes of it."""
        sent = time.monotonic()
        headers = execute_headers(self.grant)
        async with self.http.post(self.url, data=request.encode(), headers=headers, timeout=LIMIT) as response:
            body = await response.read()
        events = [orjson.loads(line) for line in body.splitlines()] if response.status == 200 else []
        return Answer(response.status, events, sent, time.monotonic())

    async def run(self, code: str, *, stateless: bool = True, context: str | None = None, limit: float = 60) -> Answer:
        """Run something that has to succeed."""
        answer = await self.ask(ExecuteRequest(code, stateless=stateless, context_id=context, timeout_seconds=limit))
        if not answer.well:
            raise BenchmarkError(f"{code[:60]!r} ended as {answer.end}: {str(answer.events[-2:])[:300]}")
        return answer

    async def wall_seconds(self, code: str, rounds: int, *, stateless: bool = True, pause: float = 0.0) -> list[float]:
        """Run something again and again; return how long the server says that each took."""
        await self.run(code, stateless=stateless)
        seconds = []
        for _ in range(rounds):
            await asyncio.sleep(pause)
            answer = await self.run(code, stateless=stateless)
            seconds.append(float(answer.events[-1]["wall_seconds"]))
        return seconds

    async def new_context(self) -> str:
        """Make a context and return its name."""
        url = self.url.replace("/execute", "/contexts")
        async with self.http.post(url, data=b"{}", headers=execute_headers(self.grant)) as response:
            return str((await response.json())["id"])

    async def exec_in_runner(self, program: str, *arguments: str) -> str:
        """Run a program of ours in the runner's container, outside every run; return what it prints."""
        meta = self.pod["metadata"]
        place = ("exec", "-i", "-n", meta["namespace"], meta["name"], "-c", "runner")
        command = (sys.executable, str(CLUSTER), "kubectl", *place, "--", "python", "-", *arguments)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
        printed, complained = await process.communicate(program.encode())
        if process.returncode != 0:
            raise BenchmarkError(f"a program in the runner's container failed: {complained.decode()[-300:]}")
        return printed.decode()

    def runner(self) -> tuple[int, ...]:
        """Return the processes of the runner's container, as this host numbers them; none while it is away."""
        try:
            return processes.of_container(self.pod["metadata"]["uid"], "runner")
        except BenchmarkError:
            return ()

    def programs(self) -> tuple[int, ...]:
        """Return those that run code or wait for it: the ones that the kernel is to end first."""
        return tuple(pid for pid in self.runner() if processes.is_victim(pid))


async def hold(space: Namespace, *, slots: int = 4, cpu: str = "1", memory: str = "1Gi") -> Held:
    """Have a pool of one executor in this namespace, and claim it."""
    limits = {"cpu": cpu, "memory": memory}
    resources = {"limits": limits, "requests": {"cpu": "10m", "memory": "64Mi"}}
    pool = await space.fill_pool(warm=1, most=1, slots=slots, resources=resources)
    (pod,) = await space.executors(pool)
    executor = executor_of(pod, space.cluster.keys)
    grant = await claim(space.cluster.http, executor, f"benchmark-{secrets.token_hex(4)}")
    return Held(space.cluster.http, executor.data_url, grant, pod)


def pairs(values: list[list[float]]) -> Iterator[list[float]]:
    """Turn rounds of (a, b, ...) into the series of a, of b, ..."""
    return (list(series) for series in zip(*values, strict=True))
