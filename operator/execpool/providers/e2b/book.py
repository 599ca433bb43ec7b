"""What this process knows of an account's records beyond what is in them. Lost with the process, and harmless to lose.

It says more than a record in one direction only: that nothing was sent yet. So whatever is lost or was never known makes
the driver look before it asks, never ask twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from execpool.api.e2b import SandboxPhase
from execpool.core.slots import LONG_TTL_SECONDS, Knowledge, Slot
from execpool.core.spending import Grant
from execpool.providers.e2b.records import Record, Trouble

DRAFT_SECONDS = 60.0


@dataclass(frozen=True)
class Stake:
    """One sandbox that is there, or is to be, for a pool."""

    pool_uid: str
    tier: str
    grant: Grant
    is_wanted: bool = True
    """Not lost: it counts against a number of sandboxes."""
    is_unsent: bool = True
    """Nothing has been asked of E2B for it."""


@dataclass
class Book:
    """The records of one account. `on_trouble` is told the UID of a pool whose tier is in other trouble than before."""

    on_trouble: Callable[[str], None] = lambda _pool_uid: None
    records: dict[str, Record] = field(default_factory=dict)
    """By UID, as last read or written."""
    drafted: dict[str, Stake] = field(default_factory=dict)
    """Records that are being written and have not been seen, by `namespace/name`, with what they may cost."""
    promised: dict[str, float] = field(default_factory=dict)
    """By UID of their record: deadlines that have been asked for and are not in the record yet, in UNIX seconds."""
    doubted: set[str] = field(default_factory=set)
    """UIDs of records whose sandbox no list shows: they are asked about one by one."""
    _known: dict[str, Knowledge] = field(default_factory=dict)
    _troubles: dict[str, Trouble] = field(default_factory=dict)

    def draft(self, key: str, stake: Stake) -> None:
        """Note that a record is about to be written: nothing is sent for it before it has been seen."""
        self.drafted[key] = stake

    def discard(self, key: str) -> None:
        """Note that a record was not written."""
        self.drafted.pop(key, None)

    def read(self, records: list[Record], now: float) -> None:
        """Take in all records that there are. One that vanished is forgotten."""
        self.records = {record.uid: record for record in records}
        for record in records:
            if self.drafted.pop(record.key, None) is not None:
                self._known[record.uid] = Knowledge(is_unsent=record.spec.attempt == 1)
        for key in [key for key, stake in self.drafted.items() if now - stake.grant.since > DRAFT_SECONDS]:
            del self.drafted[key]  # written, and removed before anybody saw it
        for uid in (self._known.keys() | self.promised.keys()) - self.records.keys():
            self.forget(uid)
        self.doubted &= self.records.keys()

    def wrote(self, record: Record) -> Record:
        """Take in a record as it is after one of our writes."""
        self.records[record.uid] = record
        return record

    def forget(self, uid: str) -> None:
        """Drop everything about a record that is gone."""
        self.records.pop(uid, None)
        self._known.pop(uid, None)
        self._troubles.pop(uid, None)
        self.promised.pop(uid, None)
        self.doubted.discard(uid)

    def knowledge(self, uid: str) -> Knowledge:
        """Return what is known beyond a record."""
        return self._known.get(uid, Knowledge())

    def learn(self, uid: str, known: Knowledge) -> None:
        """Note what is known beyond a record."""
        self._known[uid] = known

    def trouble(self, uid: str) -> Trouble | None:
        """Return why a record has no sandbox yet, when that is known."""
        return self._troubles.get(uid)

    def blame(self, record: Record, trouble: Trouble | None) -> None:
        """Note why a record has no sandbox yet; None when it has one."""
        before = self._troubles.get(record.uid)
        if trouble is None:
            self._troubles.pop(record.uid, None)
        else:
            self._troubles[record.uid] = trouble
        if (before and before.reason) != (trouble and trouble.reason):
            self.on_trouble(record.pool_uid)

    def slots(self) -> Iterator[Slot]:
        """Yield the records as decisions have them."""
        for record in self.records.values():
            yield record.slot

    def planned(self) -> int:
        """Return how many records stand for a sandbox, or will."""
        return sum(slot.phase is not SandboxPhase.LOST for slot in self.slots()) + len(self.drafted)

    def sandboxes(self) -> int:
        """Return how many sandboxes of these records there may be."""
        return sum(self._may_have_one(slot) for slot in self.slots())

    def promise(self, uid: str, until: float) -> None:
        """Note a deadline that is about to be asked for: it is paid for from now on, whatever comes of it."""
        self.promised[uid] = max(until, self.promised.get(uid, 0.0))

    def grant_of(self, record: Record, price: int) -> Grant:
        """Return the time that a record's sandbox was granted, or may have been.

        At least its first long deadline: a sandbox that could not be kept for that is not worth being asked for.
        """
        slot = record.slot
        until = max(slot.expires_at, slot.attempt_at + LONG_TTL_SECONDS, self.promised.get(record.uid, 0.0))
        return Grant(price, slot.attempt_at, until)

    def grants(self, price_of: Callable[[Record], int]) -> Iterator[Grant]:
        """Yield the time that was granted, or may have been, with its price."""
        for stake in self.stakes(price_of):
            yield stake.grant

    def stakes(self, price_of: Callable[[Record], int]) -> Iterator[Stake]:
        """Yield what there is or is to be, with what it may cost."""
        for record in self.records.values():
            slot, grant = record.slot, self.grant_of(record, price_of(record))
            is_unsent = not self._may_have_one(slot)
            yield Stake(record.pool_uid, record.spec.tier, grant, slot.phase is not SandboxPhase.LOST, is_unsent)
        yield from self.drafted.values()

    def _may_have_one(self, slot: Slot) -> bool:
        known = self.knowledge(slot.uid)
        return slot.phase is not SandboxPhase.LOST and not known.is_gone and not known.is_unsent
