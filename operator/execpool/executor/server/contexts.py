"""All contexts of this executor: made, found, restarted, deleted, and given executions in turn, as E2B does.

Contexts take no slot of the executor: they are bounded by a number of their own. A language has a default context, made
when it is first used. An execution is accepted at once, so that its client gets headers while it waits; it is stopped
in the queue as it is when it runs.
"""

import asyncio
import secrets
from collections.abc import Mapping

from execpool.executor.server import errors
from execpool.executor.server.context import Context
from execpool.executor.server.run import Run
from execpool.executor.server.runs import Runs
from execpool.executor.server.slot import SlotGone
from execpool.protocol import ExecuteRequest

MAX_CONTEXTS = 32
MAX_WAITING = 64
"""Executions that wait for their turn in one context."""
_HOME = "/home/user"
_ATTEMPTS = 2
"""A process may have ended while nobody looked; a second one is tried before anything has run."""


class Contexts:
    """The contexts by name."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._contexts: dict[str, Context] = {}
        self._defaults: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, language: str, cwd: str | None) -> Mapping[str, str]:
        """Make a context and return it as the protocol has it.

        Raises:
            Refusal: there are too many, or it could not be started; then it does not exist.
        """
        context = self._add(language, cwd)
        try:
            async with context.turn:
                await context.start()
        except (errors.Refusal, OSError):
            self._contexts.pop(context.name, None)
            raise
        return _wire(context)

    def listing(self) -> list[Mapping[str, str]]:
        """Return all contexts as the protocol has them."""
        return [_wire(context) for context in self._contexts.values()]

    async def restart(self, name: str) -> None:
        """Give a context a new process; what runs in it is ended.

        Raises:
            Refusal: there is no such context, or no new process.
        """
        context = self._named(name)
        context.restarts += 1
        context.close()
        async with context.turn:
            if self._contexts.get(name) is not context:
                raise errors.NoContext("ContextNotFound", f"Context {name[:64]} not found")
            await context.start()

    def delete(self, name: str) -> None:
        """End a context and what runs or waits in it.

        Raises:
            NotFound: there is no such context.
        """
        context = self._named(name)
        del self._contexts[name]
        self._defaults = {language: other for language, other in self._defaults.items() if other != name}
        context.close()

    def execute(self, execution_id: str, request: ExecuteRequest) -> Run:
        """Accept an execution for a context; it begins when it is its turn.

        Raises:
            Refusal: it was not accepted.
        """
        context = self._named(request.context_id) if request.context_id else self._default(request.language or "python")
        if context.waiting >= MAX_WAITING:
            raise errors.NoFreeSlot("ContextBusy", f"{context.waiting} executions wait for this context")
        self._runs.admit(execution_id, in_context=True)
        run = Run(execution_id, request, context, in_context=True)
        self._runs.add(run)
        task = asyncio.create_task(self._take_turn(context, run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return run

    async def _take_turn(self, context: Context, run: Run) -> None:
        accepted_at = context.restarts
        context.waiting += 1
        try:
            await context.turn.acquire()
        finally:
            context.waiting -= 1
        try:
            if context.restarts == accepted_at:
                await self._execute(context, run)
            else:
                run.fail(f"Context {context.name} was restarted")
        finally:
            context.turn.release()

    async def _execute(self, context: Context, run: Run) -> None:
        for _ in range(_ATTEMPTS):
            if run.over:
                return
            if context.name not in self._contexts:
                break
            try:
                await context.execute(run)
                return
            except SlotGone:
                continue
            except errors.Refusal as refusal:
                run.fail(refusal.message)
                return
            except OSError as error:
                run.fail(f"the context could not be started: {error.strerror}")
                return
        run.fail(f"Context {context.name} not found")

    def _add(self, language: str, cwd: str | None) -> Context:
        if len(self._contexts) >= MAX_CONTEXTS:
            raise errors.TooManyContexts("TooManyContexts", f"there are {MAX_CONTEXTS} contexts, no more are allowed")
        context = Context(secrets.token_hex(16), language, cwd, self._runs)
        self._contexts[context.name] = context
        return context

    def _named(self, name: str) -> Context:
        context = self._contexts.get(name)
        if context is None:
            raise errors.NoContext("ContextNotFound", f"Context {name[:64]} not found")
        return context

    def _default(self, language: str) -> Context:
        name = self._defaults.get(language)
        if name is None:
            name = self._defaults[language] = self._add(language, None).name
        return self._contexts[name]


def _wire(context: Context) -> Mapping[str, str]:
    return {"id": context.name, "language": context.language, "cwd": context.cwd or _HOME}
