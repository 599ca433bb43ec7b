"""The gateway's half of the fault matrix: its calls into sandboxes and its writes of claims, under load, at 1:10.

execute: 503-retry-after sustained      four runs a second; for 20 s of them every /execute is answered so
"""

import asyncio
import multiprocessing
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from execpool.core.retrying import MOST, PER_SECOND, SHARE
from tests.campaigns.gateway_load import (
    AFTER_SECONDS,
    BEFORE_SECONDS,
    CALL_FAULTS,
    DISCONNECTED,
    RUN_SECONDS,
    RUNS_PER_SECOND,
    SITES,
    SUSTAINED_SECONDS,
    WAIT_SECONDS,
    WRITE_FAULTS,
    GatewayCell,
    Load,
    load,
)
from tests.campaigns.lives import settle_in, started
from tests.campaigns.pace import Pace
from tests.campaigns.play import in_turn

SCALE, AT_ONCE = 10.0, 6
ANSWERED_WITHIN = WAIT_SECONDS + RUN_SECONDS + 8.0
"""What a run may take with its overtime, and a little."""
HEAL_SECONDS = 30.0


def gateway_cells() -> list[GatewayCell]:
    return [
        GatewayCell(site, fault, sustained)
        for site in SITES
        for fault in (WRITE_FAULTS if "claim" in site else CALL_FAULTS)
        for sustained in (False, True)
    ]


@dataclass(frozen=True)
class GatewayOutcome:
    """What came of it.

    Attributes:
        met: faults that were given.
        runs: requests of clients.
        ends: how many of them came to what.
        started_twice: programs that were started more than once.
        late: requests that were not answered in time.
        executes: requests to sandboxes to run something.
        healed_after: seconds from the fault's end to the first run that succeeded.
    """

    cell: GatewayCell
    met: int
    runs: int
    ends: dict[str, int]
    started_twice: int
    late: int
    executes: int
    healed_after: float
    trouble: str = ""
    is_again: bool = False

    @property
    def is_starved(self) -> bool:
        """True when it went wrong in a way that a busy machine explains: something took too long."""
        return bool(self.trouble) and self.trouble.endswith(("(P15)", "(P20)"))

    @property
    def is_right(self) -> bool:
        return not self.trouble

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        said = f"{self.cell!s:<36} met {self.met:>3}, {self.runs} runs, {self.executes} executes, "
        return said + f"healed {self.healed_after:4.1f} s: {self.trouble or 'kept'}  ({ends})"


async def _play(cell: GatewayCell) -> GatewayOutcome:
    loop = asyncio.get_running_loop()
    async with load(cell) as one, asyncio.TaskGroup() as runs:
        began = loop.time()
        ended = began + BEFORE_SECONDS + SUSTAINED_SECONDS
        for number in range(RUNS_PER_SECOND * (BEFORE_SECONDS + SUSTAINED_SECONDS + AFTER_SECONDS)):
            await asyncio.sleep(began + number / RUNS_PER_SECOND - loop.time())
            one.is_on = began + BEFORE_SECONDS <= loop.time() < ended
            runs.create_task(one.run(number))
    return _outcome(one, ended)


def _outcome(one: Load, ended: float) -> GatewayOutcome:
    good = [at + took - ended for at, took, end in one.ends if end == "Succeeded" and at + took >= ended]
    outcome = GatewayOutcome(
        cell=one.cell,
        met=one.met,
        runs=len(one.ends),
        ends=dict(Counter(end for _, _, end in one.ends)),
        started_twice=sum(count > 1 for count in one.started.values()),
        late=sum(took > ANSWERED_WITHIN for _, took, _ in one.ends),
        executes=one.executes,
        healed_after=min(good, default=float("inf")),
    )
    return GatewayOutcome(**{**vars(outcome), "trouble": broken(outcome)})


def broken(outcome: GatewayOutcome) -> str:
    """Say which promise was not kept; empty when all were."""
    seconds = BEFORE_SECONDS + SUSTAINED_SECONDS + AFTER_SECONDS
    if outcome.started_twice:
        return f"{outcome.started_twice} programs were started twice (P12)"
    if outcome.ends.get(DISCONNECTED):
        return f"{outcome.ends[DISCONNECTED]} runs were not answered (P15)"
    if outcome.late:
        return f"{outcome.late} runs were answered late (P15)"
    if outcome.executes > outcome.runs * (1 + SHARE) + seconds * PER_SECOND + MOST:
        return f"{outcome.executes} executions were asked for, for {outcome.runs} runs (P19)"
    if outcome.healed_after > HEAL_SECONDS:
        return f"healed after {outcome.healed_after:.1f} s (P20)"
    return ""


def _serve(cell: GatewayCell, pace: Pace, log: Path, told: Connection) -> None:
    settle_in(log, pace)
    told.send(asyncio.run(_play(cell)))


async def play_gateway_cell(cell: GatewayCell, scale: float = SCALE) -> GatewayOutcome:
    """Play one cell, in a process of its own."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="execpool-campaign-") as directory:
        log = Path(directory) / "log"
        process = started(_serve, cell, Pace(scale), log, theirs)
        theirs.close()
        try:
            return await asyncio.to_thread(ours.recv)
        except EOFError:
            raise AssertionError(f"{cell} ended without a word: {log.read_text()[-4000:]}") from None
        finally:
            ours.close()
            process.kill()
            await asyncio.to_thread(process.join)


async def play_gateway_cells(
    cells: Iterable[GatewayCell],
    *,
    scale: float = SCALE,
    at_once: int = AT_ONCE,
    tell: Callable[[GatewayOutcome], None] = lambda _outcome: None,
) -> list[GatewayOutcome]:
    """Play cells, so many at once."""
    return await in_turn(cells, lambda cell: play_gateway_cell(cell, scale), at_once, tell)


SLICE = (
    "context: 409 sustained",
    "context: oversize sustained",
    "context: reset sustained",
    "execute: 429-bare sustained",
    "execute: reset-committed once",
    "execute: 503-retry-after sustained",
    "claim: 404 sustained",
    "claim: reset-committed once",
    "end-claim: 409 sustained",
)
"""For `make test`."""
