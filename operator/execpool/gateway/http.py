"""HTTP in front of `execute.py`: who calls, what is asked for, and whether the caller is still there.

An admitted execution is always a 200, whatever its outcome. A caller that goes away cancels what it asked for. The endpoint
is plain ASGI: Starlette's request and response objects would cost more than the rest of the gateway does.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from execpool.gateway.answers import Feed
from execpool.gateway.audit import record_refusal
from execpool.gateway.auth import Caller
from execpool.gateway.bodies import Budget, CallerGoneError, Share, read_body
from execpool.gateway.errors import GatewayError
from execpool.gateway.execute import Gateway
from execpool.gateway.openapi import openapi
from execpool.gateway.replies import JSON, STATUS, Reply, problem, rendered
from execpool.gateway.requests import Order, read_order
from execpool.gateway.stream import MEDIA_TYPE, StreamFeed
from execpool.serving import abort_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An execution that is asked for."""

    id: str
    caller: Caller
    order: Order
    share: Share


class Executions:
    """`POST /v1/executions`.

    Args:
        gateway: executes.
        budget: the bytes that all requests together may take.
        max_body_bytes: the bytes that one may have.
        is_draining: true once connections should be closed after their answer.
    """

    def __init__(
        self, gateway: Gateway, budget: Budget, *, max_body_bytes: int, is_draining: Callable[[], bool]
    ) -> None:
        self._gateway = gateway
        self._budget = budget
        self._max_body_bytes = max_body_bytes
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The last place where an error can be caught."""
        execution = uuid.uuid4().hex
        abort = abort_of(scope)
        reply = Reply(send, execution, abort, closing=self._is_draining())
        try:
            await self._answer(execution, dict(scope["headers"]), receive, reply)
        except CallerGoneError:
            log.debug("caller gone", extra={"execution": execution})
            abort()
            await _until_gone(receive)
        except Exception:
            log.exception("request failed", extra={"execution": execution})
            with suppress(CallerGoneError):
                await reply.failure()

    async def _answer(self, execution: str, headers: dict[bytes, bytes], receive: Receive, reply: Reply) -> None:
        caller: Caller | None = None
        order: Order | None = None
        try:
            caller = self._gateway.authenticate(headers.get(b"authorization", b"").decode("latin-1"))
            with self._budget.share(caller) as share:
                order = read_order(await self._body(headers, receive, share, reply))
                asked = _Asked(execution, caller, order, share)
                serve = self._stream if MEDIA_TYPE.encode() in headers.get(b"accept", b"") else self._whole
                await _unless_gone(receive, serve(asked, reply))
        except GatewayError as error:
            record_refusal(error, caller, order)
            await reply.problem(error)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, share: Share, reply: Reply) -> bytes:
        try:
            return await read_body(headers, receive, self._max_body_bytes, share)
        except GatewayError:
            reply.close_after()  # the rest of it is not read
            raise

    async def _whole(self, asked: _Asked, reply: Reply) -> None:
        body = await self._answer_to(asked)
        with asked.share.also(len(body)):
            await reply.whole(200, JSON, body)

    async def _answer_to(self, asked: _Asked) -> bytes:
        # On its own, so that what the answer was made of is not held while it is being sent.
        execution = self._gateway.execute(asked.id, asked.caller, asked.order, Feed(), asked.share.check)
        return orjson.dumps(rendered(await execution))

    async def _stream(self, asked: _Asked, reply: Reply) -> None:
        feed = StreamFeed()
        execution = self._gateway.execute(asked.id, asked.caller, asked.order, feed, asked.share.check)
        work = asyncio.create_task(execution)
        work.add_done_callback(lambda _: feed.close())
        try:
            while part := await feed.take():
                with asked.share.also(len(part)):
                    await reply.part(part)
            last = orjson.dumps({"type": "answer", **rendered(await work)})
            with asked.share.also(len(last)):
                await reply.last(last)
        except GatewayError as error:
            if not reply.has_begun:
                raise
            record_refusal(error, asked.caller, asked.order)
            await reply.last(orjson.dumps({"type": "refused", "problem": problem(error, asked.id)}))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def _unless_gone(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work in this task, and cancel it when the caller goes away."""
    task = cast("asyncio.Task[Any]", asyncio.current_task())
    watch = asyncio.create_task(_cancel_when_gone(receive, task))
    try:
        await work
    except asyncio.CancelledError:
        if not watch.done():
            raise
        task.uncancel()
        raise CallerGoneError from None
    finally:
        watch.cancel()


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any]) -> None:
    await _until_gone(receive)
    task.cancel()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def make_app(executions: Executions) -> Starlette:
    """Return the application of the API port."""
    document = orjson.dumps(openapi(STATUS))

    async def serve_openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    routes = [
        Route("/v1/executions", endpoint=executions, methods=["POST"]),
        Route("/openapi.json", endpoint=serve_openapi, methods=["GET"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route})
    app.router.redirect_slashes = False  # it would send callers to whatever host they name
    return app


async def _no_such_route(_: Request, raised: Exception) -> Response:
    error = cast("HTTPException", raised)
    body = {"type": "about:blank", "title": error.detail, "status": error.status_code}
    headers = {**(error.headers or {}), "X-Request-Id": uuid.uuid4().hex}
    return Response(orjson.dumps(body), error.status_code, headers, media_type="application/problem+json")
