"""A few minutes of the campaigns: real operators, killed for real, and the emulator's ledger. All of them: `make campaign`."""

import asyncio

import pytest
from tests.campaigns.crashes import SLICE
from tests.campaigns.faults import SLICE as CELLS
from tests.campaigns.faults import Cell
from tests.campaigns.gateway_faults import SLICE as GATEWAY_CELLS
from tests.campaigns.gateway_faults import play_gateway_cells
from tests.campaigns.gateway_load import GatewayCell
from tests.campaigns.matrix import play_cells, play_trial
from tests.campaigns.plans import Plan
from tests.campaigns.planted import TRIALS
from tests.campaigns.play import play_all

AT_ONCE = 12
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


async def test_whatever_sandboxes_and_the_api_server_answer_a_gateway_starts_nothing_twice_and_heals():
    outcomes = await play_gateway_cells(map(GatewayCell.read, GATEWAY_CELLS))
    assert [str(one) for one in outcomes if not one.is_right] == []
    assert all(one.met for one in outcomes)


async def test_each_rule_of_the_slot_protocol_that_is_left_out_is_seen_and_nothing_where_none_is():
    bugs = [trial.bug for trial in TRIALS]
    played = await asyncio.gather(*(play_trial(trial, bug) for trial in TRIALS for bug in (trial.bug, "")))
    assert [bug for bug, outcome in zip(bugs, played[::2], strict=True) if outcome.is_right] == []
    assert [str(outcome) for outcome in played[1::2] if not (outcome.is_right or outcome.is_starved)] == []
