"""The budgets of one pool as gates: which of them stand before a principal's executions on a tier."""

from collections.abc import Callable, Iterable

from execpool.api.budgets import CAPACITY, Budget, BudgetResource, BudgetScope, OnExhausted
from execpool.core.budget import Rate
from execpool.core.gates import Gate, RateGate, SlotsGate

MOST_USERS = 4096
"""Users of one budget of whom is kept what they have used, before those are forgotten who have nothing used."""
_EVERYBODY = ""


class PoolBudgets:
    """The budgets that a pool declares. Each begins empty when it is first seen (`core.budget` says why).

    Args:
        now: seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._declared: dict[str, _Declared] = {}

    def observe(self, budgets: Iterable[Budget]) -> None:
        """Take in what the spec declares. One that has stayed the same goes on as it is; the operator keeps those of capacity."""
        known = self._declared
        self._declared = {
            budget.name: self._observed(known.get(budget.name), budget)
            for budget in budgets
            if budget.resource not in CAPACITY
        }

    def gates(self, principal: str, tier: str) -> list[Gate]:
        """Return the gates before a principal's executions on a tier."""
        return [
            declared.gate(principal, self._now)
            for declared in self._declared.values()
            if declared.budget.tier in (None, tier)
        ]

    def _observed(self, known: "_Declared | None", budget: Budget) -> "_Declared":
        if known is None or (known.budget.resource, known.budget.scope) != (budget.resource, budget.scope):
            return _Declared(budget, self._now())
        if known.budget != budget:
            known.become(budget, self._now())
        return known


class _Declared:
    """One budget: a gate for everybody, or one for each user."""

    def __init__(self, budget: Budget, since: float) -> None:
        self.budget = budget
        self._since = since
        self._gates: dict[str, RateGate | SlotsGate] = {}

    def become(self, budget: Budget, now: float) -> None:
        """Go on with other numbers: what runs still counts, a rate begins empty."""
        self.budget, self._since = budget, now
        for gate in self._gates.values():
            gate.is_waited_for = budget.on_exhausted is OnExhausted.WAIT
            if isinstance(gate, RateGate):
                gate.renew(_rate(budget), now)
            else:
                gate.limit = budget.limit

    def gate(self, principal: str, now: Callable[[], float]) -> Gate:
        """Return the gate that counts a principal."""
        key = principal if self.budget.scope is BudgetScope.USER else _EVERYBODY
        gate = self._gates.get(key)
        if gate is None:
            self._forget_unused(now)
            gate = self._gates[key] = self._made()
        return gate

    def _made(self) -> RateGate | SlotsGate:
        budget = self.budget
        is_waited_for = budget.on_exhausted is OnExhausted.WAIT
        name = f"budget {budget.name}" + ("" if budget.scope is BudgetScope.POOL else " of each user")
        if budget.resource is BudgetResource.CONCURRENCY:
            return SlotsGate(name, budget.limit, is_waited_for=is_waited_for)
        return RateGate(name, _rate(budget), self._since, is_waited_for=is_waited_for)

    def _forget_unused(self, now: Callable[[], float]) -> None:
        if len(self._gates) >= MOST_USERS:
            self._gates = {user: gate for user, gate in self._gates.items() if not gate.is_full(now())}


def _rate(budget: Budget) -> Rate:
    return Rate(budget.limit, budget.seconds, budget.burst or 1)
