"""How far the budgets of a pool have been used, from those who keep them: the operator and the pool's gateway. Pure."""

from collections.abc import Iterator, Sequence

from execpool.api.budgets import CAPACITY, Budget, BudgetResource, BudgetScope
from execpool.api.v1alpha1 import ExecutionPoolSpec
from execpool.core.model import BudgetUse, Use


def all_budgets(spec: ExecutionPoolSpec, kept: Sequence[BudgetUse], use: Use | None) -> Iterator[BudgetUse]:
    """Yield the use of each budget in the spec's order; one of which nothing is known has not been used."""
    by_operator = {one.name: one for one in kept}
    by_gateway = {one.name: one for one in use.budgets} if use is not None else {}
    for budget in spec.budgets:
        if budget.resource in CAPACITY:
            yield by_operator.get(budget.name) or BudgetUse(budget.name, budget.limit, budget.limit)
        else:
            yield _told(budget, by_gateway.get(budget.name))


def _told(budget: Budget, told: BudgetUse | None) -> BudgetUse:
    if told is None:
        return BudgetUse(
            budget.name, budget.limit, budget.burst or 1 if budget.burst or _is_rate(budget) else budget.limit
        )
    said = (
        f"budget {budget.name} holds executions back or refuses them: {limit_in_words(budget)}"
        if told.exhausted
        else ""
    )
    return BudgetUse(budget.name, budget.limit, min(told.remaining, budget.limit), told.resets_at, said)


def limit_in_words(budget: Budget) -> str:
    """Return what a budget of executions allows."""
    whose = "" if budget.scope is BudgetScope.POOL else " for each user"
    if _is_rate(budget):
        return f"it allows {budget.limit} in {budget.seconds} s, {budget.burst or 1} at once{whose}"
    return f"it allows {budget.limit} at the same time{whose}"


def _is_rate(budget: Budget) -> bool:
    return budget.resource is BudgetResource.EXECUTIONS
