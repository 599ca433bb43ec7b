"""Carries out the slot protocol for one record: asks `core.slots.decide`, does what it says, asks again, until it says wait.

The order of effects is the protocol, and each may be the last one that this process does:

    ask       known as sent, then the request; the id goes into the record at once, before anything else is done with it
    look      by the record's tag, and what comes of it is checked against the tag again
    adopt     the others are killed first; then its tokens are fetched, since lists have none, and it is recorded
    kill      what E2B has confirmed is gone is gone; whatever else may have happened is done again
    drop      is left to the account's round, which first books what it cost

One record is driven by one task at a time. Somebody else may write it meanwhile, a gateway's claim or a pool's retirement:
then our write is answered 409, and everything is decided again from the record as it is.
"""

import logging
import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from execpool.api.e2b import LONGEST_LIFE_SECONDS, SandboxPhase
from execpool.api.names import Reason
from execpool.core.sealing import NONCE_BYTES
from execpool.core.slots import (
    BETWEEN_LOOKS_SECONDS,
    LONG_TTL_SECONDS,
    SHORT_TTL_SECONDS,
    Adopt,
    Ask,
    Drop,
    Extend,
    Kill,
    Knowledge,
    Look,
    MarkLost,
    NextAttempt,
    Sighting,
    Step,
    Wait,
    decide,
    has_run_out,
)
from execpool.core.spending import cost
from execpool.core.times import format_time
from execpool.kube.errors import ConflictError, NotFoundError
from execpool.providers.e2b.book import grant_of
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.errors import (
    AnsweredError,
    E2BError,
    GoneError,
    HeldBackError,
    RefusedError,
    UnsentError,
)
from execpool.providers.e2b.holds import Hold
from execpool.providers.e2b.recording import Recorder
from execpool.providers.e2b.records import Record, RecordWriter, Trouble
from execpool.providers.e2b.tags import Tagger, sightings
from execpool.providers.e2b.wire import SANDBOX_ID, Created

log = logging.getLogger(__name__)

MOST_STEPS = 12
"""Steps of one record without a pause; more is a sign that something does not come to rest."""
RETRY_SECONDS = 2.0
WORTH_SECONDS = 1.0
"""An extension that gains less is not asked for: the sandbox is near the end of what its plan allows."""


@dataclass(frozen=True)
class Again:
    """Decide again with this record."""

    record: Record


@dataclass(frozen=True)
class Later:
    """Nothing to do for so many seconds, unless the record changes."""

    seconds: float


@dataclass(frozen=True)
class Over:
    """Nothing of it is left: its record may go."""

    record: Record


@dataclass(frozen=True)
class Vanished:
    """The record is gone."""


Progress = Again | Later | Over | Vanished


