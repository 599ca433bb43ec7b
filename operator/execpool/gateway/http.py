"""HTTP in front of `execute.py`: parses, renders, and is the only module that knows status codes.

Errors are RFC 9457 problems whose `reason` is the refusal's. An admitted execution is always a 200, whatever its outcome.
A caller that goes away cancels what it asked for. The endpoint is plain ASGI: Starlette's request and response objects
would cost more than the rest of the gateway does.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, cast

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from execpool.api.names import Refusal
from execpool.gateway.answers import Answer, Feed
from execpool.gateway.audit import record_refusal
from execpool.gateway.auth import Caller
from execpool.gateway.errors import GatewayError
from execpool.gateway.execute import Gateway
from execpool.gateway.openapi import openapi
from execpool.gateway.requests import Order, read_order
from execpool.gateway.stream import MEDIA_TYPE, StreamFeed

log = logging.getLogger(__name__)

STATUS = {
    Refusal.INVALID_REQUEST: 400,
    Refusal.UNSUPPORTED_OPTION: 400,
    Refusal.UNAUTHENTICATED: 401,
    Refusal.NOT_ALLOWED: 403,
    Refusal.POOL_NOT_FOUND: 404,
    Refusal.REQUEST_TOO_LARGE: 413,
    Refusal.QUEUE_FULL: 429,
    Refusal.WAIT_TOO_LONG: 429,
    Refusal.POOL_SUSPENDED: 503,
    Refusal.NO_CAPACITY: 503,
    Refusal.DRAINING: 503,
    Refusal.DEADLINE_PASSED: 504,
}
TITLES = {
    Refusal.INVALID_REQUEST: "The request is not valid",
    Refusal.UNSUPPORTED_OPTION: "An option cannot be honoured",
    Refusal.UNAUTHENTICATED: "An execution key is needed",
    Refusal.NOT_ALLOWED: "The key does not allow this",
    Refusal.POOL_NOT_FOUND: "There is no such pool",
    Refusal.REQUEST_TOO_LARGE: "The request is too large",
    Refusal.QUEUE_FULL: "Too many executions wait",
    Refusal.WAIT_TOO_LONG: "The wait would be too long",
    Refusal.POOL_SUSPENDED: "The pool is suspended",
    Refusal.NO_CAPACITY: "No executor takes the execution",
    Refusal.DRAINING: "The pool or this gateway is ending",
    Refusal.DEADLINE_PASSED: "The deadline passed before an executor was free",
}
BODY_SECONDS = 30.0
"""Longest time that a caller may take to send its request."""
SEND_SECONDS = 30.0
"""Longest time that a caller may take to accept one part of an answer."""
_JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_NDJSON = (b"content-type", MEDIA_TYPE.encode())

Headers = list[tuple[bytes, bytes]]


class _CallerGoneError(Exception):
    """The caller has closed its connection, or does not read."""


class Executions:
    """`POST /v1/executions`."""

    def __init__(self, gateway: Gateway, max_body_bytes: int, is_draining: Callable[[], bool]) -> None:
        self._gateway = gateway
        self._max_body_bytes = max_body_bytes
        self._is_draining = is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The last place where an error can be caught."""
        execution = uuid.uuid4().hex
        reply = _Reply(send, execution, closing=self._is_draining())
        caller: Caller | None = None
        order: Order | None = None
        try:
            headers = dict(scope["headers"])
            caller = self._gateway.authenticate(headers.get(b"authorization", b"").decode("latin-1"))
            order = read_order(await self._body_in_time(headers, receive))
            serve = self._stream if MEDIA_TYPE.encode() in headers.get(b"accept", b"") else self._whole
            await _unless_gone(receive, serve(execution, caller, order, reply))
        except GatewayError as error:
            record_refusal(error, caller, order)
            await reply.problem(error)
        except _CallerGoneError:
            log.debug("caller gone", extra={"execution": execution})
        except Exception:
            log.exception("request failed", extra={"execution": execution})
            await reply.failure()

    async def _whole(self, execution: str, caller: Caller, order: Order, reply: "_Reply") -> None:
        answer = await self._gateway.execute(execution, caller, order, Feed())
        await reply.whole(200, _JSON, orjson.dumps(rendered(answer)))

    async def _stream(self, execution: str, caller: Caller, order: Order, reply: "_Reply") -> None:
        feed = StreamFeed()
        work = asyncio.create_task(self._gateway.execute(execution, caller, order, feed))
        work.add_done_callback(lambda _: feed.close())
        try:
            while part := await feed.take():
                await reply.part(part)
            await reply.last(orjson.dumps({"type": "answer", **rendered(await work)}))
        except GatewayError as error:
            if not reply.has_begun:
                raise
            record_refusal(error, caller, order)
            await reply.last(orjson.dumps({"type": "refused", "problem": problem(error, execution)}))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _body_in_time(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._body(headers, receive)
        except TimeoutError:
            sentence = f"the body did not arrive within {BODY_SECONDS:g} s"
            raise GatewayError(Refusal.INVALID_REQUEST, sentence) from None

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise self._too_large(f"a body of {int(declared)} bytes")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _CallerGoneError
            body += message.get("body", b"")
            if len(body) > self._max_body_bytes:
                raise self._too_large(f"a body of more than {len(body)} bytes")
            if not message.get("more_body", False):
                return bytes(body)

    def _too_large(self, what: str) -> GatewayError:
        return GatewayError(Refusal.REQUEST_TOO_LARGE, f"{what}; {self._max_body_bytes} are allowed")


class _Reply:
    """One response on its way."""

    def __init__(self, send: Send, execution: str, *, closing: bool) -> None:
        self.has_begun = False
        self._send = send
        self._execution = execution
        self._common: Headers = [(b"x-request-id", execution.encode()), (b"cache-control", b"no-store")]
        if closing:
            self._common.append((b"connection", b"close"))

    async def whole(self, status: int, kind: tuple[bytes, bytes], body: bytes, *headers: tuple[bytes, bytes]) -> None:
        """Send a complete response."""
        await self._begin(status, [kind, (b"content-length", str(len(body)).encode()), *headers])
        await self._put(body, more=False)

    async def part(self, body: bytes) -> None:
        """Send a part of a stream."""
        if not self.has_begun:
            await self._begin(200, [_NDJSON])
        await self._put(body, more=True)

    async def last(self, line: bytes) -> None:
        """Send a stream's last line."""
        await self._put(line + b"\n", more=False)

    async def problem(self, error: GatewayError) -> None:
        """Send a refusal."""
        headers: Headers = []
        if error.retry_after is not None:
            headers.append((b"retry-after", str(int(error.retry_after)).encode()))
        if error.refusal is Refusal.UNAUTHENTICATED:
            headers.append((b"www-authenticate", b'Bearer realm="execpool", error="invalid_token"'))
        if error.refusal is Refusal.REQUEST_TOO_LARGE:
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        body = orjson.dumps(problem(error, self._execution))
        await self.whole(STATUS[error.refusal], _PROBLEM, body, *headers)

    async def failure(self) -> None:
        """Send what can still be sent after an error of ours."""
        if not self.has_begun:
            body = {"type": "about:blank", "title": "Internal error", "status": 500, "requestId": self._execution}
            await self.whole(500, _PROBLEM, orjson.dumps(body))

    async def _begin(self, status: int, headers: Headers) -> None:
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers + self._common})

    async def _put(self, body: bytes, *, more: bool) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            raise _CallerGoneError from None


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
        raise _CallerGoneError from None
    finally:
        watch.cancel()


