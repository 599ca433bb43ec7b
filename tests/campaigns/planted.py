"""Operators with one rule of the slot protocol left out, and where each is seen: a campaign that misses one tests nothing.

plant("blind-retry")          this process's operator asks again after a time-out
TRIALS                        the plan or cell that has to go wrong with it, and right without it
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from execpool.api.v1alpha1 import Tier
from execpool.controller import composition, term
from execpool.core.learning import LearnedNumber
from execpool.core.model import Pool
from execpool.core.slots import LONG_TTL_SECONDS, Knowledge
from execpool.providers.e2b.client import E2BClient
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.errors import E2BError
from execpool.providers.e2b.progress import Later, Progress
from execpool.providers.e2b.provider import E2BProvider
from execpool.providers.e2b.records import AccountName, Record
from execpool.providers.e2b.slot_driver import SlotDriver
from execpool.providers.e2b.sweeping import Sweeper
from execpool.providers.e2b.tags import Tagger
from execpool.providers.e2b.wire import Created, Listed, read_listed


class AsksWithoutIntent(E2BProvider):
    async def create(self, pool: Pool, tier: Tier) -> str:
        desk = self.desks.of(AccountName("agents", "main"))
        if desk.closed is None and desk._api is not None:
            tag = {"execpool-cluster": "cluster-uid.execpool-system", "execpool-record": "to be written"}
            await desk._api.create(tier.as_e2b().template, 120, tag, "key")
        return await super().create(pool, tier)


class RecordsLater(SlotDriver):
    async def _note(self, desk: Desk, record: Record, created: Created, asked_at: float) -> Progress:
        return Later(10.0)  # and would write it down then


class AsksAgainBlindly(SlotDriver):
    def _lost(self, desk: Desk, record: Record, error: E2BError) -> Progress:
        desk.book.learn(record.uid, Knowledge(is_unsent=True))
        return super()._lost(desk, record, error)


class ReadsOnePage(E2BClient):
    page = "100"

    async def list(self, tag: Any) -> tuple[Listed, ...]:
        _, payload = await self._page({"state": "running,paused", "limit": self.page})
        return tuple(read_listed(payload))


class ReadsOneEntry(ReadsOnePage):
    """An account of three is small; a page of one is to it what a page of a hundred is to a large one."""

    page = "1"


class TakesAllForOurs(Tagger):
    def is_ours(self, listed: Listed) -> bool:
        return True


class BelievesEveryList(Sweeper):
    def is_believable(self, records: int, unreadable: int, expected: int) -> bool:
        return True


def never_full(self: LearnedNumber, _ours: int, _now: float) -> LearnedNumber:
    """In the place of `LearnedNumber.full`: an account that says it is full is asked again."""
    return self


def _driver(driver: Any) -> Callable[[], None]:
    return lambda: setattr(composition, "SlotDriver", driver)


BUGS: dict[str, Callable[[], None]] = {
    "no-intent": lambda: setattr(term, "E2BProvider", AsksWithoutIntent),
    "recorded-later": _driver(RecordsLater),
    "long-first-deadline": _driver(functools.partial(SlotDriver, short_ttl=LONG_TTL_SECONDS)),
    "first-page-only": lambda: setattr(composition, "E2BClient", ReadsOneEntry),
    "blind-retry": _driver(AsksAgainBlindly),
    "full-asked-again": lambda: setattr(LearnedNumber, "full", never_full),
    "no-tag-check": lambda: setattr(composition, "Tagger", TakesAllForOurs),
    "empty-list-believed": lambda: setattr(composition, "Sweeper", BelievesEveryList),
}


def plant(bug: str) -> None:
    """Put a bug into the operator of this process."""
    BUGS[bug]()


@dataclass(frozen=True)
class Trial:
    """Where a bug is seen: a plan of the crash campaign, or a cell of the matrix."""

    bug: str
    place: str
    is_cell: bool = False


TRIALS = (
    Trial("no-intent", "create:"),
    Trial("recorded-later", "create:"),
    Trial("long-first-deadline", "create: create 2 read"),
    Trial("first-page-only", "create: create 1 withheld"),
    Trial("blind-retry", "create: hang-committed once", is_cell=True),
    Trial("full-asked-again", "create: 429-bare sustained", is_cell=True),
    Trial("no-tag-check", "create:"),
    Trial("empty-list-believed", "records: empty sustained", is_cell=True),
)
