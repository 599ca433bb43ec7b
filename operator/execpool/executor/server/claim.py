"""Who owns this executor: a state machine without I/O, clock or randomness. The one place of DESIGN rules 3 and 4.

            claim(p)                 retire(Idle, latest epoch), or idle for too long
    Warm ─────────────► Claimed(p) ───────────────────────────────────────────────► Retired
      │                  ▲      │   retire(Any)                                        ▲
      │                  └──────┘                                                      │
      │                  claim(p): epoch + 1                                           │
      └────────────────────────────────────────────────────────────────────────────────┘
                  retire(Warm), retire(Any), or unclaimed for too long

A claim under which nothing has run yet may be given to a session, for good: then its deadline ends the executor, however
busy it is, and idleness does not.

Invariants, tested over random histories:
- at most one principal, ever; the token is drawn once, the epoch rises with every claim, and only the latest one may
  begin runs or retire by `Idle`;
- at most one session, ever, and no run in a slot of its own beside it;
- at most `slots` runs at once, none begins after Retired, and no execution id begins twice;
- nothing leaves Retired.

Callers pass `now` (monotonic seconds) and the token to use. A refused call changes nothing.
"""

import hmac
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from execpool.executor.server import errors
from execpool.protocol import ClaimGrant, ClaimState, ExecutorPhase, Expect, SessionState

REMEMBERED_EXECUTIONS = 65_536
"""Execution ids kept to refuse a second start; at 100 a second that is ten minutes, far past any retry."""


@dataclass(frozen=True)
class _Session:
    id: str
    ends_at: float
    about: dict[str, Any]


