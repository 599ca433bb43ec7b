"""The data port: `/execute` and `/contexts` as E2B has them, and `/health`.

An answer other than 200 means that nothing was started. Headers leave with the first line, or after a moment of silence
when there is none; the end leaves with the last line: a short run is answered by one write.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import orjson

from execpool.executor.server import errors, requests
from execpool.executor.server.app import Application
from execpool.executor.server.claim import Ownership
from execpool.executor.server.contexts import Contexts
from execpool.executor.server.http import Request
from execpool.executor.server.run import Run
from execpool.executor.server.runs import Runs
from execpool.executor.server.visits import visit
from execpool.protocol import HEADER_EPOCH, HEADER_EXECUTION, HEADER_TOKEN, RunReason

_HEADERS_SECONDS = 0.02
"""Headers wait this long for a first line to leave with."""
_NULL = b"null"
MAX_IN_CONTEXTS = 48
"""Executions in contexts, waiting ones included, and answers that are still being read."""


class DataPort:
    """Paths that run code of the one who holds the claim."""

    def __init__(self, ownership: Ownership, runs: Runs, on_change: Callable[[], None]) -> None:
        self._ownership = ownership
        self._on_change = on_change
        self._executions = 0
        self._most_executions = ownership.slots + MAX_IN_CONTEXTS
        self._runs = runs
        self._contexts = Contexts(runs)

    def application(self) -> Application:
        """Return the ASGI application."""
        return Application(
            {
                ("POST", "/execute"): self.execute,
                ("GET", "/contexts"): self.list_contexts,
                ("POST", "/contexts"): self.create_context,
                ("DELETE", "/contexts/*"): self.delete_context,
                ("POST", "/contexts/*/restart"): self.restart_context,
                ("GET", "/health"): self.health,
            }
        )

    async def health(self, request: Request) -> None:
        """Say that the server lives, as E2B's does."""
        await request.answer_text(200, "OK")

    async def execute(self, request: Request) -> None:
        """Run code and stream what it says."""
        self._authorize(request)
        with self._one_more():
            await self._execute(request)

    async def _execute(self, request: Request) -> None:
        execution_id = requests.execution_id(request.header(HEADER_EXECUTION))
        wanted = requests.execute(await request.body(requests.MAX_DATA_BODY))
        self._authorize(request)  # the claim may have moved on while the body was on its way
        if wanted.stateless:
            run = await self._runs.start(execution_id, wanted)
        else:
            run = self._contexts.execute(execution_id, wanted)
        watcher = asyncio.create_task(_stop_when_gone(request, run))
        try:
            await run.first_news(_HEADERS_SECONDS)
            await request.begin_stream()
            async for lines, last in run.lines():
                await request.send(lines, last=last)
        finally:
            watcher.cancel()
            run.stop(RunReason.CLIENT_GONE)

    async def list_contexts(self, request: Request) -> None:
        """List them."""
        self._authorize(request)
        with visit(self._ownership, self._on_change):
            await request.answer(200, orjson.dumps(self._contexts.listing()))

    async def create_context(self, request: Request) -> None:
        """Make one, and answer when it can take code."""
        self._authorize(request)
        wanted = requests.create_context(await request.body(requests.MAX_CONTROL_BODY))
        self._authorize(request)
        with visit(self._ownership, self._on_change):
            context = await self._contexts.create(wanted.language or "python", wanted.cwd)
        await request.answer(200, orjson.dumps(context))

    async def restart_context(self, request: Request) -> None:
        """Give one a new process."""
        self._authorize(request)
        with visit(self._ownership, self._on_change):
            await self._contexts.restart(requests.context_name(request.path))
        await request.answer(200, _NULL)

    async def delete_context(self, request: Request) -> None:
        """End one."""
        self._authorize(request)
        with visit(self._ownership, self._on_change):
            self._contexts.delete(requests.context_name(request.path))
        await request.answer(200, _NULL)

    @contextmanager
    def _one_more(self) -> Iterator[None]:
        """Count an execution from its request to the last byte of its answer: its code and output are held here meanwhile."""
        if self._executions >= self._most_executions:
            message = f"{self._executions} executions are waiting, running or being answered; no more are allowed"
            raise errors.NoFreeSlot("TooManyExecutions", message)
        self._executions += 1
        try:
            yield
        finally:
            self._executions -= 1

    def _authorize(self, request: Request) -> None:
        self._ownership.authorize(request.header(HEADER_TOKEN), requests.epoch(request.header(HEADER_EPOCH)))


async def _stop_when_gone(request: Request, run: Run) -> None:
    await request.disconnected()
    run.stop(RunReason.CLIENT_GONE)
