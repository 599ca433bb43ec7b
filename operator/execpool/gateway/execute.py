"""One execution's whole path, from top to bottom. Everything that may refuse it is on this page, in order.

    1 authenticate    who calls                                        Unauthenticated
    2 find            the pool as last observed                        PoolNotFound, PoolSuspended, Draining, ...
    3 route           the tiers that may serve it, and why             InvalidRequest, UnsupportedOption
    4 enter           a slot of an executor that serves its principal  QueueFull, WaitTooLong, DeadlinePassed, NoCapacity
    5 run             streaming, within limits of our own
    6 settle          one answer, one audit line; elsewhere (back to 4) only if it is proven that nothing started

A refusal is a GatewayError and means that nothing ran. Once code may have started there is always an answer, and when
nobody can know how it ended the answer is Unknown: it is never run again unless its caller said `retry: Safe`.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import orjson

from execpool.api.names import Outcome, Refusal
from execpool.core.claiming import Route, choose_route
from execpool.core.proof import principal_id
from execpool.gateway.answers import Answer, Cause, Feed, Timings
from execpool.gateway.audit import record_execution
from execpool.gateway.auth import Caller, Keys
from execpool.gateway.claims import Seat
from execpool.gateway.errors import GatewayError
from execpool.gateway.events import MisbehavedError, Transcript
from execpool.gateway.executors import (
    BrokenReplyError,
    BusyError,
    ExecutorClient,
    ExecutorError,
    LostError,
    NotStartedError,
    RejectedError,
    StaleError,
    UnreachableError,
    UnresponsiveError,
)
from execpool.gateway.pools import Pools, ServedPool
from execpool.gateway.requests import Order
from execpool.protocol import End, ExecuteRequest
from execpool.telemetry.metrics import RUNNING

LAST_BYTES_SECONDS = 0.25
"""How long the stream may stay open after its end was told; longer, and its connection is not used again."""
MAX_FALSE_STARTS = 8
"""Executors that may turn an execution away before it is refused."""


@dataclass(slots=True)
class _Course:
    """What has become of one execution so far."""

    id: str
    order: Order
    pool: ServedPool
    route: Route
    began: float
    transcript: Transcript = field(default_factory=Transcript)
    seat: Seat | None = None
    waited: float = 0.0
    run_began: float | None = None
    runs: int = 1


class Gateway:
    """Executes. One instance per process; `http.py` is its only caller.

    Args:
        keys: who may call.
        pools: what there is.
        client: speaks to executors.
        overtime: seconds after its time limit that an executor may take to say how a run ended.
    """

    def __init__(self, keys: Keys, pools: Pools, client: ExecutorClient, *, overtime: float) -> None:
        self._keys = keys
        self._pools = pools
        self._client = client
        self._overtime = overtime
        self._active: set[asyncio.Task[Any]] = set()
        self._stopped: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False

    def authenticate(self, authorization: str | None) -> Caller:
        """Return who calls: before the body is read, so that strangers cannot make us read one."""
        return self._keys.authenticate(authorization)

    async def execute(self, execution: str, caller: Caller, order: Order, feed: Feed) -> Answer:
        """Take one execution from its request to its answer.

        Args:
            execution: its id, as in the answer and in the logs.
            caller: from `authenticate`.
            order: what is asked for.
            feed: hears what happens meanwhile.

        Raises:
            GatewayError: nothing of it ran.
            asyncio.CancelledError: its caller has gone; what ran has been ended.
        """
        began = time.perf_counter()
        if self._is_closed:
            raise stopping()
        pool = self._pools.find(caller, order.pool)
        route = _route(pool, order)
        course = _Course(execution, order, pool, route, began)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._active.add(task)
        self._idle.clear()
        try:
            answer = await self._run_somewhere(caller, course, feed)
        except asyncio.CancelledError:
            answer = _cancelled(course, Cause.GATEWAY_STOPPED if task in self._stopped else Cause.CLIENT_GONE)
            if task not in self._stopped:
                record_execution(caller, order, pool.key, answer)
                raise
            task.uncancel()
        finally:
            self._active.discard(task)
            self._stopped.discard(task)
            if not self._active:
                self._idle.set()
        record_execution(caller, order, pool.key, answer)
        return answer

    async def _run_somewhere(self, caller: Caller, course: _Course, feed: Feed) -> Answer:
        """Run it on the first executor that takes it."""
        admission, order = course.pool.admission, course.order
        principal = principal_id(caller.tenant, order.user)
        ticket = admission.ticket(principal, course.route.tiers, max_wait=course.pool.max_wait(order.max_wait_seconds))
        unknown: Answer | None = None
        for _ in range(MAX_FALSE_STARTS):
            try:
                course.seat = await admission.enter(ticket, partial(_tell_position, course, feed))
            except GatewayError:
                if unknown is None:
                    raise
                return unknown
            course.waited = time.perf_counter() - course.began
            feed.accepted(course.id)
            try:
                answer = await self._run(course, course.seat, feed)
            except RejectedError as error:
                sentence = f"executors do not take this request: {error}"
                raise GatewayError(Refusal.INVALID_REQUEST, sentence) from error
            except NotStartedError as error:
                _learn_from(course.pool, course.seat, error)
                continue
            finally:
                course.pool.claims.release(course.seat)
            if answer.status is not Outcome.UNKNOWN or order.retry != "Safe" or unknown is not None:
                return answer
            unknown = answer
            course.transcript = Transcript()
            course.runs += 1
        if unknown is None:
            raise _turned_away(course)
        return unknown

    async def _run(self, course: _Course, seat: Seat, feed: Feed) -> Answer:
        """Run it on one executor and return how that ended."""
        course.run_began = time.perf_counter()
        running = RUNNING.labels(*course.pool.key)
        running.inc()
        try:
            end = await self._stream(course, seat, feed)
        except NotStartedError:
            course.run_began = None
            raise
        except (LostError, BrokenReplyError, MisbehavedError) as error:
            return _unknown(course, seat, error)
        finally:
            running.dec()
        seat.entry.failures = 0
        return _answer(course, Outcome(end.status), end.reason, end.message)

    async def _stream(self, course: _Course, seat: Seat, feed: Feed) -> End:
        """Follow the run into the transcript and the feed, and return its end."""
        order, transcript = course.order, course.transcript
        request = ExecuteRequest(order.code, env_vars=order.env, timeout_seconds=order.timeout_seconds)
        body = orjson.dumps(request)
        # An executor begins no id twice, which is what makes a second run of ours an id of its own.
        run_id = course.id if course.runs == 1 else f"{course.id}.{course.runs}"
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(order.timeout_seconds + self._overtime) as limit,
                aclosing(self._client.execute(seat.target, seat.grant, run_id, body)) as lines,
            ):
                await anext(lines)  # the executor has taken it
                feed.started(seat.target.name, seat.target.tier)
                async for line in lines:
                    if transcript.end is not None:
                        break
                    if (passed := transcript.add(line)) is not None:
                        feed.line(passed)
                    if transcript.end is not None:
                        limit.reschedule(loop.time() + LAST_BYTES_SECONDS)
        except (TimeoutError, LostError, BrokenReplyError) as error:
            if transcript.end is None:
                raise self._overdue(course, seat) if isinstance(error, TimeoutError) else error from None
        if transcript.end is None:
            raise LostError(f"{seat.target.name} ended its answer without saying how the run ended")
        return transcript.end

    def _overdue(self, course: _Course, seat: Seat) -> UnresponsiveError:
        late = course.order.timeout_seconds + self._overtime
        return UnresponsiveError(f"{seat.target.name} did not end the run within {late:g} s")

    # Drain

    def active(self) -> int:
        """Return how many executions are under way."""
        return len(self._active)

    async def until_idle(self) -> None:
        """Wait until no execution is under way."""
        await self._idle.wait()

    def close(self) -> None:
        """Take no more executions, and refuse those that wait."""
        self._is_closed = True
        self._pools.refuse_all(stopping)

    def cancel_rest(self) -> None:
        """End those that still run; their callers are told so."""
        for task in self._active:
            self._stopped.add(task)
            task.cancel()


def stopping() -> GatewayError:
    """Return the refusal of a gateway that is about to end."""
    return GatewayError(Refusal.DRAINING, "this gateway is shutting down; ask again to reach another", retry_after=1)


def _route(pool: ServedPool, order: Order) -> Route:
    tiers = pool.isolation
    if order.tier is not None and order.tier not in tiers:
        known = ", ".join(tiers)
        raise GatewayError(
            Refusal.INVALID_REQUEST,
            f"tier: pool {pool.name} has no tier {order.tier!r}; it has {known}",
            field="tier",
            tiers=list(tiers),
        )
    route = choose_route(tiers, order.tier, order.min_isolation)
    if not route.tiers:
        offered = ", ".join(f"{tier} {rank}" for tier, rank in tiers.items() if order.tier in (None, tier))
        sentence = f"minIsolation: no tier of pool {pool.name} is isolated by {order.min_isolation} or more ({offered})"
        raise GatewayError(Refusal.UNSUPPORTED_OPTION, sentence, field="minIsolation")
    return route


def _turned_away(course: _Course) -> GatewayError:
    sentence = f"{MAX_FALSE_STARTS} executors of pool {course.pool.name} turned the execution away"
    return GatewayError(Refusal.NO_CAPACITY, sentence, retry_after=1)


def _tell_position(course: _Course, feed: Feed, position: int) -> None:
    feed.accepted(course.id)
    feed.waiting(position)


def _learn_from(pool: ServedPool, seat: Seat, error: ExecutorError) -> None:
    """Let the claims table know what an executor's refusal says about it."""
    if isinstance(error, StaleError):
        pool.claims.turn_stale(seat)
    elif isinstance(error, BusyError | UnreachableError):
        pool.claims.rest(seat.entry)
    else:
        pool.claims.give_up(seat.entry)


