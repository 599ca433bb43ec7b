"""How a workload looks: the live table, its last state with a summary, plain lines without a terminal, a picture."""

import io
import re
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from execpool.cli.workload_state import SEED, Row, Stage, WorkloadState

PLAIN_WIDTH = 110
"""Columns where no terminal says how many it has."""
_STYLES = {Stage.SENT: "dim", Stage.WAITING: "yellow", Stage.RUNNING: "cyan"}
# rich's SVG names a font on a CDN. A picture in a README must not call anybody.
_FONT_FACES = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)


def table(state: WorkloadState, now: float) -> Table:
    """Return one line per query, in the order of users."""
    shown = Table(
        title=_title(state, now),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    # Columns that may wrap are the first to give way in a narrow terminal: long names are cut, figures never.
    shown.add_column("user", no_wrap=True)
    shown.add_column("query", overflow="ellipsis")
    shown.add_column("state", no_wrap=True, min_width=11)
    shown.add_column("executor", overflow="ellipsis")
    shown.add_column("queue", justify="right", no_wrap=True, min_width=7)
    shown.add_column("run", justify="right", no_wrap=True, min_width=7)
    previous = ""
    for row in state.rows:
        user = row.query.user if row.query.user != previous else ""
        previous = row.query.user
        shown.add_row(user, row.query.name, _stage(row), row.executor, *_times(row, state.began, now))
    return shown


def final(state: WorkloadState) -> RenderableType:
    """Return the table at the end, what went wrong, and the figures beside those of before."""
    parts: list[RenderableType] = [table(state, state.ended or state.began), ""]
    parts += [Text(f"{row.query.label}: {row.outcome}, {row.detail}", style="red") for row in state.failed]
    return Group(*parts, _summary(state), Text(SEED, style="dim"))


def line(row: Row, seconds: float) -> str:
    """Return a query's news as a line of text, for logs."""
    news = {
        Stage.SENT: "sent",
        Stage.WAITING: f"waiting, place {row.position}" if row.position else "accepted",
        Stage.RUNNING: f"running on {row.executor}",
        Stage.DONE: f"{row.outcome} after {row.wait_seconds:.1f} s in the queue and {row.run_seconds:.1f} s running",
    }[row.stage]
    detail = f": {row.detail}" if row.stage is Stage.DONE and row.detail else ""
    return f"{seconds:6.1f} s  {row.query.label}  {news}{detail}"


def record(state: WorkloadState, file: Path) -> None:
    """Write the last state as an SVG picture."""
    console = Console(record=True, width=PLAIN_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(final(state))
    picture = console.export_svg(title="execpool workload", unique_id="workload")
    file.write_text(_FONT_FACES.sub("", picture), encoding="utf-8")


def _title(state: WorkloadState, now: float) -> str:
    counts = {stage: state.count(stage) for stage in Stage}
    waiting = counts[Stage.SENT] + counts[Stage.WAITING]
    seconds = (state.ended or now) - state.began
    return f"{waiting} waiting, {counts[Stage.RUNNING]} running, {counts[Stage.DONE]} done, {seconds:.1f} s"


def _stage(row: Row) -> Text:
    if row.stage is Stage.DONE:
        return Text(row.outcome, style="green" if row.is_good else "red")
    place = f" #{row.position}" if row.position else ""
    return Text(row.stage + place, style=_STYLES[row.stage])


def _times(row: Row, began: float, now: float) -> tuple[str, str]:
    if row.stage is Stage.DONE:
        return f"{row.wait_seconds:.1f} s", f"{row.run_seconds:.1f} s"
    if row.stage is Stage.RUNNING:
        return f"{row.started_at - began:.1f} s", f"{now - row.started_at:.1f} s"
    return f"{now - began:.1f} s", ""


def _summary(state: WorkloadState) -> Text:
    users = state.users_by_executor()
    shared = sum(len(served) > 1 for served in users.values())
    longest = max((row.total_seconds for row in state.rows), default=0.0)
    style, failures = ("bold red", f", {len(state.failed)} failed") if state.failed else ("bold green", "")
    return Text.assemble(
        ("makespan ", "bold"),
        (f"{state.makespan:.1f} s", style),
        f", slowest query {longest:.1f} s{failures}\n",
        f"{state.pooled} of {len(state.rows)} went through the pool, on {len(users)} executors, ",
        f"{shared or 'none'} shared by users",
    )
