"""Sends executions of `1+1` through the gateway and checks every answer; how often and how fast."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.cluster import Namespace
from benchmarks.executors import CODE, VALUE
from benchmarks.figures import BenchmarkError

NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Caller:
    """Somebody with a key who runs code as one user."""

    namespace: Namespace
    user: str

    async def run(self) -> None:
        """Run once and take the answer as one JSON document."""
        answer = await self._post({})
        _check(orjson.loads(answer))

    async def stream(self) -> None:
        """Run once and take the answer as it comes."""
        answer = await self._post({"Accept": NDJSON})
        _check(orjson.loads(answer.splitlines()[-1]))

    async def _post(self, headers: dict[str, str]) -> bytes:
        space = self.namespace
        body = orjson.dumps({"code": CODE, "pool": "pool", "user": self.user})
        sent = {"Authorization": f"Bearer {space.key}", "Content-Type": "application/json", **headers}
        async with space.cluster.http.post(
            f"{space.cluster.gateway_url}/v1/executions", data=body, headers=sent
        ) as response:
            answer = await response.read()
        if response.status != 200:
            raise BenchmarkError(f"the gateway answered {response.status}: {answer[:300].decode(errors='replace')}")
        return answer


def rounds(most: int, *, least: int, seconds: float) -> Iterator[int]:
    """Count rounds up to `most`, but no more once the time is used up; `least` there are in any case.

    A busy machine then gives fewer samples, and says so by its n, rather than no result.
    """
    deadline = time.monotonic() + seconds
    for number in range(most):
        if number >= least and time.monotonic() > deadline:
            return
        yield number


async def timed(work: Coroutine[Any, Any, object]) -> float:
    """Return how long something took, in seconds."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def at_rate(
    work: Callable[[int], Coroutine[Any, Any, None]], *, per_second: float, seconds: float
) -> list[float]:
    """Start work at a fixed rate, whether or not earlier work has ended; return latencies.

    Each is counted from when it was meant to start, so that a stall of ours or of the server is not hidden by the
    requests that were not sent meanwhile.

    Raises:
        BenchmarkError: some of it failed.
    """
    count = round(per_second * seconds)
    began = time.perf_counter()

    async def one(number: int) -> float:
        intended = began + number / per_second
        await asyncio.sleep(max(intended - time.perf_counter(), 0))
        await work(number)
        return time.perf_counter() - intended

    done = await asyncio.gather(*(one(number) for number in range(count)), return_exceptions=True)
    failed = [outcome for outcome in done if isinstance(outcome, BaseException)]
    if failed:
        raise BenchmarkError(f"{len(failed)} of {count} failed; the first: {failed[0]!r}")
    return [outcome for outcome in done if isinstance(outcome, float)]


def _check(answer: dict[str, Any]) -> None:
    values = [result.get("text") for result in answer.get("results") or []]
    if answer.get("status") != "Succeeded" or values != [VALUE]:
        raise BenchmarkError(f"the gateway did not answer {VALUE}: {str(answer)[:300]}")
