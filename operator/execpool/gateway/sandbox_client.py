"""E2B sandboxes as executors: E2B's wire, a fresh context for each execution, and the limits that E2B does not keep.

    POST /contexts              nothing has started; whatever is wrong, the execution may go elsewhere
    POST /execute               taken once it answers 200; E2B knows no time limit, so it is kept here
    DELETE /contexts/ID         in the background, whatever became of the run: what it left behind ends with its context

A run that reaches its limit is TimedOut, and its sandbox is *spent*: E2B interrupts a program, which the program may ignore,
so nothing less ends it for sure. A sandbox is spent as well when E2B does not know it, when it does not accept its tokens,
and when a context in it cannot be deleted.

Headers and address come from the sealed part of the record alone. Redirects are not followed, certificates are checked.
"""

import asyncio
import io
import logging
import re
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import aiohttp
import orjson

from execpool.core.claiming import Target
from execpool.gateway.e2b_answers import SandboxLostError, Sight, error_before, error_of_execute, sight_of
from execpool.gateway.e2b_stream import RunEnd
from execpool.gateway.events import LineSplitter, MisbehavedError
from execpool.gateway.executors import (
    BrokenReplyError,
    BusyError,
    ExecutorError,
    ImpostorError,
    LostError,
    UnreachableError,
    UnresponsiveError,
)
from execpool.gateway.requests import Order
from execpool.gateway.sandbox_claims import SandboxClaims
from execpool.protocol import DATA_PORT, KEEPALIVE_SECONDS, ClaimGrant, RunReason, RunStatus

log = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
CONTEXT_TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=CONNECT_SECONDS)
"""A context is a new process: a second or two in a microVM whose memory is not there yet."""
SILENCE_SECONDS = 6 * KEEPALIVE_SECONDS
EXECUTE_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
IDLE_CONNECTION_SECONDS = 60.0
CLOSE_SECONDS = 2.0
"""How long contexts may take to be deleted when the gateway ends."""
MAX_ANSWER_BYTES = 64 << 10
MAX_WHOLE_BYTES = 1 << 20
"""Longer bodies are sent in pieces, so that they do not hold up the loop."""
SLOTS = 1

_CONTEXT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

Result = TypeVar("Result")


class _OverLimitError(Exception):
    """The run's time is up."""


