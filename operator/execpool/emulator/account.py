"""The state of an account: which sandboxes there are, until when, and what its limits let through. Pure.

                 reserve            started               pause
    (nothing) ────────────> Starting ─────────> Running ─────────> Paused
                              │ abandon           │  <───────────   │
                              v                   │     resume      │
                           (nothing)              └──── end ────────┴──> ended

- Starting and Running ones count against the cap, and a reservation is refused before anything is started.
- A sandbox whose deadline has passed is gone for every call from that moment on, though `end` comes a little later; one
  that pauses at its deadline stays.
- Lists may lag: what began or ended within the lag is shown as it was before.

Callers bring the time (seconds since the epoch, never going backwards) and the ids. A refused call changes nothing but the
rate that it has used up.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from execpool.core.budget import NANOSECONDS, Bucket, Rate
from execpool.e2b_server.errors import CapReachedError, ConflictError, InvalidError, NotFoundError, RateLimitedError
from execpool.emulator.plans import Plan, Template

DEFAULT_TIMEOUT_SECONDS = 300
MAX_LAG_SECONDS = 30.0
EXECUTIONS_EXCEEDED = "Rate limit exceeded, please try again later."


class State(StrEnum):
    """Of a sandbox; E2B shows the last two."""

    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True)
class Order:
    """What a creation asks for."""

    template: Template
    timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS
    metadata: dict[str, str] = field(default_factory=dict)
    env_vars: dict[str, str] = field(default_factory=dict)
    pauses_at_deadline: bool = False
    auto_resume: bool = False
    internet: bool = True
    private_traffic: bool = False


@dataclass(frozen=True)
class Sandbox:
    """One sandbox. Times are seconds since the epoch."""

    id: str
    order: Order
    state: State
    started_at: float
    """Of its present run: when it was created, or last resumed."""
    deadline: float
    created_at: float
    ended_at: float | None = None

    def is_over(self, now: float) -> bool:
        """True once it is gone for callers."""
        return self.state is State.RUNNING and not self.order.pauses_at_deadline and now >= self.deadline


class Account:
    """All sandboxes of one account, and its limits."""

    def __init__(self, plan: Plan, now: float) -> None:
        self.plan = plan
        self._sandboxes: dict[str, Sandbox] = {}
        self._ended: dict[str, Sandbox] = {}
        self.adopt(plan, now)

    def adopt(self, plan: Plan, now: float) -> None:
        """Be on another plan from now on. Sandboxes beyond a lower cap stay, as they would; their deadlines too."""
        self.plan = plan
        self._creates = _full(plan.creates, now)
        self._management = _full(plan.management, now)
        self._executions = None if plan.executions is None else _full(plan.executions, now)

    # Rates

    def count_call(self, now: float) -> None:
        """Let a control-plane call through.

        Raises:
            RateLimitedError: there were too many.
        """
        _take(self._management, now, "Rate limit exceeded")

    def count_execution(self, now: float) -> None:
        """Let an execution through.

        Raises:
            RateLimitedError: there were too many.
        """
        if self._executions is not None:
            _take(self._executions, now, EXECUTIONS_EXCEEDED)

    def creates_left(self, now: float) -> tuple[int, int, float]:
        """Return limit, remaining and seconds until the next, for the headers of the real service."""
        bucket = self._creates
        return bucket.rate.limit, bucket.remaining(_ns(now)), bucket.wait(_ns(now)) / NANOSECONDS

    # Life

    def reserve(self, sandbox_id: str, order: Order, now: float) -> Sandbox:
        """Begin a creation.

        Raises:
            RateLimitedError: too many creations.
            InvalidError: it asks for a time that the plan does not have.
            CapReachedError: too many sandboxes.
        """
        _take(self._creates, now, "Rate limit exceeded")
        self._check_timeout(order.timeout_seconds)
        self._check_cap(now)
        sandbox = Sandbox(sandbox_id, order, State.STARTING, started_at=now, deadline=float("inf"), created_at=now)
        self._sandboxes[sandbox_id] = sandbox
        return sandbox

    def started(self, sandbox_id: str, now: float) -> Sandbox:
        """Note that a reserved sandbox runs: its time begins."""
        sandbox = self._sandboxes[sandbox_id]
        return self._put(
            replace(
                sandbox,
                state=State.RUNNING,
                started_at=now,
                created_at=now,
                deadline=now + sandbox.order.timeout_seconds,
            )
        )

    def abandon(self, sandbox_id: str) -> None:
        """Note that a reserved sandbox never came up."""
        del self._sandboxes[sandbox_id]

    def get(self, sandbox_id: str, now: float) -> Sandbox:
        """Return a sandbox.

        Raises:
            NotFoundError: there is none, or it is over.
        """
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.state is State.STARTING or sandbox.is_over(now):
            raise NotFoundError.of(sandbox_id)
        return sandbox

    def set_timeout(self, sandbox_id: str, seconds: float, now: float) -> Sandbox:
        """Move a deadline to so many seconds from now, earlier or later, but not past what the plan allows.

        Raises:
            NotFoundError: there is no such sandbox.
            InvalidError: it has had all its time.
        """
        sandbox = self._running(sandbox_id, now)
        latest = sandbox.started_at + self.plan.max_lifetime_seconds
        if now > latest:
            raise InvalidError("Max instance length exceeded")
        return self._put(replace(sandbox, deadline=min(now + max(seconds, 0), latest)))

    def extend(self, sandbox_id: str, seconds: float, now: float) -> Sandbox:
        """Move a deadline to so many seconds from now if that is later."""
        sandbox = self._running(sandbox_id, now)
        if now + seconds <= sandbox.deadline:
            return sandbox
        return self.set_timeout(sandbox_id, seconds, now)

    def pause(self, sandbox_id: str, now: float) -> Sandbox:
        """Take a sandbox out of the count; its deadline waits.

        Raises:
            NotFoundError: there is no such sandbox.
            ConflictError: it is paused.
        """
        sandbox = self.get(sandbox_id, now)
        if sandbox.state is State.PAUSED:
            raise ConflictError(f'Sandbox "{sandbox_id}" is already paused')
        return self._put(replace(sandbox, state=State.PAUSED))

    def resume(self, sandbox_id: str, seconds: int, now: float) -> Sandbox:
        """Let a paused sandbox run again, for so long.

        Raises:
            NotFoundError: there is no such sandbox.
            ConflictError: it is not paused.
            InvalidError: it asks for a time that the plan does not have.
            CapReachedError: too many sandboxes.
        """
        sandbox = self.get(sandbox_id, now)
        if sandbox.state is not State.PAUSED:
            raise ConflictError(f'Sandbox "{sandbox_id}" is already running')
        self._check_timeout(seconds)
        self._check_cap(now)
        return self._put(replace(sandbox, state=State.RUNNING, started_at=now, deadline=now + seconds))

    def end(self, sandbox_id: str, now: float) -> Sandbox:
        """Forget a sandbox, running or paused.

        Raises:
            NotFoundError: there is none.
        """
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None or sandbox.state is State.STARTING:
            raise NotFoundError.of(sandbox_id)
        del self._sandboxes[sandbox_id]
        ended = self._ended[sandbox_id] = replace(sandbox, ended_at=now)
        self._forget(now)
        return ended

    # Views

    def due(self, now: float) -> list[Sandbox]:
        """Return the running sandboxes whose deadline has come, the earliest first."""
        found = [sandbox for sandbox in self._of(State.RUNNING) if now >= sandbox.deadline]
        return sorted(found, key=lambda sandbox: sandbox.deadline)

    def next_deadline(self) -> float | None:
        """Return when the next sandbox will be due; None while none will."""
        return min((sandbox.deadline for sandbox in self._of(State.RUNNING)), default=None)

    def alive(self, now: float) -> list[Sandbox]:
        """Return all that callers can reach."""
        return [sandbox for sandbox in self._of(State.RUNNING, State.PAUSED) if not sandbox.is_over(now)]

    def seen(self, now: float, lag: float) -> list[Sandbox]:
        """Return what a list shows: all that is alive, or with a lag what was."""
        if lag <= 0:
            return self.alive(now)
        past = now - min(lag, MAX_LAG_SECONDS)
        known = [*self._of(State.RUNNING, State.PAUSED), *self._ended.values()]
        return [
            sandbox
            for sandbox in known
            if sandbox.created_at <= past and (sandbox.ended_at is None or sandbox.ended_at > past)
        ]

    def counted(self, now: float) -> int:
        """Return how many count against the cap."""
        return sum(not sandbox.is_over(now) for sandbox in self._of(State.STARTING, State.RUNNING))

    def _of(self, *states: State) -> Iterable[Sandbox]:
        return [sandbox for sandbox in self._sandboxes.values() if sandbox.state in states]

    def _running(self, sandbox_id: str, now: float) -> Sandbox:
        sandbox = self.get(sandbox_id, now)
        if sandbox.state is not State.RUNNING:
            raise NotFoundError.of(sandbox_id)
        return sandbox

    def _put(self, sandbox: Sandbox) -> Sandbox:
        self._sandboxes[sandbox.id] = sandbox
        return sandbox

    def _forget(self, now: float) -> None:
        """Drop ended sandboxes that no list can show any more."""
        old = [key for key, ended in self._ended.items() if (ended.ended_at or 0) <= now - MAX_LAG_SECONDS]
        for key in old:
            del self._ended[key]

    def _check_timeout(self, seconds: int) -> None:
        if seconds <= 0:
            raise InvalidError("Timeout must be greater than 0")
        if seconds > self.plan.max_lifetime_seconds:
            raise InvalidError(f"Timeout cannot be greater than {self.plan.max_lifetime_seconds / 3600:g} hours")

    def _check_cap(self, now: float) -> None:
        if self.counted(now) >= self.plan.sandboxes:
            raise CapReachedError.at(self.plan.sandboxes)


def _full(rate: Rate, now: float) -> Bucket:
    """Return a bucket from which a whole burst may be taken: nothing happened before."""
    return Bucket(rate, _ns(now) - rate.burst * rate.window_seconds * NANOSECONDS)


def _take(bucket: Bucket, now: float, message: str) -> None:
    if not bucket.take(_ns(now)):
        raise RateLimitedError.after(bucket.wait(_ns(now)) / NANOSECONDS, message)


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS)