async def _cancel_when_gone(receive: Receive, task: asyncio.Task[Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task.cancel()


def rendered(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON."""
    transcript, timings = answer.transcript, answer.timings
    return {
        "id": answer.id,
        "status": answer.status,
        "reason": answer.reason,
        "message": answer.message,
        "error": transcript.error,
        "results": transcript.results,
        "stdout": transcript.stdout.decode(),
        "stderr": transcript.stderr.decode(),
        "truncated": transcript.truncated,
        "route": {"tier": answer.tier, "executor": answer.executor, "reasons": answer.route.reasons},
        "timings": {
            "waitSeconds": round(timings.wait, 6),
            "runSeconds": round(timings.run, 6),
            "totalSeconds": round(timings.total, 6),
        },
    }


def problem(error: GatewayError, execution: str) -> dict[str, Any]:
    """Return a refusal as an RFC 9457 problem."""
    wait = {} if error.retry_after is None else {"retryAfterSeconds": int(error.retry_after)}
    return {
        **error.facts,
        "type": f"https://execpool.dev/problems/{error.refusal}",
        "title": TITLES[error.refusal],
        "status": STATUS[error.refusal],
        "reason": error.refusal,
        "detail": error.sentence,
        "requestId": execution,
        **wait,
    }


def make_app(gateway: Gateway, *, max_body_bytes: int, is_draining: Callable[[], bool]) -> Starlette:
    """Return the application of the API port."""
    document = orjson.dumps(openapi(STATUS))

    async def serve_openapi(_: Request) -> Response:
        return Response(document, media_type="application/json")

    executions = Executions(gateway, max_body_bytes, is_draining)
    routes = [
        Route("/v1/executions", endpoint=executions, methods=["POST"]),
        Route("/openapi.json", endpoint=serve_openapi, methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route})


async def _no_such_route(_: Request, raised: Exception) -> Response:
    error = cast("HTTPException", raised)
    body = {"type": "about:blank", "title": error.detail, "status": error.status_code}
    headers = {**(error.headers or {}), "X-Request-Id": uuid.uuid4().hex}
    return Response(orjson.dumps(body), error.status_code, headers, media_type="application/problem+json")
