"""The ledger: what happened to an account, one JSON object a line, and what follows from it. The truth for tests.

A line is written, and handed to the kernel, before the answer that it belongs to is sent; a line is never changed. So what
a client has been told is there, and so is what it has not been told because its answer was lost.

`History` reads: who was alive when, what was created twice, what it cost. It holds no more than the file does, and needs no
emulator to run.
"""

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from execpool.emulator.plans import Prices


class Event(StrEnum):
    """What a line says."""

    OPENED = "Opened"
    """The emulator started: nothing is alive, whatever came before."""
    CREATED = "Created"
    EXTENDED = "Extended"
    """A deadline was moved, earlier or later."""
    PAUSED = "Paused"
    RESUMED = "Resumed"
    KILLED = "Killed"
    EXPIRED = "Expired"
    LOST = "Lost"
    """It ended without anybody asking for it."""
    EXECUTION_STARTED = "ExecutionStarted"
    REFUSED = "Refused"
    """A call was answered with an error."""
    FAULTED = "Faulted"
    """An ordered fault was given to a call; its own effect, if any, has a line of its own."""
    CLOSED = "Closed"
    """The emulator ended, and everything with it."""


ENDS = frozenset({Event.KILLED, Event.EXPIRED, Event.LOST})


@dataclass(frozen=True)
class Entry:
    """One line. What does not apply is left out of it.

    Attributes:
        time: seconds since the epoch.
        call: the call that it belongs to; empty where there was none.
        deadline: of the sandbox from then on, seconds since the epoch.
        status: of the answer, where it was an error.
        drawn_seconds: how long the creation was to take.
        late_seconds: by how much it took longer, because this machine was slow.
        detail: a sentence.
    """

    time: float
    event: Event
    sandbox_id: str = ""
    call: str = ""
    request_id: str = ""
    idempotency_key: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    deadline: float = 0.0
    status: int = 0
    template: str = ""
    cpu_count: int = 0
    memory_mb: int = 0
    drawn_seconds: float = 0.0
    late_seconds: float = 0.0
    detail: str = ""

    def line(self) -> bytes:
        """Return the line, with its end."""
        said = {name: value for name, value in asdict(self).items() if value or name == "time"}
        return json.dumps(said, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def read(cls, line: str | bytes) -> Self:
        """Read a line; fields that it has beside ours are ignored."""
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {name: value for name, value in json.loads(line).items() if name in known}
        return cls(**{**values, "event": Event(values["event"])})


class LedgerFile:
    """Appends to a file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, entry: Entry) -> None:
        """Append a line. It survives the end of this process; only a crash of the machine can lose it."""
        os.write(self._descriptor, entry.line())

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


@dataclass
class Life:
    """One sandbox, from its lines."""

    created: Entry
    deadline: float
    runs: list[tuple[float, float | None]]
    """When it ran, and until when; None while it does."""
    ended: Entry | None = None

    def is_alive(self, moment: float) -> bool:
        """True when it existed, running or paused."""
        return self.created.time <= moment and (self.ended is None or moment < self.ended.time)

    def seconds(self, until: float) -> float:
        """Return how long it ran, without its pauses."""
        return sum(max(min(end or until, until) - start, 0.0) for start, end in self.runs if start < until)

    def stop(self, moment: float) -> None:
        """Note that it runs no more."""
        if self.runs and self.runs[-1][1] is None:
            self.runs[-1] = (self.runs[-1][0], moment)


class History:
    """What a ledger tells."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = list(entries)
        self.lives: dict[str, Life] = {}
        for entry in self.entries:
            self._take(entry)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a ledger's file."""
        return cls(map(Entry.read, path.read_bytes().splitlines()))

    def created(self) -> list[Entry]:
        """Return the creations that were accepted, told or not."""
        return self.of(Event.CREATED)

    def of(self, *events: Event) -> list[Entry]:
        """Return the lines of some kinds."""
        return [entry for entry in self.entries if entry.event in events]

    def alive(self, moment: float) -> set[str]:
        """Return the ids of all that existed at a moment."""
        return {sandbox_id for sandbox_id, life in self.lives.items() if life.is_alive(moment)}

    def most_alive(self) -> int:
        """Return how many existed at the same time, at most."""
        moments = [life.created.time for life in self.lives.values()]
        return max((len(self.alive(moment)) for moment in moments), default=0)

    def duplicates(self, tag: str) -> dict[str, list[str]]:
        """Return the values of a metadata key that more than one sandbox was created with: {value: ids}."""
        found: dict[str, list[str]] = defaultdict(list)
        for entry in self.created():
            if tag in entry.metadata:
                found[entry.metadata[tag]].append(entry.sandbox_id)
        return {value: ids for value, ids in found.items() if len(ids) > 1}

    def refusals(self, call: str = "") -> list[tuple[str, int]]:
        """Return call and status of what was refused, in its order."""
        return [(entry.call, entry.status) for entry in self.of(Event.REFUSED) if call in ("", entry.call)]

    def sandbox_seconds(self, until: float) -> float:
        """Return how long all sandboxes together ran until a moment."""
        return sum(life.seconds(until) for life in self.lives.values())

    def cost_microusd(self, until: float, prices: Prices | None = None) -> float:
        """Return what that costs, in micro-dollars."""
        prices = prices or Prices()
        return sum(
            prices.of(life.created.cpu_count, life.created.memory_mb, life.seconds(until))
            for life in self.lives.values()
        )

    def _take(self, entry: Entry) -> None:
        if entry.event is Event.CREATED:
            self.lives[entry.sandbox_id] = Life(entry, entry.deadline, [(entry.time, None)])
        elif entry.event in (Event.OPENED, Event.CLOSED):
            for life in self._unended():
                life.ended = entry
                life.stop(entry.time)
        elif (life_of := self.lives.get(entry.sandbox_id)) is not None:
            _live_on(life_of, entry)

    def _unended(self) -> Iterator[Life]:
        return (life for life in self.lives.values() if life.ended is None)


def _live_on(life: Life, entry: Entry) -> None:
    match entry.event:
        case Event.EXTENDED:
            life.deadline = entry.deadline
        case Event.PAUSED:
            life.stop(entry.time)
        case Event.RESUMED:
            life.deadline = entry.deadline
            life.runs.append((entry.time, None))
        case event if event in ENDS:
            life.ended = entry
            life.stop(entry.time)
