"""How a workload looks: the live table, its last state with a summary, plain lines without a terminal, a picture."""

import io
import re
from collections import Counter
from pathlib import Path

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from execpool.cli.workload_facts import Facts
from execpool.cli.workload_state import SEED, Row, Stage, WorkloadState

PLAIN_WIDTH = 130
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
    shown.add_column("tier", no_wrap=True)
    shown.add_column("executor", overflow="ellipsis")
    if state.facts is not None:
        shown.add_column("warm", no_wrap=True)
        shown.add_column("creation", justify="right", no_wrap=True)
    shown.add_column("waiting", justify="right", no_wrap=True, min_width=7)
    shown.add_column("running", justify="right", no_wrap=True, min_width=7)
    previous = ""
    for row in state.rows:
        user = row.query.user if row.query.user != previous else ""
        previous = row.query.user
        cells = [_stage(row), row.tier, row.executor, *_creation(state, row), *_times(row, state.began, now)]
        shown.add_row(user, row.query.name, *cells)
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
        Stage.DONE: f"{row.outcome} after {row.waited_seconds:.1f} s waiting and {row.run_seconds:.1f} s running",
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


def _creation(state: WorkloadState, row: Row) -> list[str | Text]:
    """Return whether the executor was there, and how long the query waited for its creation."""
    if state.facts is None:
        return []
    is_warm = state.is_warm_hit(row)
    if is_warm is None:
        return ["", ""]
    return [Text("yes", "green") if is_warm else Text("no", "yellow"), f"{state.creation_seconds(row):.1f} s"]


def _times(row: Row, began: float, now: float) -> tuple[str, str]:
    if row.stage is Stage.DONE:
        return f"{row.waited_seconds:.1f} s", f"{row.run_seconds:.1f} s"
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
        *_of_tiers(state),
        *([] if state.facts is None else _of_sandboxes(state, state.facts)),
    )


def _of_tiers(state: WorkloadState) -> list[str]:
    tiers = Counter(row.tier for row in state.rows if row.is_pooled)
    return [f"; {', '.join(f'{count} on {tier}' for tier, count in sorted(tiers.items()))}"] if len(tiers) > 1 else []


def _of_sandboxes(state: WorkloadState, facts: Facts) -> list[str | tuple[str, str]]:
    """Say what the account has seen, and that its warm sandboxes were used."""
    counts = state.executions_by_sandbox()
    on_path = len(state.created_on_path() & counts.keys())
    used = sorted(((name, count) for name, count in counts.items() if count), key=lambda one: (-one[1], one[0]))
    listed = ", ".join(f"{name.rpartition('-')[2]} {count}" for name, count in used)
    claimed = sum(one.is_claimed for one in facts.sandboxes)
    source = "the gateway's answers" if facts.executions is None else "the account's ledger"
    return [
        "\n429s seen ",
        _aim(facts.refused),
        " (aim 0); creates on the request path ",
        _aim(on_path),
        f" (aim 0), to keep the pool warm {max(facts.created - on_path, 0)}\n",
        f"{len(counts)} sandboxes, {claimed} claimed; executions by {source}: {sum(counts.values())}",
        f" ({listed})" if listed else "",
    ]


def _aim(number: int) -> tuple[str, str]:
    return (str(number), "bold red" if number else "bold green")
