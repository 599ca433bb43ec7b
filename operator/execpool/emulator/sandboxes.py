"""The sandboxes of an account for real: what `account` decides is done to processes here, and told to the ledger.

Every effect goes the same way: the account says whether it may be, the ledger has it, the processes follow. Nothing is
awaited between the first two, so that what the ledger says is what was true at that moment.
"""

import asyncio
import logging
import secrets
import string
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import aiohttp

from execpool.e2b_server.errors import GoneError, NoCapacityError, NotFoundError, RefusedError
from execpool.emulator import latency
from execpool.emulator.account import DEFAULT_TIMEOUT_SECONDS, Account, Order, Sandbox, State
from execpool.emulator.claims import claim
from execpool.emulator.holding import Asker, Held, Knobs
from execpool.emulator.ledger import Entry, Event, LedgerFile
from execpool.emulator.warm import Warm
from execpool.providers.nursery_link import NotStartedError

log = logging.getLogger(__name__)

_ID_LETTERS = string.ascii_lowercase + string.digits
LATE_SECONDS = 0.05
"""A creation that takes longer than drawn by more than this is noted as late."""


class Sandboxes:
    """All sandboxes.

    Args:
        account: decides.
        warm: starts executors.
        ledger: is told.
        distribution: of the time that creations take.
        random: draws.
        always_traffic_token: also for a sandbox that does not ask for one.
    """

    def __init__(
        self,
        account: Account,
        warm: Warm,
        ledger: LedgerFile,
        *,
        distribution: latency.Latency,
        random: Random,
        always_traffic_token: bool,
        now: Callable[[], float],
    ) -> None:
        self.account = account
        self.ledger = ledger
        self.knobs = Knobs()
        self.now = now
        self._warm = warm
        self._distribution = distribution
        self._random = random
        self._always_traffic_token = always_traffic_token
        self._held: dict[str, Held] = {}
        self._session = aiohttp.ClientSession(trust_env=False)
        self._deadlines_changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: list[asyncio.TimerHandle] = []

    def break_off(self) -> None:
        """Break off every connection to a sandbox."""
        for held in self._held.values():
            held.break_off()

    async def close(self) -> None:
        """Finish what is being ended; what still lives ends with its `Processes`."""
        for timer in self._timers:
            timer.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    def held(self, sandbox_id: str) -> Held:
        """Return the executor of a sandbox that the account knows."""
        return self._held[sandbox_id]

    # Effects

    async def create(self, order: Order, asker: Asker) -> Sandbox:
        """Create a sandbox. It goes on when the caller does not wait for it.

        Raises:
            RefusedError: the account or this machine does not allow it.
        """
        sandbox_id = "i" + "".join(secrets.choice(_ID_LETTERS) for _ in range(20))
        self.account.reserve(sandbox_id, order, self.now())
        drawn, began = latency.draw(self._distribution, self._random), time.monotonic()
        try:
            held = await self._start(sandbox_id, order)
            took = time.monotonic() - began
            await asyncio.sleep(max(drawn - took, 0))
        except NotStartedError as error:
            self.account.abandon(sandbox_id)
            log.warning("no sandbox could be started", extra={"reason": str(error)})
            message = "Failed to place sandbox: not enough capacity"
            raise NoCapacityError(message, error_code="sandbox_capacity_unavailable") from error
        except (RefusedError, asyncio.CancelledError):
            self.account.abandon(sandbox_id)
            raise
        sandbox = self.account.started(sandbox_id, self.now())
        self._held[sandbox_id] = held
        late = took - drawn if took - drawn > LATE_SECONDS else 0.0
        self._note(Event.CREATED, sandbox, asker, drawn_seconds=round(drawn, 4), late_seconds=round(late, 4))
        self._deadlines_changed.set()
        self._watch(sandbox_id, held)
        return sandbox

    def set_timeout(self, sandbox_id: str, seconds: float, asker: Asker) -> Sandbox:
        """Move a deadline, either way."""
        return self._extended(self.account.set_timeout(sandbox_id, seconds, self.now()), asker)

    def extend(self, sandbox_id: str, seconds: float, asker: Asker) -> Sandbox:
        """Move a deadline, but only to later."""
        before = self.account.get(sandbox_id, self.now()).deadline
        after = self.account.extend(sandbox_id, seconds, self.now())
        return self._extended(after, asker) if after.deadline != before else after

    async def pause(self, sandbox_id: str, asker: Asker) -> None:
        """Stop everything in a sandbox where it is; its connections break."""
        self._note(Event.PAUSED, self.account.pause(sandbox_id, self.now()), asker)
        self._deadlines_changed.set()
        held = self._held[sandbox_id]
        held.break_off()
        async with held.freezing:
            await held.executor.freeze()

    async def resume(self, sandbox_id: str, seconds: int, asker: Asker) -> Sandbox:
        """Let a paused sandbox go on."""
        sandbox = self.account.resume(sandbox_id, seconds, self.now())
        self._note(Event.RESUMED, sandbox, asker)
        self._deadlines_changed.set()
        held = self._held[sandbox_id]
        async with held.freezing:
            await held.executor.thaw()
        return sandbox

    async def kill(self, sandbox_id: str, asker: Asker) -> None:
        """End a sandbox.

        Raises:
            NotFoundError: there is none.
        """
        self.account.get(sandbox_id, self.now())
        await self._end(sandbox_id, Event.KILLED, asker)

    async def lose(self, sandbox_id: str, detail: str) -> bool:
        """End a sandbox without anybody having asked for it; False when it is over already."""
        try:
            await self._end(sandbox_id, Event.LOST, Asker(), detail=detail)
        except NotFoundError:
            return False
        return True

    async def reach(self, sandbox_id: str) -> Held:
        """Return where the calls to a sandbox go; one that resumes by itself does.

        Raises:
            GoneError: it is over, or paused.
        """
        try:
            sandbox = self.account.get(sandbox_id, self.now())
            if sandbox.state is State.PAUSED:
                if not sandbox.order.auto_resume:
                    raise GoneError.of(sandbox_id)
                timeout = max(sandbox.order.timeout_seconds, DEFAULT_TIMEOUT_SECONDS)
                limit = self.account.plan.max_lifetime_seconds
                await self.resume(sandbox_id, min(timeout, limit), Asker("auto_resume"))
        except NotFoundError:
            raise GoneError.of(sandbox_id) from None
        return self._held[sandbox_id]

    async def keep_deadlines(self) -> None:
        """End or pause what is due, for ever."""
        while True:
            self._deadlines_changed.clear()
            for sandbox in self.account.due(self.now()):
                await self._due(sandbox)
            deadline = self.account.next_deadline()
            try:
                async with asyncio.timeout(None if deadline is None else max(deadline - self.now(), 0.001)):
                    await self._deadlines_changed.wait()
            except TimeoutError:
                continue

    def tokens(self) -> dict[str, str]:
        """Return the access tokens of all that can be reached, by sandbox."""
        alive = self.account.alive(self.now())
        return {sandbox.id: self._held[sandbox.id].grant.token for sandbox in alive if sandbox.id in self._held}

    # Parts

    async def _start(self, sandbox_id: str, order: Order) -> Held:
        executor = await self._warm.take(order.template, internet=order.internet)
        try:
            grant = await claim(self._session, executor, sandbox_id, order.env_vars)
        except (NotStartedError, RefusedError):
            await executor.end()
            raise
        wants_token = order.private_traffic or self._always_traffic_token
        return Held(executor, grant, secrets.token_urlsafe(24) if wants_token else "")

    async def _due(self, sandbox: Sandbox) -> None:
        if sandbox.order.pauses_at_deadline:
            await self.pause(sandbox.id, Asker("deadline"))
        else:
            await self._end(sandbox.id, Event.EXPIRED, Asker(), time=sandbox.deadline)

    async def _end(self, sandbox_id: str, event: Event, asker: Asker, **more: Any) -> None:
        self._note(event, self.account.end(sandbox_id, self.now()), asker, **more)
        held = self._held.pop(sandbox_id)
        self._deadlines_changed.set()
        await self._spawn(held.executor.end())
        held.break_off()

    def _watch(self, sandbox_id: str, held: Held) -> None:
        """See to it that an executor's end is noted, and that it comes early where losses are wanted."""
        died = held.executor.died
        died.add_done_callback(lambda _: self._spawn(self._lost(sandbox_id, "its processes ended")))
        losses = self.knobs.losses
        if self._random.random() < losses.probability:
            delay, loop = self._random.uniform(0, losses.within_seconds), asyncio.get_running_loop()
            lose = lambda: self._spawn(self._lost(sandbox_id, "lost early, as ordered"))  # noqa: E731 - a callback
            self._timers.append(loop.call_later(delay, lose))

    async def _lost(self, sandbox_id: str, detail: str) -> None:
        await self.lose(sandbox_id, detail)

    def _extended(self, sandbox: Sandbox, asker: Asker) -> Sandbox:
        self._note(Event.EXTENDED, sandbox, asker)
        self._deadlines_changed.set()
        return sandbox

    def _note(self, event: Event, sandbox: Sandbox, asker: Asker, **more: Any) -> None:
        template = sandbox.order.template
        facts = {
            "time": self.now(),
            "sandbox_id": sandbox.id,
            "call": asker.call,
            "request_id": asker.request_id,
            "idempotency_key": asker.idempotency_key,
            "metadata": sandbox.order.metadata,
            "deadline": sandbox.deadline,
            "template": template.name,
            "cpu_count": template.cpu_count,
            "memory_mb": template.memory_mb,
        }
        self.ledger.write(Entry(event=event, **{**facts, **more}))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
