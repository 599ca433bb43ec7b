"""One execution's whole path, from top to bottom. Everything that may refuse it is on this page, in order.

    1 authenticate    who calls                                        Unauthenticated
    2 find            the pool as last observed                        PoolNotFound, PoolSuspended, Draining, ...
    3 route           the tiers that may serve it, and why             InvalidRequest, UnsupportedOption
    4 enter           a slot of an executor that serves its principal, QueueFull, WaitTooLong, DeadlinePassed, NoCapacity
                      once budgets and accounts let it through         BudgetExhausted, BreakerOpen
    5 run             streaming, within limits of our own              NotSupported
    6 settle          one answer, one audit line; elsewhere (back to 4) only if it is proven that nothing started, and within
                      the pool's retry budget                           NoCapacity

A refusal is a GatewayError and means that nothing ran. Once code may have started there is always an answer, and when
nobody can know how it ended the answer is Unknown: it is never run again unless its caller said `retry: Safe`.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from execpool.api.names import Outcome, Refusal
from execpool.api.v1alpha1 import Runtime
from execpool.core.claiming import Route, choose_route
from execpool.core.proof import principal_id
from execpool.gateway.answers import Answer, Cause, Feed
from execpool.gateway.audit import record_execution
from execpool.gateway.auth import Caller, Keys
from execpool.gateway.course import Course
from execpool.gateway.errors import GatewayError
from execpool.gateway.events import MisbehavedError
from execpool.gateway.executors import (
    BrokenReplyError,
    BusyError,
    ExecutorClient,
    ExecutorError,
    LostError,
    NotStartedError,
    NotSupportedError,
    RejectedError,
    StaleError,
    UnreachableError,
    UnresponsiveError,
)
from execpool.gateway.pools import Pools, ServedPool
from execpool.gateway.requests import Order
from execpool.gateway.seats import Seat
from execpool.protocol import End, RunStatus
from execpool.telemetry.metrics import RUNNING

LAST_BYTES_SECONDS = 0.25
"""How long the stream may stay open after its end was told; longer, and its connection is not used again."""
MAX_FALSE_STARTS = 8
"""Executors that may turn an execution away before it is refused."""


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

    async def execute(
        self, execution: str, caller: Caller, order: Order, feed: Feed, may_start: Callable[[], None]
    ) -> Answer:
        """Take one execution from its request to its answer.

        Args:
            execution: its id, as in the answer and in the logs.
            caller: from `authenticate`.
            order: what is asked for.
            feed: hears what happens meanwhile.
            may_start: asked once it has a slot; raises a GatewayError when there is no room for its answer.

        Raises:
            GatewayError: nothing of it ran.
            asyncio.CancelledError: its caller has gone; what ran has been ended.
        """
        began = time.perf_counter()
        if self._is_closed:
            raise stopping()
        pool = self._pools.find(caller, order.pool)
        route = _route(pool, order)
        principal = principal_id(caller.tenant, order.user)
        max_wait = pool.max_wait(order.max_wait_seconds)
        ticket = pool.admission.ticket(
            principal, route.tiers, max_wait=max_wait, floor=order.min_isolation, run_seconds=order.timeout_seconds
        )
        course = Course(execution, order, pool, route, ticket, may_start, began)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._active.add(task)
        self._idle.clear()
        try:
            answer = await self._run_somewhere(course, feed)
            if answer.status is Outcome.UNKNOWN and order.retry == "Safe":
                answer = await self._run_again(course, feed, answer)
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
        pool.admission.note_run(answer.timings.run)
        return answer

    async def _run_somewhere(self, course: Course, feed: Feed) -> Answer:
        """Run it on the first executor that takes it."""
        pool = course.pool
        pool.retries.tried()
        for _ in range(MAX_FALSE_STARTS):
            seat = await pool.admission.enter(course.ticket, partial(_tell_position, course, feed))
            course.sit_down(seat)
            feed.accepted(course.id)
            try:
                course.may_start()
                return await self._run(course, seat, feed)
            except RejectedError as error:
                sentence = f"executors do not take this request: {error}"
                raise GatewayError(Refusal.INVALID_REQUEST, sentence) from error
            except NotSupportedError as error:
                course.go_on_without(seat.target.tier, str(error))
            except NotStartedError as error:
                course.stand_up()
                _learn_from(pool, seat, error)
                if not pool.retries.take(asyncio.get_running_loop().time()):
                    raise _turned_away(
                        pool, f"too many to take them all elsewhere; the last one said: {error}"
                    ) from error
            finally:
                pool.admission.leave(seat)
        raise _turned_away(pool, f"{MAX_FALSE_STARTS} of them this one")

    async def _run_again(self, course: Course, feed: Feed, unknown: Answer) -> Answer:
        """Run it once more, as its caller allows; when that is refused, the first answer stands."""
        course.begin_again()
        try:
            return await self._run_somewhere(course, feed)
        except GatewayError:
            return unknown

    async def _run(self, course: Course, seat: Seat, feed: Feed) -> Answer:
        """Run it on one executor and return how that ended."""
        running = RUNNING.labels(*course.pool.key)
        running.inc()
        try:
            end = await self._stream(course, seat, feed)
        except (LostError, BrokenReplyError, MisbehavedError) as error:
            seat.has_started = True
            return _unknown(course, seat, error)
        finally:
            running.dec()
        seat.entry.failures = 0
        if end.status == RunStatus.NOT_SUPPORTED:
            seat.has_started = False
            raise NotSupportedError(end.message)
        return course.answer(Outcome(end.status), end.reason, end.message)

    async def _stream(self, course: Course, seat: Seat, feed: Feed) -> End:
        """Follow the run into the transcript and the feed, and return its end."""
        order, transcript = course.order, course.transcript
        loop = asyncio.get_running_loop()
        try:
            async with (
                asyncio.timeout(None) as limit,
                aclosing(self._client.execute(seat.target, seat.grant, course.run_id, order)) as lines,
            ):
                await anext(lines)  # it has been taken; until then clients keep limits of their own
                seat.has_started = True
                limit.reschedule(loop.time() + order.timeout_seconds + self._overtime)
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
        if transcript.end.status == RunStatus.NOT_SUPPORTED and (
            seat.target.runtime is not Runtime.MONTY or transcript.has_content()
        ):
            raise MisbehavedError(f"{seat.target.name} calls a run not supported that has begun")
        return transcript.end

    def _overdue(self, course: Course, seat: Seat) -> UnresponsiveError:
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


def _tell_position(course: Course, feed: Feed, position: int) -> None:
    feed.accepted(course.id)
    feed.waiting(position)


def _learn_from(pool: ServedPool, seat: Seat, error: ExecutorError) -> None:
    """Let the claims table know what an executor's refusal says about it."""
    if isinstance(error, StaleError):
        pool.claims.turn_stale(seat)
    elif isinstance(error, BusyError):
        pool.claims.rest(seat.entry, error.retry_after)
    elif isinstance(error, UnreachableError):
        pool.claims.rest(seat.entry)
    else:
        pool.claims.give_up(seat.entry)


def _turned_away(pool: ServedPool, why: str) -> GatewayError:
    sentence = f"executors of pool {pool.name} turn executions away: {why}"
    return GatewayError(Refusal.NO_CAPACITY, sentence, retry_after=1)


def _unknown(course: Course, seat: Seat, error: Exception) -> Answer:
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
    return course.answer(Outcome.UNKNOWN, cause, f"the run may have started, and how it ended is unknown: {error}")


def _cancelled(course: Course, cause: Cause) -> Answer:
    return course.answer(Outcome.CANCELLED, cause, "")
