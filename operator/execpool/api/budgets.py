"""Budgets of a pool: what it may use, beside the limits of the account that it draws on.

resource        counts                                   kept by     window
--------------- ---------------------------------------- ----------- ------------------------------
Executions      starts                                   gateway     slides, 60 s unless said
Concurrency     executions running at the same time      gateway     -
Creates         sandboxes asked for                      operator    slides, 60 s unless said
Sandboxes       sandboxes at the same time               operator    -
SpendMicroUSD   what sandboxes cost                      operator    follow each other, a day unless said

docs/budgets.md says what each means for those who wait.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from execpool.api.fields import TierName
from execpool.api.model import Model, Rule

DEFAULT_WINDOW_SECONDS = 60
DEFAULT_SPEND_WINDOW_SECONDS = 86400


class BudgetResource(StrEnum):
    """What a budget counts."""

    EXECUTIONS = "Executions"
    """Starts in a window of time."""
    CONCURRENCY = "Concurrency"
    """Running at the same time."""
    CREATES = "Creates"
    """E2B sandboxes asked for in a window of time."""
    SANDBOXES = "Sandboxes"
    """E2B sandboxes at the same time."""
    SPEND = "SpendMicroUSD"
    """What E2B sandboxes cost in a window of time, in millionths of a US dollar."""


CAPACITY = frozenset({BudgetResource.CREATES, BudgetResource.SANDBOXES, BudgetResource.SPEND})
"""What the operator keeps: capacity belongs to a pool, never to one user."""
_WINDOWED = frozenset({BudgetResource.EXECUTIONS, BudgetResource.CREATES, BudgetResource.SPEND})
_RATES = frozenset({BudgetResource.EXECUTIONS, BudgetResource.CREATES})


class BudgetScope(StrEnum):
    """Whose executions share a budget."""

    POOL = "Pool"
    USER = "User"
    """Each principal, so each end user of each tenant, has one of its own."""


class OnExhausted(StrEnum):
    """What happens to an execution that a budget does not let through."""

    WAIT = "Wait"
    REFUSE = "Refuse"


class Budget(Model):
    """One limit."""

    rules = (
        Rule(
            cel="self.resource in ['Executions', 'Creates', 'SpendMicroUSD'] || !has(self.windowSeconds)",
            message="Concurrency and Sandboxes count what there is at the same time: they have no windowSeconds",
            holds=lambda self: self.resource in _WINDOWED or self.window_seconds is None,
            field_path=".resource",
        ),
        Rule(
            cel="self.resource in ['Executions', 'Creates'] || !has(self.burst)",
            message="burst is of Executions and Creates, which are rates",
            holds=lambda self: self.resource in _RATES or self.burst is None,
            field_path=".resource",
        ),
        Rule(
            cel="!(self.resource in ['Creates', 'Sandboxes', 'SpendMicroUSD']) || self.scope != 'User'",
            message="Creates, Sandboxes and SpendMicroUSD are of the pool: a sandbox is made before it has a user",
            holds=lambda self: self.resource not in CAPACITY or self.scope is BudgetScope.POOL,
            field_path=".scope",
        ),
    )

    name: TierName
    """Name of the budget, unique in its pool; refusals name it."""
    resource: BudgetResource
    """What is counted: Executions (starts in a window) or Concurrency (running at the same time); of E2B sandboxes Creates (asked for in a window), Sandboxes (at the same time) or SpendMicroUSD (cost in a window)."""
    scope: BudgetScope = BudgetScope.POOL
    """Pool: all executions share it. User: each end user has one of its own."""
    tier: TierName | None = None
    """The tier that counts; absent means all of them (of kind e2b, for what counts sandboxes)."""
    limit: Annotated[int, Field(ge=1, le=10**12, strict=True)]
    """Most of them: in a window, or at the same time. SpendMicroUSD: in millionths of a US dollar."""
    window_seconds: Annotated[int, Field(ge=1, le=86400, strict=True)] | None = None
    """Length of the window; absent means 60, and 86400 for SpendMicroUSD, whose windows begin at multiples of it (a day at 00:00 UTC)."""
    burst: Annotated[int, Field(ge=1, le=100000, strict=True)] | None = None
    """Executions or Creates that may come at once; absent means 1, which spaces them evenly and makes `limit` a ceiling for every window."""
    on_exhausted: OnExhausted = OnExhausted.WAIT
    """Wait: executions wait in the queue, if it comes in time. Refuse: those that find no executor are refused at once."""

    @property
    def seconds(self) -> int:
        """Length of its window."""
        if self.window_seconds is not None:
            return self.window_seconds
        return DEFAULT_SPEND_WINDOW_SECONDS if self.resource is BudgetResource.SPEND else DEFAULT_WINDOW_SECONDS

    def counts(self, tier: str) -> bool:
        """True when a tier of this name counts."""
        return self.tier in (None, tier)
