"""A few minutes of the campaigns: real operators, killed for real, and the emulator's ledger. All of them: `make campaign`."""

import asyncio

import pytest
from tests.campaigns.crashes import SLICE
from tests.campaigns.faults import SLICE as CELLS
from tests.campaigns.faults import Cell
from tests.campaigns.matrix import play_cells, play_trial
from tests.campaigns.plans import Plan
from tests.campaigns.planted import TRIALS, Trial
from tests.campaigns.play import play_all

AT_ONCE = 8
pytestmark = pytest.mark.timeout(240)


async def test_operators_that_are_killed_leave_nothing_leaked_doubled_or_missing_by_the_ledger():
    outcomes = await play_all(map(Plan.read, SLICE), at_once=AT_ONCE)
    wrong = [f"{one}\n{one.log[-2000:]}" for one in outcomes if not one.is_right]
    assert wrong == []
    assert sum(one.deaths for one in outcomes) >= 20, "they were killed"


async def test_whatever_the_account_and_the_api_server_answer_all_is_as_it_was_wanted_by_the_ledger():
    outcomes = await play_cells(map(Cell.read, CELLS), at_once=AT_ONCE)
    wrong = [f"{one}\n{one.log[-2000:]}" for one in outcomes if not one.is_right]
    assert wrong == []
    assert all(one.measured.met for one in outcomes)


async def test_each_rule_of_the_slot_protocol_that_is_left_out_is_seen_by_the_ledger():
    async def seen(trial: Trial) -> bool:
        return not (await play_trial(trial, trial.bug)).is_right

    found = await asyncio.gather(*map(seen, TRIALS))
    missed = [trial.bug for trial, was_seen in zip(TRIALS, found, strict=True) if not was_seen]
    assert missed == []


async def test_where_bugs_are_seen_there_is_nothing_to_see_without_them():
    cells = [Cell.read(trial.place) for trial in TRIALS if trial.is_cell]
    plans = {Plan.read(trial.place) for trial in TRIALS if not trial.is_cell}
    outcomes = await asyncio.gather(play_cells(cells, at_once=AT_ONCE), play_all(plans, at_once=AT_ONCE))
    assert [str(one) for part in outcomes for one in part if not one.is_right] == []
