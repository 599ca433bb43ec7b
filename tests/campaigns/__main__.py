"""`python -m tests.campaigns`: plays campaigns, tells each plan as it ends, and a table at the end."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from tests.campaigns import crashes, faults
from tests.campaigns.faults import Cell
from tests.campaigns.matrix import CellOutcome, play_cells, play_trial
from tests.campaigns.plans import Plan
from tests.campaigns.planted import TRIALS
from tests.campaigns.play import AT_ONCE, Outcome, play_all


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 0 when every plan came out right."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns")
    parser.add_argument("campaign", choices=["crashes", "faults", "planted"])
    parser.add_argument("plans", nargs="*", help="plans to play instead of all")
    parser.add_argument("--scale", type=float, default=20.0, help="seconds that pass in a second")
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--every", type=int, default=1, help="only every nth plan")
    chosen = parser.parse_args(arguments)
    return asyncio.run({"crashes": _crashes, "faults": _faults, "planted": _planted}[chosen.campaign](chosen))


async def _crashes(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    options = {"scale": chosen.scale, "at_once": chosen.at_once, "tell": tell}
    if chosen.plans:
        outcomes = await play_all(map(Plan.read, chosen.plans), **options)
        return 0 if all(one.is_right for one in outcomes) else 1
    learned = await play_all(crashes.learnings(), **options)
    outcomes = learned + await play_all(crashes.plans(learned)[:: chosen.every], **options)
    real = await play_all(crashes.CONSTANTS, scale=1.0, at_once=len(crashes.CONSTANTS), tell=tell)
    table(f"crashes at 1:{chosen.scale:g}", outcomes)
    table("crashes at real constants", real)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(one.is_right for one in [*outcomes, *real]) else 1


async def _faults(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    cells = list(map(Cell.read, chosen.plans)) or faults.cells()[:: chosen.every]
    outcomes = await play_cells(cells, scale=chosen.scale, at_once=chosen.at_once, tell=tell)
    matrix_table(outcomes)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(one.is_right for one in outcomes) else 1


async def _planted(chosen: argparse.Namespace) -> int:
    """Every planted bug has to be seen, and nothing where there is none."""
    seen = await asyncio.gather(*(play_trial(trial, trial.bug, chosen.scale) for trial in TRIALS))
    clear = await asyncio.gather(*(play_trial(trial, "", chosen.scale) for trial in TRIALS))
    for trial, bad, good in zip(TRIALS, seen, clear, strict=True):
        print(f"{trial.bug:<22}{trial.place:<32}{'NOT SEEN' if bad.is_right else 'seen'}: {bad.trouble or bad.verdict}")
        print(f"{'without it':<22}{'':<32}{good.trouble or good.verdict}")
    return 0 if all(one.is_right for one in clear) and not any(one.is_right for one in seen) else 1


def tell(outcome: Outcome | CellOutcome) -> None:
    """Print one line; for a plan that went wrong its operator's log too."""
    print("ok  " if outcome.is_right else "BAD ", outcome, flush=True)
    if not outcome.is_right:
        print(outcome.log[-4000:], file=sys.stderr, flush=True)


def table(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print sums by story."""
    head = ("plans", "met", "deaths", "created", "leaked", "doubled", "missing", "other")
    print(f"\n{name:<28}" + "".join(f"{word:>9}" for word in head))
    stories = sorted({one.plan.story for one in outcomes})
    for story in [*stories, ""]:
        row = [one for one in outcomes if story in ("", one.plan.story)]
        figures = (
            len(row),
            sum(one.was_met for one in row),
            sum(one.deaths for one in row),
            sum(one.created for one in row),
            sum(one.verdict.leaked for one in row),
            sum(one.verdict.doubled for one in row),
            sum(one.verdict.missing for one in row),
            sum(not one.is_right for one in row),
        )
        print(f"{story or 'all':<28}" + "".join(f"{figure:>9}" for figure in figures))


def matrix_table(outcomes: Sequence[CellOutcome]) -> None:
    """Print sums by call site."""
    head = ("cells", "met", "leaked", "doubled", "missing", "other", "busiest", "probes/s", "healed s")
    print(f"\n{'faults':<28}" + "".join(f"{word:>9}" for word in head))
    for site in [*dict.fromkeys(one.cell.site for one in outcomes), ""]:
        row = [one for one in outcomes if site in ("", one.cell.site)]
        figures = (
            len(row),
            sum(one.measured.met > 0 for one in row),
            sum(one.verdict.leaked for one in row),
            sum(one.verdict.doubled for one in row),
            sum(one.verdict.missing for one in row),
            sum(not one.is_right for one in row),
            max(one.measured.busiest for one in row),
            max(one.measured.probes for one in row),
            round(max(one.measured.healed_after for one in row)),
        )
        print(f"{site or 'all':<28}" + "".join(f"{figure:>9}" for figure in figures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
