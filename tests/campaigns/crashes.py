"""Every plan of the crash campaign: what an undisturbed operator does in a story is where others die in it.

each effect of each story, its first, middle and last time     x  before it, with its answer withheld, with it read
creations and kills                                            x  on their way, too
a creation whose outcome nobody knows, then a second death     x  at whatever is done to find out
deaths                                                         x  every third status write refused, or its answer lost
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from tests.campaigns.plans import Death, Instant, Plan, Writes
from tests.campaigns.play import Outcome
from tests.campaigns.stories import STORIES

INSTANTS = (Instant.BEFORE, Instant.WITHHELD, Instant.READ)
RARE = frozenset({"account-status", "pool-status", "sweep", "look"})
"""Effects of which the first time is as good as any."""
FINDING_OUT = ("look", "connect", "record-id", "next-attempt", "extend")
DOUBTFUL = (Instant.SENT, Instant.WITHHELD, Instant.READ)
CONSTANTS = tuple(
    map(
        Plan.read,
        (
            "create: create 2 read",
            "create: create 1 withheld, connect 1 read",
            "create: intent 2 read",
            "create: record-id 1 before",
            "create: extend 3 withheld",
            "scale: create 4 before",
            "scale: terminate 2 read",
            "template: kill 2 withheld",
            "delete-busy: kill 2 before",
            "delete-idle: release 2 read",
        ),
    )
)
"""Played at real constants as well."""

SLICE = (
    *map(str, CONSTANTS),
    "create: create 2 sent",
    "create: create 2 read, connect 1 withheld",
    "create: create 2 read, record-id 1 before",
    "create: pool-finalizer 1 read",
    "create / Lost: record-id 2 before",
    "create / Conflict: create 1 read",
    "scale: create 8 withheld",
    "scale: drop 5 before",
    "scale / Lost: kill 3 read",
    "template: intent 6 before",
    "template: record-deadline 4 withheld",
    "delete-busy: drop 1 read",
    "delete-idle: terminate 3 withheld",
    "delete-idle / Conflict: pool-release 1 before",
)
"""For `make test`."""


def learnings() -> list[Plan]:
    """Return the plans that nobody dies in."""
    return [Plan(story) for story in STORIES]


def plans(learned: Iterable[Outcome]) -> list[Plan]:
    """Return every plan, from what the undisturbed stories did."""
    counts = {
        outcome.plan.story: Counter(one.effect for one in outcome.requests if one.what == "sent") for outcome in learned
    }
    single = [plan for story, count in counts.items() for plan in _single(story, count)]
    return [*single, *_double(), *_disturbed(single)]


def _single(story: str, count: Counter[str]) -> Iterator[Plan]:
    for effect, times in sorted(count.items()):
        numbers = {1} if effect in RARE else {1, (times + 1) // 2, times}
        instants = (*INSTANTS, Instant.SENT) if effect in ("create", "kill") else INSTANTS
        yield from (Plan(story, (Death(effect, number, at),)) for number in sorted(numbers) for at in instants)


def _double() -> Iterator[Plan]:
    for first in DOUBTFUL:
        for effect in FINDING_OUT:
            for at in INSTANTS:
                yield Plan("create", (Death("create", 2, first), Death(effect, 1, at)))


def _disturbed(single: list[Plan]) -> Iterator[Plan]:
    """Every fourth of the plans, under either disturbance; and each story alone."""
    for writes in (Writes.CONFLICT, Writes.LOST):
        yield from (Plan(story, (), writes) for story in STORIES)
        offset = 0 if writes is Writes.CONFLICT else 2
        yield from (Plan(one.story, one.deaths, writes) for one in single[offset::4])
