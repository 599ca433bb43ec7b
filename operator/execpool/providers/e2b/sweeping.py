"""The look at everything an account has: strangers are ended, and records whose sandbox no list shows are doubted.

A stranger carries our tag and no record stands for it. Killing is the one effect that nobody can undo, so it is bounded
from all sides: a sandbox must be old enough (core.slots) and a stranger at two looks in a row; records are listed after the
sandboxes, all of them, of every account; a list of records that failed, cannot be read whole, is empty, or holds less than
half of the last one ends nothing (should it be true all the same, deadlines that nobody moves on end what is left); and one
look kills at most MOST_KILLS, or a tenth of what is ours.

A doubted record is no lost one: a list may lag. Its sandbox is asked about by name.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from execpool.api.e2b import SandboxPhase
from execpool.core.slots import VISIBLE_SECONDS, Sighting, Slot, strangers
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.records import AccountName, Record
from execpool.providers.e2b.tags import Tagger, sightings

log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
MOST_KILLS = 5
KILL_DIVISOR = 10

ListRecords = Callable[[], Awaitable[tuple[Sequence[Record], int]]]
"""Returns all records of all accounts, and how many of them cannot be read. Raises KubeError."""


@dataclass
class _Seen:
    """What the last look found."""

    at: float
    suspects: frozenset[str] = frozenset()
    records: int = 0
    """How many there should be: as many as there were, half of that after each list that shows too few."""


@dataclass
class Sweeper:
    """Sweeps accounts; what it remembers between two looks is harmless to lose."""

    tagger: Tagger
    clock: Callable[[], float]
    seconds: float = SWEEP_SECONDS
    _seen: dict[AccountName, _Seen] = field(default_factory=dict)

    def rests(self, name: AccountName) -> float:
        """Return for how many seconds an account need not be swept; the first look comes a period after the start."""
        seen = self._seen.setdefault(name, _Seen(self.clock()))
        return max(seen.at + self.seconds - self.clock(), 0.0)

    def expect(self, name: AccountName, records: int) -> None:
        """Note how many records of all accounts there are, or were when a status was last written."""
        seen = self._seen.setdefault(name, _Seen(self.clock()))
        seen.records = max(seen.records, records)

    def forget(self, name: AccountName) -> None:
        """Drop what is remembered of an account that is gone."""
        self._seen.pop(name, None)

    async def sweep(self, desk: Desk, list_records: ListRecords) -> None:
        """Look at everything that an account has. Raises E2BError and KubeError."""
        before = self._seen.setdefault(desk.name, _Seen(self.clock()))
        before.at = self.clock()
        listed = await desk.listing({})
        records, unreadable = await list_records()
        ours = sightings(one for one in listed if self.tagger.is_ours(one))
        desk.saw_foreign([one.started_at for one in listed if not self.tagger.is_ours(one)])
        slots = [record.slot for record in records]
        suspects = frozenset(strangers(ours, slots, self.clock()))
        desk.book.doubted |= set(self._absent(desk, {one.sandbox_id for one in listed}))
        condemned = sorted(suspects & before.suspects)[: max(MOST_KILLS, len(ours) // KILL_DIVISOR)]
        if not self.is_believable(len(records), unreadable, before.records):
            log.warning(
                "strangers are left alone: the list of records is not to be trusted",
                extra={"account": desk.name.key, "records": len(records), "before": before.records, "odd": unreadable},
            )
            condemned = []
        # A list that goes on being wrong is not believed sooner than one that is wrong once: what is expected halves.
        expected = max(len(records), before.records // 2)
        self._seen[desk.name] = _Seen(before.at, suspects, expected)
        await self._kill(desk, condemned, ours)

    def is_believable(self, records: int, unreadable: int, expected: int) -> bool:
        """True when a list of so many records may cost somebody a sandbox."""
        return records > 0 and not unreadable and records * 2 >= expected

    def _absent(self, desk: Desk, shown: set[str]) -> Iterable[str]:
        for slot in desk.book.slots():
            kept = slot.phase in (SandboxPhase.READY, SandboxPhase.CLAIMED)
            if kept and slot.sandbox_id not in shown and self._is_old(slot):
                yield slot.uid

    def _is_old(self, slot: Slot) -> bool:
        return self.clock() >= slot.attempt_at + VISIBLE_SECONDS

    async def _kill(self, desk: Desk, condemned: Sequence[str], ours: Sequence[Sighting]) -> None:
        by_id = {one.sandbox_id: one for one in ours}
        for sandbox_id in condemned:
            record = by_id[sandbox_id].record
            log.warning(
                "a stranger is killed", extra={"account": desk.name.key, "sandbox": sandbox_id, "record": record}
            )
            await desk.kill(sandbox_id)
