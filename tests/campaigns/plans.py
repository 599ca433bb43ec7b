"""What a plan is: a story, where operators die in it, and what becomes of their status writes. One line says it all.

scale: create 3 withheld, look 1 read
|      |                  '- and the next operator at its first look at the account, once it has the answer
|      '- the first operator dies at its third creation, which happens, while it waits for the answer
'- the pool is scaled 0 - 8 - 3

create / Conflict:               nobody dies; every third status write is answered 409
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Instant(StrEnum):
    """When an operator dies at a request."""

    BEFORE = "before"
    """It is not sent."""
    SENT = "sent"
    """It is on its way; whatever is asked for happens while nobody waits for it."""
    WITHHELD = "withheld"
    """It has happened, and no answer comes; the operator does other things for two seconds, then it dies."""
    READ = "read"
    """The answer has been read, and nothing has been done about it."""


class Writes(StrEnum):
    """What becomes of every third write of a status."""

    FINE = "Fine"
    CONFLICT = "Conflict"
    """It is answered 409, and does not happen."""
    LOST = "Lost"
    """It happens, and its connection breaks."""


@dataclass(frozen=True)
class Death:
    """Where one operator dies: at its nth request of a kind (`tap.effect_of`)."""

    effect: str
    number: int
    instant: Instant

    def __str__(self) -> str:
        return f"{self.effect} {self.number} {self.instant.value}"

    @classmethod
    def read(cls, text: str) -> Self:
        effect, number, instant = text.split()
        return cls(effect, int(number), Instant(instant))


_PLAN = re.compile(r"(?P<story>[a-z-]+)( / (?P<writes>\w+))?:(?P<deaths>.*)")


@dataclass(frozen=True)
class Plan:
    """A story of `stories.STORIES`, and the deaths of its first, second, ... operator."""

    story: str
    deaths: tuple[Death, ...] = ()
    writes: Writes = Writes.FINE

    def __str__(self) -> str:
        writes = "" if self.writes is Writes.FINE else f" / {self.writes.value}"
        return f"{self.story}{writes}: {', '.join(map(str, self.deaths))}".strip()

    @classmethod
    def read(cls, text: str) -> Self:
        found = _PLAN.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is not a plan; one is: scale: create 3 withheld, look 1 read")
        deaths = (part.strip() for part in found["deaths"].split(","))
        return cls(
            found["story"], tuple(Death.read(part) for part in deaths if part), Writes(found["writes"] or "Fine")
        )
