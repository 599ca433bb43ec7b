"""`execpool workload DIR`: submits every program of a folder at once, as its users would, and shows what becomes of it.

One sub-folder per user, one program per query, one key for all: the situation that execpool was made for. The table says
for each query whether it waits, runs or is done, on which executor, and how long each took.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import typer
from rich.console import Console
from rich.live import Live

from execpool.cli import workload_view as view
from execpool.cli.workload_facts import Facts
from execpool.cli.workload_state import DATA_LIBRARIES, Event, Query, WorkloadState

NDJSON = "application/x-ndjson"
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 60.0
"""Longest silence on one answer; the gateway sends a keepalive every 5 seconds."""

_LOOK_SECONDS = 2.0
"""Between two looks at the cluster; each starts programs, and processors are for the queries."""

Hear = Callable[[Query, Event], None]
Look = Callable[[], Facts]
"""Tells what there is to know beside the gateway's answers; may take a second."""


@dataclass(frozen=True)
class Tiers:
    """Which tier each kind of program asks for; the pool's order where empty."""

    simple: str = ""
    data: str = ""

    def of(self, query: Query) -> str:
        """Return the tier that a query asks for."""
        return self.data if query.is_data_science else self.simple


class Output(StrEnum):
    """What is written to standard output."""

    TABLE = "table"
    JSON = "json"


def workload(  # noqa: PLR0917 - typer passes them by name
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="One sub-folder per user.")
    ],
    url: Annotated[str, typer.Option(envvar="EXECPOOL_URL", help="Address of the gateway.")],
    key: Annotated[str, typer.Option(envvar="EXECPOOL_KEY", help="Execution key.", show_default=False)],
    pool: Annotated[
        str | None, typer.Option(envvar="EXECPOOL_POOL", help="Pool; may be left out when the key sees one.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Longest run of one query, in seconds.")] = 120.0,
    max_wait: Annotated[
        float | None, typer.Option(help="Longest wait of one query; the pool's limit when absent.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="What to print at the end.")] = Output.TABLE,
    record: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Write the final table as a picture.")] = None,
    simple_tier: Annotated[str, typer.Option(help="Tier that programs ask for which only calculate.")] = "",
    data_tier: Annotated[
        str, typer.Option(help=f"Tier that programs ask for which import {', '.join(sorted(DATA_LIBRARIES))}.")
    ] = "",
) -> None:
    """Run a folder of programs through a pool, all at once, and watch them."""
    queries = read_queries(directory)
    if not queries:
        raise typer.BadParameter(f"{directory} has no USER/PROGRAM.py", param_hint="DIR")
    options = {"pool": pool, "timeoutSeconds": timeout, "maxWaitSeconds": max_wait}
    # With JSON on standard output, progress goes to standard error.
    console = console_for(stderr=output is Output.JSON)
    state = asyncio.run(run(queries, url, key, options, console, tiers=Tiers(simple_tier, data_tier)))
    if output is Output.JSON:
        print(json.dumps(state.report(), indent=2))
    else:
        console.print(view.final(state))
    if record is not None:
        view.record(state, record)
    if state.failed:
        raise typer.Exit(1)


def console_for(*, stderr: bool) -> Console:
    """Return the console on standard output or error; wide enough where it is no terminal."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=view.PLAIN_WIDTH)


def read_queries(folder: Path) -> list[Query]:
    """Return the programs of a folder, ordered by user and name."""
    files = sorted(folder.glob("*/*.py"))
    return [Query(file.parent.name, file.stem, file.read_text(encoding="utf-8")) for file in files]


async def run(
    queries: list[Query],
    url: str,
    key: str,
    options: dict[str, Any],
    console: Console,
    *,
    tiers: Tiers = Tiers(),
    look: Look | None = None,
) -> WorkloadState:
    """Submit everything at once; return the state in which everything is done.

    Args:
        queries: what to run.
        url: of the gateway.
        key: for it.
        options: of every request.
        console: shows the table, or news as lines.
        tiers: that the requests ask for.
        look: asked every two seconds, and once at the end.
    """
    state = WorkloadState.of(queries, time.monotonic(), time.time())
    live = Live(
        console=console,
        refresh_per_second=8,
        transient=True,
        get_renderable=lambda: view.table(state, time.monotonic()),
    )

    def hear(query: Query, event: Event) -> None:
        nonlocal state
        now, before = time.monotonic(), state.row(query)
        state = state.apply(query, event, now)
        if not console.is_terminal and state.row(query) != before:
            console.print(view.line(state.row(query), now - state.began), highlight=False, soft_wrap=True)

    over = asyncio.Event()

    async def look_on() -> None:
        nonlocal state
        while look is not None:
            is_last = over.is_set()
            facts = await asyncio.to_thread(look)
            state = replace(state, facts=facts)
            if is_last:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _LOOK_SECONDS)

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"Authorization": f"Bearer {key}", "Accept": NDJSON}
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        with live if console.is_terminal else nullcontext():
            looking = asyncio.create_task(look_on())
            asked = [(query, {**options, "tier": tiers.of(query) or None}) for query in queries]
            await asyncio.gather(*(_submit(session, url, query, wishes, hear) for query, wishes in asked))
            over.set()
            await looking
    return state


async def _submit(session: aiohttp.ClientSession, url: str, query: Query, options: dict[str, Any], hear: Hear) -> None:
    """Run one query and report what the gateway says of it, to the end or until it says no more."""
    asked = {"code": query.code, "user": query.user} | {
        name: value for name, value in options.items() if value is not None
    }
    try:
        async with session.post(f"{url.rstrip('/')}/v1/executions", json=asked) as response:
            if response.status != 200:
                hear(query, await _refusal(response))
                return
            async for line in _lines(response.content):
                hear(query, json.loads(line))
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        hear(query, {"type": "lost", "detail": str(error) or type(error).__name__})
    hear(query, {"type": "lost", "detail": "the gateway ended its answer without saying how the execution ended"})


async def _refusal(response: aiohttp.ClientResponse) -> Event:
    """Read a problem answer; one that is none (a proxy's error page) is a refusal all the same."""
    try:
        problem = await response.json(content_type=None)
        return {"type": "refused", "problem": {"reason": problem["reason"], "detail": problem.get("detail", "")}}
    except (ValueError, KeyError, TypeError):
        return {"type": "refused", "problem": {"reason": f"HTTP {response.status}", "detail": response.reason or ""}}


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of an answer, of any length: a line with a picture is long."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
    if rest.strip():
        yield rest
