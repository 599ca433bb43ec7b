"""Sums of a campaign, as it prints them at its end."""

from collections.abc import Callable, Sequence
from typing import Any

from tests.campaigns.gateway_faults import GatewayOutcome
from tests.campaigns.matrix import CellOutcome
from tests.campaigns.play import Outcome

Columns = dict[str, Callable[[Sequence[Any]], int]]

_CRASHES: Columns = {
    "plans": len,
    "met": lambda row: sum(one.was_met for one in row),
    "again": lambda row: sum(one.is_again for one in row),
    "deaths": lambda row: sum(one.deaths for one in row),
    "created": lambda row: sum(one.created for one in row),
    "leaked": lambda row: sum(one.verdict.leaked for one in row),
    "doubled": lambda row: sum(one.verdict.doubled for one in row),
    "missing": lambda row: sum(one.verdict.missing for one in row),
    "wrong": lambda row: sum(not one.is_right for one in row),
}
_MATRIX: Columns = {
    "cells": len,
    "met": lambda row: sum(one.measured.met > 0 for one in row),
    "again": lambda row: sum(one.is_again for one in row),
    "leaked": lambda row: sum(one.verdict.leaked for one in row),
    "doubled": lambda row: sum(one.verdict.doubled for one in row),
    "missing": lambda row: sum(one.verdict.missing for one in row),
    "wrong": lambda row: sum(not one.is_right for one in row),
    "busiest": lambda row: max(one.measured.busiest for one in row),
    "probes/s": lambda row: max(one.measured.probes for one in row),
}
_GATEWAY: Columns = {
    "cells": len,
    "met": lambda row: sum(one.met > 0 for one in row),
    "again": lambda row: sum(one.is_again for one in row),
    "runs": lambda row: sum(one.runs for one in row),
    "executes": lambda row: sum(one.executes for one in row),
    "twice": lambda row: sum(one.started_twice for one in row),
    "late": lambda row: sum(one.late for one in row),
    "wrong": lambda row: sum(not one.is_right for one in row),
    "healed s": lambda row: round(max(one.healed_after for one in row)),
}


def crash_table(name: str, outcomes: Sequence[Outcome]) -> None:
    """Print sums by story."""
    _print(name, _CRASHES, outcomes, lambda one: one.plan.story)


def matrix_table(outcomes: Sequence[CellOutcome]) -> None:
    """Print sums by call site."""
    _print("faults", _MATRIX, outcomes, lambda one: one.cell.site)


def gateway_table(outcomes: Sequence[GatewayOutcome]) -> None:
    """Print sums by call site."""
    _print("faults of the gateway", _GATEWAY, outcomes, lambda one: one.cell.site)


def _print(name: str, columns: Columns, outcomes: Sequence[Any], key: Callable[[Any], str]) -> None:
    print(f"\n{name:<28}" + "".join(f"{word:>9}" for word in columns))
    for group in [*dict.fromkeys(map(key, outcomes)), ""]:
        row = [one for one in outcomes if group in ("", key(one))]
        print(f"{group or 'all':<28}" + "".join(f"{figure(row):>9}" for figure in columns.values()))