class SandboxClient:
    """Talks to E2B's data plane over kept-alive connections.

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
        self._tasks: set[asyncio.Task[Any]] = set()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            headers={
                "Content-Type": "application/json",
                "User-Agent": "execpool-gateway",
                "Accept-Encoding": "identity",
            },
        )

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    async def claim(self, target: Target, principal: str) -> ClaimGrant:
        return ClaimGrant("", await self._claims.claim(target, principal), SLOTS)

    async def holder(self, target: Target) -> str | None:
        return target.as_sandbox().principal

    async def retire(self, target: Target) -> None:
        await self._claims.end(target)

    async def execute(self, target: Target, grant: ClaimGrant, run_id: str, order: Order) -> AsyncGenerator[bytes]:
        del grant, run_id  # E2B knows neither: the record is what fences, and a context runs nothing twice
        context = await self._fresh_context(target)
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
        except _OverLimitError:
            if end.is_over:
                return
            self._on_spent(target)
            if not taken:
                yield b""
            sentence = f"the run took longer than {order.timeout_seconds:g} s; its sandbox has been ended with it"
            yield end.said(RunStatus.TIMED_OUT, RunReason.TIME_LIMIT, sentence)

    async def _lines(self, target: Target, context: str, order: Order, deadline: float) -> AsyncGenerator[bytes]:
        """Yield an empty line once the run is taken, then E2B's lines. Raises _OverLimitError at the deadline."""
        body = orjson.dumps({"code": order.code, "context_id": context, "env_vars": order.env})
        data = body if len(body) <= MAX_WHOLE_BYTES else io.BytesIO(body)
        post = self._session.post(_url(target, "execute"), data=data, **_options(target, EXECUTE_TIMEOUT))
        response = await _until(deadline, target, post)
        async with response:
            if response.status != 200:
                said = await _until(deadline, target, _bounded(response.content))
                raise error_of_execute(target.name, response.status, said, response.headers.get("Retry-After", ""))
            yield b""
            splitter = LineSplitter()
            while chunk := await _until(deadline, target, response.content.readany()):
                with _translated(target):
                    lines = list(splitter.feed(chunk))
                for line in lines:
                    yield line

    # Its context

    async def _fresh_context(self, target: Target) -> str:
        """Make a context. It is deleted as well when the caller goes away meanwhile."""
        making = self._spawn(self._create_context(target))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._spawn(self._delete_when_made(target, making))
            raise
        except ExecutorError as error:
            self._report(target, error)
            raise

    async def _create_context(self, target: Target) -> str:
        said = await self._control("POST", target, "contexts", b"{}")
        try:
            context = orjson.loads(said)["id"]
        except (ValueError, TypeError, KeyError):
            context = None
        if not isinstance(context, str) or not _CONTEXT_ID.fullmatch(context):
            raise BusyError(f"{target.name} answered /contexts with something that is not a context")
        return context

    async def _delete_when_made(self, target: Target, making: "asyncio.Task[str]") -> None:
        try:
            context = await making
        except ExecutorError:
            return
        await self._delete_context(target, context)

    async def _delete_context(self, target: Target, context: str) -> None:
        try:
            await self._control("DELETE", target, f"contexts/{context}", None)
        except ExecutorError as error:
            log.warning("context not deleted", extra={"executor": target.name, "error": str(error)})
            self._on_spent(target)

    async def _control(self, method: str, target: Target, path: str, body: bytes | None) -> bytes:
        """Ask for something that runs no code."""
        with _translated(target):
            try:
                async with self._session.request(
                    method, _url(target, path), data=body, **_options(target, CONTEXT_TIMEOUT)
                ) as response:
                    said = await _bounded(response.content)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                raise UnreachableError(f"/contexts of {target.name} was not answered") from error
            if response.status != 200:
                raise error_before(target.name, response.status, said, response.headers.get("Retry-After", ""))
        return said

    def _spawn(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _until(deadline: float, target: Target, work: "Coroutine[Any, Any, Result]") -> Result:
    """Wait for a step of a run. Raises _OverLimitError once the run's time is up."""
    limit = asyncio.timeout_at(deadline)
    try:
        with _translated(target):
            async with limit:
                return await work
    except UnresponsiveError:
        if limit.expired():
            raise _OverLimitError from None
        raise


@contextmanager
def _translated(target: Target) -> Iterator[None]:
    """Say what went wrong with a connection in terms of whether code may have started."""
    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
        raise UnreachableError(f"no connection to {target.name}") from error
    except TimeoutError as error:
        raise UnresponsiveError(f"{target.name} has been silent for {SILENCE_SECONDS:.0f} s") from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
        raise LostError(f"the connection to {target.name} was lost") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise BrokenReplyError(f"{target.name} does not speak HTTP as agreed") from error
    except MisbehavedError as error:
        raise BrokenReplyError(f"{target.name} sent {error}") from error


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    said = b""
    async for chunk in content.iter_any():
        said += chunk
        if len(said) > MAX_ANSWER_BYTES:
            raise ValueError("answer too large")
    return said


def _url(target: Target, path: str) -> str:
    return f"{target.as_sandbox().access.url.replace('{port}', str(DATA_PORT)).rstrip('/')}/{path}"


def _options(target: Target, timeout: aiohttp.ClientTimeout) -> dict[str, Any]:
    access = target.as_sandbox().access
    headers = {"E2b-Sandbox-Id": access.sandbox_id, "E2b-Sandbox-Port": str(DATA_PORT)}
    if access.envd_token:
        headers["X-Access-Token"] = access.envd_token
    if access.traffic_token:
        headers["E2B-Traffic-Access-Token"] = access.traffic_token
    return {"headers": headers, "timeout": timeout, "allow_redirects": False}
