"""Shows results: a table for a person as soon as it is there, one JSON document for a program at the end."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Result, Row

BUSY = 1.5
"""Load average above which other work on the machine shows in the figures."""


@dataclass(frozen=True)
class Outcome:
    """A benchmark that was run: its result or why there is none, and under which load."""

    name: str
    question: str
    seconds: float
    load_before: float
    load_after: float
    result: Result | None = None
    error: str = ""


def show(console: Console, outcome: Outcome) -> None:
    """Print one outcome for a person."""
    console.print(f"\n[bold]{outcome.name}[/bold]: {outcome.question}", soft_wrap=True)
    if outcome.result is None:
        where = f"{outcome.seconds:.0f} s, load {outcome.load_before:.1f} before, {outcome.load_after:.1f} after"
        console.print(f"[red]failed:[/red] {outcome.error} ({where})", soft_wrap=True)
        return
    console.print(_table(outcome.result.rows))
    for note in outcome.result.notes:
        console.print(f"  {note}", soft_wrap=True)
    console.print(
        f"  {outcome.seconds:.0f} s, load {outcome.load_before:.1f} before{_warning(outcome)}", soft_wrap=True
    )


def document(outcomes: list[Outcome]) -> str:
    """Return all outcomes as JSON."""
    body = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine(),
        "benchmarks": [asdict(o) for o in outcomes],
    }
    return json.dumps(body, indent=2)


def machine() -> dict[str, str | int | None]:
    """Return what the figures were taken on."""
    return {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}


def _table(rows: tuple[Row, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("p50", "p99", "unit", "n", "to peer", "95 %"):
        table.add_column(heading, justify="left" if heading == "unit" else "right")
    for row in rows:
        table.add_row(row.label, _number(row.p50), _number(row.p99), row.unit, str(row.n), *_ratio(row))
    return table


def _ratio(row: Row) -> tuple[str, str]:
    if row.ratio is None:
        return "", ""
    value, low, high = row.ratio.value, row.ratio.low, row.ratio.high
    return f"{value:.2f}x", "" if low == high else f"{low:.2f}-{high:.2f}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _warning(outcome: Outcome) -> str:
    busy = outcome.load_before > BUSY
    return f" [yellow](above {BUSY}: other work shows in absolute figures; trust the ratios)[/yellow]" if busy else ""
