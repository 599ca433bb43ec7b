"""`python -m tests.campaigns`: plays campaigns, tells each plan as it ends, and a table at the end."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from tests.campaigns import crashes, faults, gateway_faults
from tests.campaigns.faults import Cell
from tests.campaigns.gateway_faults import GatewayOutcome
from tests.campaigns.gateway_load import GatewayCell
from tests.campaigns.matrix import CellOutcome, play_cells, play_trial
from tests.campaigns.plans import Plan
from tests.campaigns.planted import TRIALS
from tests.campaigns.play import AT_ONCE, SCALE, Outcome, play_all
from tests.campaigns.tables import crash_table, gateway_table, matrix_table


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 0 when every plan came out right."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns")
    parser.add_argument("campaign", choices=["crashes", "faults", "gateway", "planted"])
    parser.add_argument("plans", nargs="*", help="plans to play instead of all")
    parser.add_argument("--scale", type=float, default=0.0, help="seconds that pass in a second, unless as is usual")
    parser.add_argument("--at-once", type=int, default=0)
    parser.add_argument("--every", type=int, default=1, help="only every nth plan")
    chosen = parser.parse_args(arguments)
    is_gateway = chosen.campaign == "gateway"
    chosen.scale = chosen.scale or (gateway_faults.SCALE if is_gateway else SCALE)
    chosen.at_once = chosen.at_once or (gateway_faults.AT_ONCE if is_gateway else AT_ONCE)
    return asyncio.run(
        {"crashes": _crashes, "faults": _faults, "gateway": _gateway, "planted": _planted}[chosen.campaign](chosen)
    )


async def _crashes(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    options = {"scale": chosen.scale, "at_once": chosen.at_once, "tell": tell}
    if chosen.plans:
        outcomes = await play_all(map(Plan.read, chosen.plans), **options)
        return 0 if all(one.is_right for one in outcomes) else 1
    learned = await play_all(crashes.learnings(), **options)
    outcomes = learned + await play_all(crashes.plans(learned)[:: chosen.every], **options)
    real = await play_all(crashes.CONSTANTS, scale=1.0, at_once=len(crashes.CONSTANTS), tell=tell)
    crash_table(f"crashes at 1:{chosen.scale:g}", outcomes)
    crash_table("crashes at real constants", real)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(one.is_right for one in [*outcomes, *real]) else 1


async def _faults(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    cells = list(map(Cell.read, chosen.plans)) or faults.cells()[:: chosen.every]
    outcomes = await play_cells(cells, scale=chosen.scale, at_once=chosen.at_once, tell=tell)
    matrix_table(outcomes)
    print(f"{time.monotonic() - began:.0f} s")
    return 0 if all(one.is_right for one in outcomes) else 1


async def _gateway(chosen: argparse.Namespace) -> int:
    began = time.monotonic()
    cells = list(map(GatewayCell.read, chosen.plans)) or gateway_faults.gateway_cells()[:: chosen.every]
    outcomes = await gateway_faults.play_gateway_cells(cells, scale=chosen.scale, at_once=chosen.at_once, tell=tell)
    gateway_table(outcomes)
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


def tell(outcome: Outcome | CellOutcome | GatewayOutcome) -> None:
    """Print one line; for a plan that went wrong its operator's log too."""
    print("ok  " if outcome.is_right else "BAD ", outcome, flush=True)
    if not outcome.is_right and not isinstance(outcome, GatewayOutcome):
        print(outcome.log[-4000:], file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
