"""Figures in a pool's status: numbers that change all the time, are never the cause of a write, and go along with one. Pure."""

from execpool.api.names import ConditionType
from execpool.api.status import BudgetStatus, ExecutionFigures
from execpool.api.v1alpha1 import ExecutionPoolStatus
from execpool.core.model import Snapshot
from execpool.core.times import format_seconds, parse_time

FIGURES_SECONDS = 60.0
"""How old figures may be when a status is written."""


def differ(before: ExecutionPoolStatus, after: ExecutionPoolStatus) -> bool:
    """True when a status is worth a write: figures alone, and the numbers of a pool that is in use, are not."""
    return _lasting(before) != _lasting(after)


def _lasting(status: ExecutionPoolStatus) -> ExecutionPoolStatus:
    kept = [
        one.model_copy(update={"message": ""})
        if one.type == ConditionType.POOL_IN_USE and one.status != "False"
        else one
        for one in status.conditions
    ]
    return status.model_copy(update={"conditions": kept, "budgets": [], "executions": None, "figures_at": None})


def figures(snapshot: Snapshot, status: ExecutionPoolStatus) -> dict[str, object]:
    """Return the figures as of now; as they were, while those are younger than a minute and no budget has turned."""
    was = snapshot.pool.status
    if not snapshot.budgets and snapshot.use is None:
        return {}
    same = _of_budgets(was) == _of_budgets(status)
    if same and was.figures_at is not None and snapshot.now - parse_time(was.figures_at) < FIGURES_SECONDS:
        return {"budgets": was.budgets, "executions": was.executions, "figures_at": was.figures_at}
    use = snapshot.use
    executions = None
    if use is not None:
        executions = ExecutionFigures(
            count=use.executions,
            warm_hits=use.warm_hits,
            offloaded=use.offloaded,
            refused=use.refused,
            wait_milliseconds=round(use.wait_seconds * 1000),
        )
    budgets = [
        BudgetStatus(
            name=one.name,
            limit=one.limit,
            remaining=one.remaining,
            resets_at=None if one.resets_at is None else format_seconds(one.resets_at),
            message=one.exhausted[:1024],
        )
        for one in snapshot.budgets
    ]
    return {"budgets": budgets, "executions": executions, "figures_at": format_seconds(snapshot.now)}


def _of_budgets(status: ExecutionPoolStatus) -> tuple[str, str] | None:
    found = next((one for one in status.conditions if one.type == ConditionType.BUDGET_AVAILABLE), None)
    return None if found is None else (found.status, found.message)