@dataclass(frozen=True)
class SlotDriver:
    """Drives records; what it knows between two calls is in the desk's book."""

    writer: RecordWriter
    recorder: Recorder
    tagger: Tagger
    clock: Callable[[], float]
    draw_nonce: Callable[[], bytes] = lambda: secrets.token_bytes(NONCE_BYTES)
    short_ttl: int = SHORT_TTL_SECONDS

    def rests(self, desk: Desk, record: Record) -> float:
        """Return for how many seconds there is nothing to do for a record; 0 when there is something now."""
        step = self._next_step(desk, record)
        if isinstance(step, Wait):
            return step.seconds
        hold = self._hold(desk, record, step)
        if hold is not None:
            self._blame(desk, record, hold)
            return hold.seconds
        return 0.0

    async def drive(self, desk: Desk, record: Record) -> Later | Over | Vanished:
        """Take steps until there is nothing to do for now. Raises FencedError and KubeError."""
        for _ in range(MOST_STEPS):
            try:
                progress = await self._step(desk, record, self._next_step(desk, record))
            except ConflictError:
                current = await self.writer.read(record)
                progress = Again(desk.book.wrote(current)) if current is not None else Vanished()
            except NotFoundError:
                progress = Vanished()
            except HeldBackError as error:
                progress = Later(min(error.retry_after, RETRY_SECONDS))
            except E2BError as error:
                log.info("call to E2B failed", extra={"record": record.key, "error": str(error)})
                progress = Later(RETRY_SECONDS)
            if isinstance(progress, Vanished):
                desk.book.forget(record.uid)
            if not isinstance(progress, Again):
                return progress
            record = progress.record
        log.warning("a record does not come to rest", extra={"record": record.key, "phase": record.slot.phase.value})
        return Later(RETRY_SECONDS)

    def _next_step(self, desk: Desk, record: Record, seen: tuple[Sighting, ...] | None = None) -> Step:
        slot, now = record.slot, self.clock()
        known = desk.book.knowledge(record.uid)
        ending = slot.phase in (SandboxPhase.TERMINATING, SandboxPhase.LOST)
        if ending and desk.closed is not None and has_run_out(slot, now):
            return Drop()  # nobody can be asked, and no deadline that was ever granted is left
        step = decide(slot, known, now, seen)
        if isinstance(step, Wait) and record.uid in desk.book.doubted and not ending and slot.sandbox_id:
            return Extend(slot.sandbox_id)
        if isinstance(step, Extend) and self._gain(desk, record, now) < WORTH_SECONDS:
            return Wait(max(slot.expires_at - now, WORTH_SECONDS))
        return step

    def _hold(self, desk: Desk, record: Record, step: Step) -> Hold | None:
        """Return why a step has to wait."""
        if isinstance(step, MarkLost | Drop):
            return None
        if isinstance(step, Ask) or (isinstance(step, NextAttempt) and desk.book.knowledge(record.uid).is_unsent):
            return desk.hold_for_ask(record)  # an attempt that would only wait again is not written
        return desk.closed or desk.hold_of_calls()

    async def _step(self, desk: Desk, record: Record, step: Step) -> Progress:
        hold = self._hold(desk, record, step)
        if hold is not None:
            self._blame(desk, record, hold)
            # Until when nothing may be asked for is told by `rests`, at any moment: who has waited longest must not find
            # that a moment has come for somebody else while he still rested.
            return Later(0.0 if isinstance(step, Ask) else hold.seconds)
        match step:
            case Ask():
                return await self._ask(desk, record)
            case Look():
                return await self._look(desk, record)
            case Adopt(sandbox_id, others):
                return await self._adopt(desk, record, sandbox_id, others)
            case NextAttempt():
                return await self._begin_next_attempt(desk, record)
            case Extend(sandbox_id):
                return await self._extend(desk, record, sandbox_id)
            case Kill(sandbox_ids):
                return await self._kill(desk, record, sandbox_ids)
            case MarkLost():
                return await self._mark_lost(desk, record)
            case Drop():
                return Over(record)
            case Wait(seconds):
                return Later(seconds)

    async def _ask(self, desk: Desk, record: Record) -> Progress:
        asked_at = self.clock()
        desk.book.learn(record.uid, Knowledge())  # from here on it counts as sent, until the opposite is known
        try:
            created = await desk.create(record, self.tagger.tag(record), self.short_ttl)
        except (UnsentError, AnsweredError) as error:
            desk.book.learn(record.uid, Knowledge(is_unsent=True))
            return self._refused(desk, record, error)
        except E2BError as error:
            return self._lost(desk, record, error)
        return await self._note(desk, record, created, asked_at)

    def _refused(self, desk: Desk, record: Record, error: E2BError) -> Progress:
        """Nothing came of it; the desk says when it may be asked for again."""
        log.info("sandbox not created", extra={"record": record.key, "error": str(error)})
        hold = desk.hold_for_ask(record)
        if hold is not None:
            self._blame(desk, record, hold)
        return Later(RETRY_SECONDS)

    def _lost(self, desk: Desk, record: Record, error: E2BError) -> Progress:
        """Nobody knows what came of it: from here on it is looked for."""
        log.warning("outcome of a creation is unknown", extra={"record": record.key, "error": str(error)})
        message = f"attempt {record.spec.attempt} was sent and not answered; what came of it is looked for"
        desk.book.blame(record, Trouble(Reason.OUTCOME_UNKNOWN, message))
        return Later(RETRY_SECONDS)

    async def _note(self, desk: Desk, record: Record, created: Created, asked_at: float) -> Progress:
        until = asked_at + self.short_ttl
        noted = await self.recorder.note(desk, record, created, until, self.draw_nonce())
        if noted is None:
            return Vanished()
        desk.book.learn(record.uid, Knowledge())
        desk.book.blame(noted, None)
        log.info("sandbox recorded", extra={"record": record.key, "sandbox": created.sandbox_id})
        return Again(desk.book.wrote(noted))

    async def _look(self, desk: Desk, record: Record) -> Progress:
        listed = await desk.listing(self.tagger.tag_of_record(record))
        seen = sightings(listed)
        if not seen:
            desk.book.learn(record.uid, desk.book.knowledge(record.uid).looked_in_vain(self.clock()))
        return await self._step(desk, record, self._next_step(desk, record, seen))

    async def _adopt(self, desk: Desk, record: Record, sandbox_id: str, others: tuple[str, ...]) -> Progress:
        for other in others:
            await desk.kill(other)
        asked_at = self.clock()
        try:
            created = await desk.connect(sandbox_id, self.short_ttl)
        except GoneError:
            return Later(BETWEEN_LOOKS_SECONDS)  # a list may show for a while what has ended
        if created.sandbox_id != sandbox_id:
            log.error("E2B answered for another sandbox", extra={"record": record.key, "sandbox": sandbox_id})
            return Later(BETWEEN_LOOKS_SECONDS)
        log.info("sandbox adopted", extra={"record": record.key, "sandbox": sandbox_id})
        return await self._note(desk, record, created, asked_at)

    async def _begin_next_attempt(self, desk: Desk, record: Record) -> Progress:
        written = await self.writer.write_attempt(record, self.clock())
        desk.book.learn(record.uid, Knowledge(is_unsent=True))
        return Again(desk.book.wrote(written))

    async def _extend(self, desk: Desk, record: Record, sandbox_id: str) -> Progress:
        if not SANDBOX_ID.fullmatch(sandbox_id):
            return await self._mark_lost(desk, record)  # E2B never named it so
        is_claimed = record.slot.phase is SandboxPhase.CLAIMED
        if not is_claimed and not desk.limits.is_allowed(record.namespace):
            return await self._retire(desk, record, f"account {desk.name.key} no longer allows this namespace")
        now, expires_at = self.clock(), record.slot.expires_at
        wanted = expires_at + max(self._gain(desk, record, now), 0.0)
        until = self._paid_until(desk, record, wanted, is_claimed=is_claimed)
        if until - expires_at < WORTH_SECONDS <= wanted - expires_at:
            message = f"of the {desk.limits.spend.limit} micro-dollars that the account may spend a day nothing is left"
            return await self._retire(desk, record, message)
        try:
            await desk.extend(sandbox_id, max(math.floor(until - now), 1))
        except GoneError:
            known = desk.book.knowledge(record.uid)
            desk.book.learn(record.uid, replace(known, is_gone=True))
            return Again(record)
        except RefusedError as error:
            log.info("deadline not moved", extra={"record": record.key, "error": str(error)})
            return Later(BETWEEN_LOOKS_SECONDS)
        desk.book.doubted.discard(record.uid)
        return Again(desk.book.wrote(await self.writer.write_status(record, expiresAt=format_time(until))))

    def _paid_until(self, desk: Desk, record: Record, wanted: float, is_claimed: bool) -> float:
        """Return until when a sandbox may live: as wanted when that can be paid for, else as long as is reserved already.

        A claimed one is paid for in any case: it runs to its end.
        """
        price = desk.limits.price_of(record)
        reserved = grant_of(record, price).until
        extra = cost(price, wanted - reserved)
        return wanted if extra == 0 or desk.limits.reserve(extra, anyway=is_claimed) else min(reserved, wanted)

    async def _kill(self, desk: Desk, record: Record, sandbox_ids: tuple[str, ...]) -> Progress:
        for sandbox_id in sandbox_ids:
            if SANDBOX_ID.fullmatch(sandbox_id):
                await desk.kill(sandbox_id)
        known = desk.book.knowledge(record.uid)
        if record.status.sandbox_id:
            desk.book.learn(record.uid, replace(known, is_gone=True))
            return Again(record)
        desk.book.learn(record.uid, Knowledge(last_look=self.clock()))  # a list may show them for a while
        return Later(BETWEEN_LOOKS_SECONDS)

    async def _mark_lost(self, desk: Desk, record: Record) -> Progress:
        log.warning("a sandbox is gone before its time", extra={"record": record.key})
        return Again(
            desk.book.wrote(await self.writer.write_status(record, phase=SandboxPhase.LOST, sealedTokens=None))
        )

    async def _retire(self, desk: Desk, record: Record, message: str) -> Progress:
        written = await self.writer.write_status(record, phase=SandboxPhase.TERMINATING, message=message)
        return Again(desk.book.wrote(written))

    def _gain(self, desk: Desk, record: Record, now: float) -> float:
        """Return by how many seconds a sandbox's deadline can be moved: no plan lets one live for ever."""
        life = LONGEST_LIFE_SECONDS[desk.limits.spec.plan] if desk.limits.spec is not None else LONG_TTL_SECONDS
        return min(now + LONG_TTL_SECONDS, record.slot.attempt_at + life) - record.slot.expires_at

    def _blame(self, desk: Desk, record: Record, hold: Hold) -> None:
        if record.slot.phase is SandboxPhase.INTENT:
            desk.book.blame(record, Trouble(hold.reason, hold.message))
