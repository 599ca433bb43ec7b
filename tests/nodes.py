"""A node of processes for an API server in memory, in tests of several rings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from execpool.dev.node import LocalNode
from execpool.kube.client import Kube
from execpool.providers.processes import Processes


@asynccontextmanager
async def running_node(kube: Kube, processes: Processes) -> AsyncIterator[None]:
    """Keep the pods of an API server running as processes."""
    running = asyncio.create_task(LocalNode(kube, processes).run())
    yield
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
