"""The budgets of one pool as gates: which of them stand before a principal's executions on a tier."""

from collections.abc import Callable, Iterable

from execpool.api.budgets import CAPACITY, Budget, BudgetResource, BudgetScope, OnExhausted
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.core.budget import Rate
from execpool.core.gates import Gate, RateGate, SlotsGate
from execpool.core.model import BudgetUse
from execpool.core.times import parse_time
from execpool.gateway.turned_away import Drought

MOST_USERS = 4096
"""Users of one budget of whom is kept what they have used, before those are forgotten who have nothing used."""
HELD_SECONDS = 60.0
"""For how long it is told that a budget has held somebody back."""
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

    def use(self, clock: float) -> tuple[BudgetUse, ...]:
        """Return how far each has been used; of those of each user, by whom it has been used most. `clock`: UNIX seconds."""
        now = self._now()
        return tuple(declared.use(now, clock) for declared in self._declared.values())

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

    def use(self, now: float, clock: float) -> BudgetUse:
        """Return how far it has been used."""
        gates = list(self._gates.values()) or [self._made()]
        fullest = min(gates, key=lambda gate: gate.room(now))
        resets_at = None
        if isinstance(fullest, RateGate):
            resets_at = clock + max(gate.full_in(now) for gate in gates if isinstance(gate, RateGate))
        held = "held" if any(now - gate.held_at < HELD_SECONDS for gate in gates) else ""
        return BudgetUse(self.budget.name, self.budget.limit, fullest.room(now), resets_at, held)

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


def droughts(spec: ExecutionPoolSpec, status: ExecutionPoolStatus) -> dict[str, Drought]:
    """Return, by tier, which budget of capacity lets no more executors be made there, as the operator last told."""
    told = {one.name: one for one in status.budgets if one.message}
    found: dict[str, Drought] = {}
    for budget in spec.budgets:
        exhausted = told.get(budget.name)
        if budget.resource not in CAPACITY or exhausted is None:
            continue
        until = None if exhausted.resets_at is None else parse_time(exhausted.resets_at)
        drought = Drought(exhausted.message, until, is_waited_for=budget.on_exhausted is OnExhausted.WAIT)
        for tier in spec.tiers:
            if tier.e2b is not None and budget.counts(tier.name):
                known = found.get(tier.name)
                found[tier.name] = drought if known is None or known.is_waited_for else known
    return found
