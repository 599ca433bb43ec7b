"""What came of a plan, by the emulator's ledger: it alone knows what the account had, told or not."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from execpool.core.slots import SHORT_TTL_SECONDS
from execpool.emulator.ledger import Entry, Event, History, Life
from execpool.providers.e2b.tags import CLUSTER, POOL, RECORD
from tests.campaigns.tap import Noted

MARGIN_SECONDS = 10.0
"""Half a second outside at 1:20: an answer on its way, a process that has to wait for a processor."""


@dataclass(frozen=True)
class Verdict:
    """All zero when a plan came out right.

    Attributes:
        leaked: sandboxes of ours that no record knows, at the end.
        doubled: beyond the first of one record, at the end.
        overlapped: records that have had two sandboxes at the same time, at any time.
        long_at_first: created with more than the short deadline.
        missing: wanted, and not ready in their record and alive at the account.
        unannounced: created for a record that never was.
        unrecorded_long: that no record knew for longer than the short deadline, at any time.
        foreign_killed: of others.
        kept_killed: although a record kept them, ready or claimed.
        over_rate: creations asked for beyond the declared rate, in any second.
        over_most: alive beyond what the account may have for us, at any time.
        left_behind: alive when their pool's finalizer went.
        asked_twice: requests with an idempotency key that may have had its effect before.
    """

    leaked: int = 0
    doubled: int = 0
    overlapped: int = 0
    long_at_first: int = 0
    missing: int = 0
    unannounced: int = 0
    unrecorded_long: int = 0
    foreign_killed: int = 0
    kept_killed: int = 0
    over_rate: int = 0
    over_most: int = 0
    left_behind: int = 0
    asked_twice: int = 0

    @property
    def is_clean(self) -> bool:
        return self == Verdict()

    @property
    def is_harmless(self) -> bool:
        """True when nothing is wrong but that something is not there yet."""
        return replace(self, missing=0) == Verdict()

    def __str__(self) -> str:
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        return ", ".join(f"{name} {value}" for name, value in said.items() if value) or "clean"


@dataclass(frozen=True)
class Facts:
    """What a verdict is made of, beside the ledger.

    Attributes:
        records: as they are at the end.
        known: ids that records have ever had, and since when.
        let_go: since when no record keeps them any more, ready or claimed.
        uids: of all records that there have ever been.
        planted: ids of sandboxes with our tag that the story made.
        released: when the finalizer of each pool went, by UID.
    """

    wanted: int
    records: Sequence[dict[str, Any]]
    known: dict[str, float]
    let_go: dict[str, float]
    uids: set[str]
    planted: set[str]
    released: dict[str, float]
    requests: Sequence[Noted]
    now: float
    creates_per_second: int
    most: int


def verdict(history: History, facts: Facts) -> Verdict:
    """Judge."""
    ours = {name: life for name, life in history.lives.items() if CLUSTER in life.created.metadata}
    asked_for = [life for name, life in ours.items() if name not in facts.planted]
    alive = {name: life for name, life in ours.items() if life.is_alive(facts.now)}
    recorded = _ids(facts.records, ("Ready", "Claimed", "Intent", "Terminating", "Lost"))
    of_records = [life.created.metadata[RECORD] for life in alive.values()]
    return Verdict(
        leaked=len(alive.keys() - recorded),
        doubled=len(of_records) - len(set(of_records)),
        overlapped=_overlapped(ours.values()),
        long_at_first=sum(_first_deadline(life) > SHORT_TTL_SECONDS + 1.0 for life in asked_for),
        missing=max(facts.wanted - len(_ids(facts.records, ("Ready", "Claimed")) & alive.keys()), 0),
        unannounced=sum(life.created.metadata[RECORD] not in facts.uids for life in asked_for),
        unrecorded_long=sum(_unrecorded(life, facts) > SHORT_TTL_SECONDS + MARGIN_SECONDS for life in asked_for),
        foreign_killed=sum(CLUSTER not in entry.metadata for entry in history.of(Event.KILLED)),
        kept_killed=sum(_is_kept(entry, facts) for entry in history.of(Event.KILLED)),
        over_rate=over_rate(facts.requests, facts.creates_per_second),
        over_most=max(_most_alive(ours.values()) - facts.most, 0),
        left_behind=sum(_alive_at_release(life, facts.released) for life in ours.values()),
        asked_twice=asked_twice(facts.requests),
    )


def _first_deadline(life: Life) -> float:
    return life.created.deadline - life.created.time


def _overlapped(lives: Iterable[Life]) -> int:
    by_record: dict[str, list[Life]] = defaultdict(list)
    for life in sorted(lives, key=lambda one: one.created.time):
        by_record[life.created.metadata[RECORD]].append(life)
    pairs = [pair for found in by_record.values() for pair in pairwise(found)]
    return sum(first.is_alive(second.created.time) for first, second in pairs)


def over_rate(requests: Iterable[Noted], per_second: int) -> int:
    """Return how many creations too many there were in the worst second."""
    times = sorted(one.time for one in requests if (one.effect, one.what) == ("create", "sent"))
    most = max((sum(start <= time < start + 1.0 for time in times) for start in times), default=0)
    return max(most - per_second, 0)


def asked_twice(requests: Sequence[Noted]) -> int:
    """Return how many creations were asked for again although the one before was not provably without effect."""
    open_keys: dict[tuple[int, int], str] = {}
    may_have_happened: Counter[str] = Counter()
    twice = 0
    for one in requests:
        place = one.life, one.number
        if one.effect != "create":
            continue
        if one.what == "sent":
            twice += bool(may_have_happened[one.key])
            may_have_happened[one.key] += 1
            open_keys[place] = one.key
        elif _is_without_effect(one.what):
            may_have_happened[open_keys[place]] -= 1
    return twice


def _is_without_effect(what: str | int) -> bool:
    refused = isinstance(what, int) and 400 <= what < 500 and what != 408
    return refused or what in ("ClientConnectorError", "ConnectionTimeoutError")


def _ids(records: Sequence[dict[str, Any]], phases: tuple[str, ...]) -> set[str]:
    states = [one.get("status") or {} for one in records]
    return {state["sandboxID"] for state in states if state.get("phase") in phases and state.get("sandboxID")}


def _is_kept(killed: Entry, facts: Facts) -> bool:
    since = facts.known.get(killed.sandbox_id)
    return since is not None and since < killed.time < facts.let_go.get(killed.sandbox_id, facts.now) - 1.0


def _unrecorded(life: Life, facts: Facts) -> float:
    """Return for how long no record had a sandbox's id."""
    end = life.ended.time if life.ended else facts.now
    return min(facts.known.get(life.created.sandbox_id, end), end) - life.created.time


def _most_alive(lives: Iterable[Life]) -> int:
    known = list(lives)
    return max((sum(one.is_alive(life.created.time) for one in known) for life in known), default=0)


def _alive_at_release(life: Life, released: dict[str, float]) -> bool:
    at = released.get(life.created.metadata.get(POOL, ""))
    return at is not None and life.is_alive(at)
