"""What a call in a context costs beside ipykernel, for what programs do most.

Both on this host, with the Python and the IPython of the development environment, in turn: the image of executors has no
ipykernel. Ours is the executor of the component tests, two processes with every measure that a kernel gives without a
pod. ipykernel's time is the whole round trip of `jupyter_client`, which is what its users wait for; ours is given
at the server (from the hand-over to the end of what was said), as the peer of which nothing of HTTP is counted, and over HTTP.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager
from tests.component.executor_process import LocalExecutor, executor

from benchmarks.cluster import Namespace
from benchmarks.figures import BenchmarkError, Result, Row, times

ROUNDS = 150
PREPARE = "import pandas as pd\nframe = pd.DataFrame({'a': range(20), 'b': [x / 3 for x in range(20)]})"
CODE = {
    "`1`": "1",
    "`print(1)`": "print(1)",
    "10 kB of stdout": "print('x' * 10_000)",
    "a DataFrame": "frame",
    "an exception": "1 / 0",
}


async def measure(_space: Namespace) -> Result:
    rows: list[Row] = []
    async with _kernel() as kernel, executor() as ours:
        await ours.claim()
        await _in_kernel(kernel, PREPARE)
        await _in_context(ours, PREPARE)
        for name, code in CODE.items():
            rounds = []
            for _ in range(ROUNDS):
                theirs = await _in_kernel(kernel, code)
                rounds.append((theirs, *await _in_context(ours, code)))
            kernel_seconds, over_http, at_server = map(list, zip(*rounds, strict=True))
            rows += [
                times(f"{name}: ipykernel", kernel_seconds),
                times(f"{name}: context, at the server", at_server, peer=kernel_seconds),
                times(f"{name}: context, over HTTP", over_http, peer=kernel_seconds),
            ]
    return Result(tuple(rows), ("both on this host, in turn; see the program for what is counted.",))


@asynccontextmanager
async def _kernel() -> AsyncIterator[AsyncKernelClient]:
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=30)
        yield client
    finally:
        client.stop_channels()
        await manager.shutdown_kernel(now=True)


async def _in_kernel(client: AsyncKernelClient, code: str) -> float:
    """Run code; return the time until the kernel is idle again, with all that it said read."""
    began = time.perf_counter()
    request = client.execute(code)
    while True:
        message: Any = await client.get_iopub_msg(timeout=10)
        if message["parent_header"].get("msg_id") == request and message["content"].get("execution_state") == "idle":
            break
    took = time.perf_counter() - began
    await client.get_shell_msg(timeout=10)
    return took


async def _in_context(ours: LocalExecutor, code: str) -> tuple[float, float]:
    """Run code; return its time over HTTP, and at the server."""
    began = time.perf_counter()
    events = await ours.execute(code, stateless=False)
    took = time.perf_counter() - began
    if events[-1]["status"] not in ("Succeeded", "Failed"):
        raise BenchmarkError(f"{code!r} ended as {events[-1]}")
    return took, float(events[-1]["wall_seconds"])