def _unknown(course: _Course, seat: Seat, error: Exception) -> Answer:
    claims = course.pool.claims
    if isinstance(error, UnresponsiveError):
        cause = Cause.EXECUTOR_UNRESPONSIVE
        claims.retire(seat.entry)
    elif isinstance(error, LostError):
        cause = Cause.EXECUTOR_LOST
        claims.turn_stale(seat)  # if it is still there, it has to prove itself again
    else:
        cause = Cause.EXECUTOR_MISBEHAVED
        claims.retire(seat.entry)
    return _answer(course, Outcome.UNKNOWN, cause, f"the run may have started, and how it ended is unknown: {error}")


def _cancelled(course: _Course, cause: Cause) -> Answer:
    return _answer(course, Outcome.CANCELLED, cause, "")


def _answer(course: _Course, status: Outcome, reason: str, message: str) -> Answer:
    now = time.perf_counter()
    run = now - course.run_began if course.run_began is not None else 0.0
    course.pool.admission.note_run(run)
    target = course.seat.target if course.seat is not None else None
    return Answer(
        id=course.id,
        status=status,
        reason=reason,
        message=message,
        transcript=course.transcript,
        route=course.route,
        tier=target.tier if target is not None else "",
        executor=target.name if target is not None else "",
        timings=Timings(course.waited, run, now - course.began),
    )
