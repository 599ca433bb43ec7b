"""What goes back to a caller: answers, problems, and how they are sent to one that may not read them.

Errors are RFC 9457 problems whose `reason` is the refusal's. An answer is sent in pieces, each after the last has all but
gone, so that what is not read is held once, here, and not in a transport for as long as its connection lasts.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.types import Send

from execpool.api.names import Refusal
from execpool.gateway.answers import Answer
from execpool.gateway.bodies import CallerGoneError
from execpool.gateway.errors import GatewayError
from execpool.gateway.stream import MEDIA_TYPE

STATUS = {
    Refusal.INVALID_REQUEST: 400,
    Refusal.UNSUPPORTED_OPTION: 400,
    Refusal.NOT_SUPPORTED: 422,
    Refusal.UNAUTHENTICATED: 401,
    Refusal.NOT_ALLOWED: 403,
    Refusal.POOL_NOT_FOUND: 404,
    Refusal.REQUEST_TOO_LARGE: 413,
    Refusal.BUDGET_EXHAUSTED: 429,
    Refusal.QUEUE_FULL: 429,
    Refusal.WAIT_TOO_LONG: 429,
    Refusal.POOL_SUSPENDED: 503,
    Refusal.NO_CAPACITY: 503,
    Refusal.BREAKER_OPEN: 503,
    Refusal.CONTROL_PLANE_UNAVAILABLE: 503,
    Refusal.DRAINING: 503,
    Refusal.DEADLINE_PASSED: 504,
}
TITLES = {
    Refusal.INVALID_REQUEST: "The request is not valid",
    Refusal.UNSUPPORTED_OPTION: "An option cannot be honoured",
    Refusal.NOT_SUPPORTED: "No tier runs this code",
    Refusal.UNAUTHENTICATED: "An execution key is needed",
    Refusal.NOT_ALLOWED: "The key does not allow this",
    Refusal.POOL_NOT_FOUND: "There is no such pool",
    Refusal.REQUEST_TOO_LARGE: "The request is too large",
    Refusal.BUDGET_EXHAUSTED: "A budget is used up",
    Refusal.QUEUE_FULL: "Too many executions wait",
    Refusal.WAIT_TOO_LONG: "The wait would be too long",
    Refusal.POOL_SUSPENDED: "The pool is suspended",
    Refusal.NO_CAPACITY: "No executor takes the execution",
    Refusal.BREAKER_OPEN: "A backend is not asked at present",
    Refusal.CONTROL_PLANE_UNAVAILABLE: "No sandbox can be claimed at present",
    Refusal.DRAINING: "The pool or this gateway is ending",
    Refusal.DEADLINE_PASSED: "The deadline passed before an executor was free",
}
SEND_SECONDS = 30.0
"""Longest time that a caller may take to accept a part of an answer, however short."""
SLOWEST_BYTES_PER_SECOND = 64 << 10
"""A long one may take as much longer as it takes at this pace."""
PIECE_BYTES = 64 << 10
JSON = (b"content-type", b"application/json")
_PROBLEM = (b"content-type", b"application/problem+json")
_NDJSON = (b"content-type", MEDIA_TYPE.encode())

Headers = list[tuple[bytes, bytes]]


class Reply:
    """One response on its way.

    Args:
        send: of ASGI.
        execution: its id, for the response's headers.
        abort: ends the connection, with all that has not been sent.
        closing: end the connection after the response.
    """

    def __init__(self, send: Send, execution: str, abort: Callable[[], None], *, closing: bool) -> None:
        self.has_begun = False
        self._send = send
        self._execution = execution
        self._abort = abort
        self._common: Headers = [(b"x-request-id", execution.encode()), (b"cache-control", b"no-store")]
        if closing:
            self.close_after()

    def close_after(self) -> None:
        """End the connection after the response: for one whose request is not read to its end."""
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
        body = orjson.dumps(problem(error, self._execution))
        await self.whole(STATUS[error.refusal], _PROBLEM, body, *headers)

    async def failure(self) -> None:
        """Send what can still be sent after an error of ours."""
        if not self.has_begun:
            body = {"type": "about:blank", "title": "Internal error", "status": 500, "requestId": self._execution}
            await self.whole(500, _PROBLEM, orjson.dumps(body))

    async def _begin(self, status: int, headers: Headers) -> None:
        self.has_begun = True
        start = {"type": "http.response.start", "status": status, "headers": headers + self._common}
        async with self._in_time(0):
            await self._send(start)

    async def _put(self, body: bytes, *, more: bool) -> None:
        async with self._in_time(len(body)):
            for begin in range(0, max(len(body), 1), PIECE_BYTES):
                end = begin + PIECE_BYTES
                more_body = more or end < len(body)
                await self._send({"type": "http.response.body", "body": body[begin:end], "more_body": more_body})

    @asynccontextmanager
    async def _in_time(self, size: int) -> AsyncIterator[None]:
        """End the connection of a caller that takes too long to accept so many bytes."""
        try:
            async with asyncio.timeout(SEND_SECONDS + size / SLOWEST_BYTES_PER_SECOND):
                yield
        except TimeoutError:
            self._abort()
            raise CallerGoneError from None


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
