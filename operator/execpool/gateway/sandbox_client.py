"""E2B sandboxes as executors: E2B's wire, a fresh context for each execution, and the limits that E2B does not keep.

    POST /contexts              nothing has started; whatever is wrong, the execution may go elsewhere
    POST /execute               taken once it answers 200; E2B knows no time limit, so it is kept here
    DELETE /contexts/ID         in the background, whatever became of the run: what it left behind ends with its context
    POST /contexts              in the background too: the *spare* in which the next execution of the hold runs, since a
                                context is a new process, and takes as long as many runs

A run that reaches its limit is TimedOut, and its sandbox is *spent*: E2B interrupts a program, which the program may ignore,
so nothing less ends it for sure. A sandbox is spent as well when E2B does not know it, when it does not accept its tokens,
and when a context in it cannot be deleted.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import orjson

from execpool.core.claiming import Target
from execpool.core.sessions import Opening
from execpool.gateway.e2b_answers import SandboxLostError, Sight, error_of_execute, sight_of
from execpool.gateway.e2b_stream import RunEnd
from execpool.gateway.e2b_wire import DataPlane, OverLimitError, until
from execpool.gateway.events import LineSplitter
from execpool.gateway.executors import (
    BusyError,
    ExecutorError,
    Holding,
    ImpostorError,
    RejectedError,
)
from execpool.gateway.requests import Order
from execpool.gateway.sandbox_claims import SandboxClaims
from execpool.gateway.wire import bounded, translated
from execpool.protocol import ClaimGrant, RunReason, RunStatus

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
"""How long contexts may take to be deleted when the gateway ends."""
SLOTS = 1

_CONTEXT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

Result = TypeVar("Result")
Context = TypeVar("Context", str, str | None)


class SandboxClient:
    """Runs code in sandboxes.

    Args:
        claims: who holds which record.
        on_sight: told what requests say about their account.
        on_spent: told of a sandbox that must serve nobody any more.
    """

    def __init__(
        self,
        claims: SandboxClaims,
        on_sight: Callable[[Target, Sight], None],
        on_spent: Callable[[Target], None],
    ) -> None:
        self._claims = claims
        self._on_sight = on_sight
        self._on_spent = on_spent
        self._plane = DataPlane()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._spares: WeakKeyDictionary[ClaimGrant, asyncio.Task[str | None]] = WeakKeyDictionary()
        """By the grant of the hold; they go with it."""

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._plane.close()

    async def claim(self, target: Target, principal: str, opening: Opening | None = None) -> ClaimGrant:
        if opening is not None:
            raise RejectedError(f"{target.name}: sessions on E2B are not offered yet")
        # The token goes nowhere: it makes each grant another one, and a spare belongs to one grant.
        return ClaimGrant(secrets.token_hex(8), await self._claims.claim(target, principal), SLOTS)

    async def holder(self, target: Target) -> Holding | None:
        principal = target.as_sandbox().principal
        return None if principal is None else Holding(principal)

    async def move_end(self, target: Target, grant: ClaimGrant, session: str, seconds: float) -> None:
        del grant, session, seconds
        raise RejectedError(f"{target.name} serves no session")

    async def retire(self, target: Target) -> None:
        await self._claims.end(target)

    async def execute(self, target: Target, grant: ClaimGrant, run_id: str, order: Order) -> AsyncGenerator[bytes]:
        del run_id  # E2B does not know it; a context runs nothing twice
        context = await self._unused_context(target, grant)
        is_taken = False
        try:
            async with aclosing(self._run(target, context, order)) as lines:
                async for line in lines:
                    if not is_taken:
                        is_taken = True
                        self._report(target, None)
                    yield line
        except ExecutorError as error:
            # What breaks a run that has begun may be the program's own doing, and says nothing about the account.
            if not is_taken:
                self._report(target, error)
            raise
        finally:
            self._spawn(self._delete_context(target, context))
        self._make_spare(target, grant)

    def _report(self, target: Target, error: ExecutorError | None) -> None:
        self._on_sight(target, sight_of(error))
        if isinstance(error, SandboxLostError | ImpostorError):
            self._on_spent(target)

    # One run

    async def _run(self, target: Target, context: str, order: Order) -> AsyncGenerator[bytes]:
        """Yield a run's lines as one of our own executors would say them."""
        end = RunEnd(time.monotonic)
        deadline = asyncio.get_running_loop().time() + order.timeout_seconds
        taken = False
        try:
            async with aclosing(self._lines(target, context, order, deadline)) as lines:
                async for line in lines:
                    taken = True
                    yield end.translated(line) if line else line
            if (missing := end.missing()) is not None:
                yield missing
        except OverLimitError:
            if end.is_over:
                return
            self._on_spent(target)
            if not taken:
                yield b""
            sentence = f"the run took longer than {order.timeout_seconds:g} s; its sandbox has been ended with it"
            yield end.said(RunStatus.TIMED_OUT, RunReason.TIME_LIMIT, sentence)

    async def _lines(self, target: Target, context: str, order: Order, deadline: float) -> AsyncGenerator[bytes]:
        """Yield an empty line once the run is taken, then E2B's lines. Raises OverLimitError at the deadline."""
        body = orjson.dumps({"code": order.code, "context_id": context, "env_vars": order.env})
        response = await until(deadline, target, self._plane.execute(target, body))
        async with response:
            if response.status != 200:
                said = await until(deadline, target, bounded(response.content))
                raise error_of_execute(target.name, response.status, said, response.headers.get("Retry-After", ""))
            yield b""
            splitter = LineSplitter()
            while chunk := await until(deadline, target, response.content.readany()):
                with translated(target):
                    lines = list(splitter.feed(chunk))
                for line in lines:
                    yield line

    # Its context

    async def _unused_context(self, target: Target, grant: ClaimGrant) -> str:
        """Return the spare of a hold, or a new context."""
        spare = self._spares.pop(grant, None)
        if spare is not None and (context := await self._made(target, spare)) is not None:
            return context
        try:
            return await self._made(target, self._spawn(self._create_context(target)))
        except ExecutorError as error:
            self._report(target, error)
            raise

    async def _made(self, target: Target, making: "asyncio.Task[Context]") -> Context:
        """Wait for a context. It is deleted as well when the caller goes away meanwhile."""
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._spawn(self._delete_when_made(target, making))
            raise

    def _make_spare(self, target: Target, grant: ClaimGrant) -> None:
        if grant not in self._spares:
            self._spares[grant] = self._spawn(self._spare(target))

    async def _spare(self, target: Target) -> str | None:
        try:
            return await self._create_context(target)
        except ExecutorError as error:
            log.info("no spare context", extra={"executor": target.name, "error": str(error)})
            return None

    async def _create_context(self, target: Target) -> str:
        said = await self._plane.control("POST", target, "contexts", b"{}")
        try:
            context = orjson.loads(said)["id"]
        except (ValueError, TypeError, KeyError):
            context = None
        if not isinstance(context, str) or not _CONTEXT_ID.fullmatch(context):
            raise BusyError(f"{target.name} answered /contexts with something that is not a context")
        return context

    async def _delete_when_made(self, target: Target, making: "asyncio.Task[Context]") -> None:
        try:
            context = await making
        except ExecutorError:
            return
        if context is not None:
            await self._delete_context(target, context)

    async def _delete_context(self, target: Target, context: str) -> None:
        try:
            await self._plane.control("DELETE", target, f"contexts/{context}", None)
        except ExecutorError as error:
            log.warning("context not deleted", extra={"executor": target.name, "error": str(error)})
            self._on_spent(target)

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