class Ownership:
    """One executor's owner, runs in progress, and the durations that end it."""

    def __init__(self, *, slots: int, idle_seconds: float, max_age_seconds: float, now: float) -> None:
        self.phase = ExecutorPhase.WARM
        self.slots = slots
        self._idle_seconds = idle_seconds
        self._max_age_seconds = max_age_seconds
        self._born = now
        self.principal = ""
        """Whose this executor is, for life; empty while nobody's."""
        self._token = ""
        self._epoch = 0
        self._held_since = now
        self._active_at = now
        self._running: set[str] = set()
        self._in_slots: set[str] = set()
        self._begun: OrderedDict[str, None] = OrderedDict()
        self._executions = 0
        self._visits = 0
        self._session: _Session | None = None

    @property
    def token(self) -> str:
        """The claim's token, for what is signed with it; empty while there is no claim."""
        return self._token

    @property
    def running(self) -> int:
        """Runs in progress."""
        return len(self._running)

    def claim(self, principal: str, *, token: str, now: float) -> ClaimGrant:
        """Give this executor to a principal, or a new epoch to the one that has it. `token` is used the first time.

        Raises:
            Conflict: another principal has it.
            Gone: it is retired.
        """
        self.may_claim(principal)
        if self.phase is ExecutorPhase.WARM:
            self.phase = ExecutorPhase.CLAIMED
            self.principal, self._token, self._held_since = principal, token, now
        self._epoch += 1
        self._active_at = now
        return ClaimGrant(self._token, self._epoch, self.slots)

    def may_claim(self, principal: str) -> None:
        """Raise what `claim` would; changes nothing."""
        self.must_be_live()
        if self.phase is ExecutorPhase.CLAIMED and principal != self.principal:
            raise errors.Conflict("HeldByAnother", "another principal holds this executor")

    def must_be_live(self) -> None:
        """Raise Gone once it is retired."""
        if self.phase is ExecutorPhase.RETIRED:
            raise errors.Gone("Retired", "this executor is retired and ends")

    def authorize(self, token: str, epoch: int) -> None:
        """Check what a call on the data port carries.

        Raises:
            Unauthorized: no claim was made, or the token is not the claim's.
            Gone: it is retired.
            StaleEpoch: the principal has claimed again since.
        """
        known = hmac.compare_digest(token.encode("utf-8", "replace"), self._token.encode())
        if not self._token or not known:
            raise errors.Unauthorized("NotTheHolder", "the token is not that of this executor's claim")
        self.must_be_live()
        if epoch != self._epoch:
            raise errors.StaleEpoch("StaleEpoch", f"the claim is at epoch {self._epoch}, the call at {epoch}")

    def begin(self, execution_id: str, *, now: float, takes_slot: bool = True) -> int:
        """Take a slot for an authorized execution and return its number, counted from 1.

        Executions in contexts take none: a context runs one at a time, and contexts are bounded elsewhere.

        Raises:
            Gone: it was retired since the call was authorized.
            Conflict: this execution began before.
            NoFreeSlot: all are in use.
        """
        if self.phase is not ExecutorPhase.CLAIMED:
            raise errors.Gone("Retired", "this executor takes no runs")
        if takes_slot and self._session is not None:
            raise errors.Conflict("HeldBySession", f"session {self._session.id} has this executor alone")
        if execution_id in self._begun or execution_id in self._running:
            raise errors.Conflict("AlreadyStarted", "an execution of this id was started here before")
        if takes_slot and len(self._in_slots) >= self.slots:
            raise errors.NoFreeSlot("NoFreeSlot", f"all {self.slots} slots are in use")
        self._begun[execution_id] = None
        if len(self._begun) > REMEMBERED_EXECUTIONS:
            self._begun.popitem(last=False)
        self._running.add(execution_id)
        if takes_slot:
            self._in_slots.add(execution_id)
        self._executions += 1
        self._active_at = now
        return self._executions

    def disprove(self, execution_id: str, *, now: float) -> None:
        """Undo `begin`: the run provably did not start, so the same id may be tried again."""
        if execution_id in self._running:
            self._running.discard(execution_id)
            self._in_slots.discard(execution_id)
            self._begun.pop(execution_id, None)
            self._executions -= 1
            self._active_at = now

    def end(self, execution_id: str, *, now: float) -> None:
        """Give the slot of an ended run back."""
        self._running.discard(execution_id)
        self._in_slots.discard(execution_id)
        self._active_at = now

    def hold(self, session: str, *, until: float, about: dict[str, Any] | None = None) -> None:
        """Give an authorized caller's session this executor alone, until a moment; again: move that moment.

        Raises:
            Gone: it was retired since the call was authorized.
            Conflict: another session has it, or something has run here before.
        """
        if self.phase is not ExecutorPhase.CLAIMED:
            raise errors.Gone("Retired", "this executor takes no sessions")
        if self._session is None:
            if self._executions or self._visits:
                raise errors.Conflict("NotFresh", f"{self._executions} runs have begun here before")
            self._session = _Session(session, until, about or {})
        elif self._session.id != session:
            raise errors.Conflict("HeldBySession", f"session {self._session.id} has this executor alone")
        else:
            kept = self._session.about if about is None else about
            self._session = replace(self._session, ends_at=until, about=kept)

    def visit(self, *, now: float) -> None:
        """Take note of a call that is no run: it takes no slot, and while it goes on the executor is not idle."""
        self._visits += 1
        self._active_at = now

    def leave(self, *, now: float) -> None:
        """Take note of the end of such a call."""
        self._visits -= 1
        self._active_at = now

    def retire(self, expect: Expect, *, epoch: int = 0) -> None:
        """End this executor if it is in the state that the caller expects; once retired, every caller has its wish.

        Raises:
            Conflict: it is not; nothing has changed.
        """
        if self.phase is ExecutorPhase.RETIRED:
            return
        if expect is Expect.WARM and self.phase is not ExecutorPhase.WARM:
            raise errors.Conflict("NotWarm", f"this executor is {self.phase.value}")
        if expect is Expect.IDLE:
            self._must_be_idle(epoch)
        self.phase = ExecutorPhase.RETIRED

    def _must_be_idle(self, epoch: int) -> None:
        if self.phase is not ExecutorPhase.CLAIMED:
            raise errors.Conflict("NotClaimed", f"this executor is {self.phase.value}")
        if self._session is not None:
            raise errors.Conflict("HeldBySession", f"session {self._session.id} has this executor until its deadline")
        if self._running or self._visits:
            raise errors.Conflict("Busy", f"{self.running} runs and {self._visits} other calls are in progress")
        if epoch != self._epoch:
            raise errors.Conflict("StaleEpoch", f"the claim is at epoch {self._epoch}, not {epoch}")

    def ends_at(self) -> float | None:
        """Return the moment at which this executor ends by itself if nothing happens before; None while a run goes on."""
        if self.phase is ExecutorPhase.WARM:
            return self._born + self._max_age_seconds
        if self.phase is ExecutorPhase.CLAIMED and self._session is not None:
            return self._session.ends_at
        if self.phase is ExecutorPhase.CLAIMED and not self._running and not self._visits:
            return self._active_at + self._idle_seconds
        return None

    def age_seconds(self, now: float) -> float:
        """Return how long this executor exists."""
        return now - self._born

    def state(self, now: float) -> ClaimState | None:
        """Return the claim as `/state` tells it; None when there never was one."""
        if not self.principal:
            return None
        return ClaimState(
            principal=self.principal,
            epoch=self._epoch,
            held_seconds=now - self._held_since,
            idle_seconds=0.0 if self._running or self._visits or self._session else now - self._active_at,
            running=self.running,
            executions=self._executions,
        )

    def session(self, now: float) -> SessionState | None:
        """Return the session as `/state` tells it; None when there never was one."""
        held = self._session
        return None if held is None else SessionState(held.id, max(held.ends_at - now, 0.0), held.about)
