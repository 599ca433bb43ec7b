"""What a person reads, line by line, and what a program reads: one JSON object a line, with an `event`."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol, TextIO

from execpool.api.v1alpha1 import TierStatus
from execpool.cli.run import Output


@dataclass(frozen=True)
class TierRow:
    """A tier as it is: `isolation` is its rank, `warm` of `wanted` executors are ready and nobody's."""

    pool: str
    name: str
    kind: str
    warm: int
    wanted: int
    starting: int
    claimed: int
    max: int
    isolation: str
    message: str = ""

    @classmethod
    def of(cls, pool: str, status: TierStatus, most: int) -> "TierRow":
        """Return what a pool's status says of a tier."""
        return cls(
            pool=pool,
            name=status.name,
            kind=status.kind,
            warm=status.ready,
            wanted=status.desired,
            starting=status.starting,
            claimed=status.claimed,
            max=most,
            isolation=status.isolation,
            message=status.message,
        )


@dataclass(frozen=True)
class Opened:
    """All that somebody needs to use what has started."""

    url: str
    key: str = field(repr=False)
    tiers: tuple[TierRow, ...]
    lacks: tuple[str, ...]
    idle: tuple[str, ...]
    seconds: float


class Saying(Protocol):
    """Tells what happens."""

    def step(self, what: str, seconds: float) -> None:
        """Tell of a step that is done, and how long after the start."""

    def opened(self, opened: Opened) -> None:
        """Tell that executions are served."""

    def changed(self, row: TierRow) -> None:
        """Tell that a tier has changed."""

    def ended(self, why: str) -> None:
        """Tell that everything has ended."""


@dataclass(frozen=True)
class TextSaying:
    """For a person."""

    out: TextIO

    def step(self, what: str, seconds: float) -> None:
        self._line(f" ok {what}  {seconds:.1f} s")

    def opened(self, opened: Opened) -> None:
        self._line("")
        for line in _table(opened.tiers):
            self._line(line)
        self._line("\nNot as in a cluster (every tier has the lowest rank, Interpreter, and minIsolation holds):")
        for sentence in opened.lacks:
            self._line(f"  - {sentence}")
        if opened.idle:
            self._line(f"  - Without effect here: {', '.join(opened.idle)}.")
        self._line("\nIn another terminal:")
        self._line(f"  export EXECPOOL_URL={opened.url} EXECPOOL_KEY={opened.key}")
        self._line("  execpool run FILE.py")
        self._line(f"\nready after {opened.seconds:.1f} s; Ctrl-C ends everything")

    def changed(self, row: TierRow) -> None:
        message = f"; {row.message}" if row.message else ""
        counts = f"{row.warm} of {row.wanted} warm, {row.starting} starting, {row.claimed} claimed, {row.max} at most"
        self._line(f"{time.strftime('%H:%M:%S')} {row.pool}/{row.name}: {counts}{message}")

    def ended(self, why: str) -> None:
        self._line(f"ended: {why}")

    def _line(self, text: str) -> None:
        print(text, file=self.out, flush=True)


@dataclass(frozen=True)
class JsonSaying:
    """For a program."""

    out: TextIO

    def step(self, what: str, seconds: float) -> None:
        self._event("step", {"what": what, "seconds": round(seconds, 3)})

    def opened(self, opened: Opened) -> None:
        self._event("ready", asdict(opened))

    def changed(self, row: TierRow) -> None:
        self._event("tier", asdict(row))

    def ended(self, why: str) -> None:
        self._event("ended", {"why": why})

    def _event(self, event: str, fields: dict[str, object]) -> None:
        print(json.dumps({"event": event, **fields}), file=self.out, flush=True)


def saying(output: Output, out: TextIO) -> Saying:
    """Return who tells it in this form."""
    return TextSaying(out) if output is Output.TEXT else JsonSaying(out)


def _table(rows: Sequence[TierRow]) -> list[str]:
    cells = [("tier", "kind", "warm", "max", "isolation")]
    cells += [
        (f"{row.pool}/{row.name}", row.kind, f"{row.warm}/{row.wanted}", str(row.max), row.isolation) for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
