"""Plays cells of the fault matrix, and measures what the operator did while a fault lasted."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from execpool.core.breaker import TRIP_AFTER
from tests.campaigns.faults import SITES, SUSTAINED_SECONDS, Cell, Ordered, faults_of
from tests.campaigns.pace import Pace
from tests.campaigns.plans import Plan
from tests.campaigns.planted import Trial
from tests.campaigns.play import AT_ONCE, QUIET_SECONDS, SCALE, Outcome, in_turn, play
from tests.campaigns.tap import Noted
from tests.campaigns.verdict import Verdict
from tests.campaigns.world import NotSettledError, Options, World, world

CALLS = frozenset({"create", "extend", "connect", "kill", "look", "sweep"})
HEAL_SECONDS = 30.0
DENIED_HEAL_SECONDS = 65.0
AT_ONE_TIME = 3
"""Creations that may be on their way when an account says for the first time that it is full."""
PER_SECOND = 3
"""Refusals are of one request, not of the service: each record may try again, every two seconds."""
EFFECTS = {"create": ("create",), "timeout": ("extend",), "list": ("look", "sweep"), "connect": ("connect",)}
FAILURES = frozenset(
    {"500", "503-retry-after", "504-committed", "oversize", "reset", "reset-committed", "hang", "hang-committed"}
    | {"garbage", "401", "403"}
)
"""What says that the service is ill (`core.breaker`)."""
DENIALS = ("401", "403")


@dataclass(frozen=True)
class Measured:
    """What the operator did.

    Attributes:
        met: faults that it met.
        calls: to the account while the fault lasted.
        busiest: most calls of the site in a second.
        probes: most calls in a second with the breaker open.
        healed_after: seconds from the fault's end to the next call, where the breaker was open then; 0 otherwise.
    """

    met: int
    calls: int
    busiest: int
    probes: int
    healed_after: float


@dataclass(frozen=True)
class CellOutcome:
    cell: Cell
    verdict: Verdict
    measured: Measured
    seconds: float
    trouble: str = ""
    log: str = ""
    is_again: bool = False

    @property
    def is_starved(self) -> bool:
        return bool(self.trouble) and self.verdict.is_harmless

    @property
    def is_right(self) -> bool:
        return self.verdict.is_clean and not self.trouble

    def __str__(self) -> str:
        one = self.measured
        said = f"{self.cell!s:<42} met {one.met:>3}, {one.calls:>3} calls, busiest {one.busiest}, probes {one.probes}, "
        return (
            said
            + f"healed {one.healed_after:4.1f} s, {self.seconds:3.0f} s  {'(again) ' * self.is_again}{self.trouble or self.verdict}"
        )


async def play_cell(cell: Cell, scale: float = SCALE, bug: str = "") -> CellOutcome:
    """Play one cell."""
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="execpool-campaign-"))
    try:
        async with world(Pace(scale), directory, Options(bug=bug)) as one:
            verdict, measured, trouble = await _play(cell, one)
            right = verdict.is_clean and not trouble
            return CellOutcome(cell, verdict, measured, time.monotonic() - began, trouble, "" if right else one.log())
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _play(cell: Cell, one: World) -> tuple[Verdict, Measured, str]:
    site = SITES[cell.site]
    ordered = Ordered(one, site, faults_of(site)[cell.fault], cell.is_sustained)
    wanted = 0
    try:
        await site.prepare(one)
        await ordered.order()
        await site.act(one)
        await ordered.last()
        wanted = await site.finish(one)
    except NotSettledError as error:
        return one.verdict(wanted), _measured(cell, ordered, one), str(error)
    await one.sleep(QUIET_SECONDS)
    measured = _measured(cell, ordered, one)
    return one.verdict(wanted), measured, too_much(cell, measured)


def too_much(cell: Cell, measured: Measured) -> str:
    """Say which promise about calls was not kept; empty when all were."""
    if not cell.is_sustained or SITES[cell.site].is_write:
        return ""
    if (cell.site, cell.fault) == ("create", "429-bare") and measured.met > AT_ONE_TIME:
        return f"an account that is full was asked {measured.met} times in {SUSTAINED_SECONDS:g} s"
    if measured.busiest > PER_SECOND or measured.probes > 1:
        return f"{measured.busiest} calls in a second, {measured.probes} with the breaker open"
    if not SITES[cell.site].is_urgent:
        return ""
    limit = DENIED_HEAL_SECONDS if cell.fault in DENIALS else HEAL_SECONDS
    return f"healed after {measured.healed_after:.1f} s" if measured.healed_after > limit else ""


def _measured(cell: Cell, ordered: Ordered, one: World) -> Measured:
    met, ended = ordered.met(), ordered.ended or one.pace.now()
    began = met[0] if met else ended
    calls = [noted for noted in one.requests() if noted.effect in CALLS and noted.time >= began]
    during = [noted for noted in calls if noted.time < ended]
    sent = [noted for noted in during if noted.what == "sent"]
    probes, is_open = _probes(cell, during)
    after = next((noted.time for noted in calls if noted.what == "sent" and noted.time >= ended), ended)
    busiest = _busiest([noted.time for noted in sent if noted.effect in _effects(cell)])
    return Measured(len(met), len(sent), busiest, _busiest(probes), after - ended if is_open else 0.0)


def _probes(cell: Cell, calls: Sequence[Noted]) -> tuple[list[float], bool]:
    """Return when calls were sent with the breaker open, and whether it was at the end."""
    ill = _effects(cell) if cell.fault in FAILURES else ()
    probes, failures = [], 0
    for noted in calls:
        is_open = failures >= (1 if cell.fault in DENIALS else TRIP_AFTER)
        if noted.what == "sent":
            probes += [noted.time] if is_open else []
        elif noted.effect in ill:
            failures += 1
        else:
            failures = 0
    return probes, failures >= (1 if cell.fault in DENIALS else TRIP_AFTER)


def _effects(cell: Cell) -> tuple[str, ...]:
    return EFFECTS.get(SITES[cell.site].call, ("kill",))


def _busiest(times: Sequence[float]) -> int:
    return max((sum(start <= at < start + 1.0 for at in times) for start in times), default=0)


async def play_cells(
    cells: Iterable[Cell],
    *,
    scale: float = SCALE,
    at_once: int = AT_ONCE,
    tell: Callable[[CellOutcome], None] = lambda _outcome: None,
) -> list[CellOutcome]:
    """Play cells, so many at once."""
    return await in_turn(cells, lambda cell: play_cell(cell, scale), at_once, tell)


async def play_trial(trial: Trial, bug: str, scale: float = SCALE) -> Outcome | CellOutcome:
    """Play where a planted bug is to be seen, with a bug or (empty) without one."""
    if trial.is_cell:
        return await play_cell(Cell.read(trial.place), scale, bug)
    return await play(Plan.read(trial.place), scale, bug=bug)
