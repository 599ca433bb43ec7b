"""Budgets of a pool: what its executions may use, beside the limits of the account that they run on."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from execpool.api.fields import TierName
from execpool.api.model import Model, Rule

DEFAULT_WINDOW_SECONDS = 60


class BudgetResource(StrEnum):
    """What a budget counts."""

    EXECUTIONS = "Executions"
    """Starts in a window of time."""
    CONCURRENCY = "Concurrency"
    """Running at the same time."""


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
            cel="self.resource != 'Concurrency' || (!has(self.windowSeconds) && !has(self.burst))",
            message="windowSeconds and burst are of Executions; Concurrency counts what runs at the same time",
            holds=lambda self: (
                self.resource is not BudgetResource.CONCURRENCY or (self.window_seconds is None and self.burst is None)
            ),
            field_path=".resource",
        ),
    )

    name: TierName
    """Name of the budget, unique in its pool; refusals name it."""
    resource: BudgetResource
    """What is counted: Executions (starts in a window) or Concurrency (running at the same time)."""
    scope: BudgetScope = BudgetScope.POOL
    """Pool: all executions share it. User: each end user has one of its own."""
    tier: TierName | None = None
    """The tier whose executions count; absent means all of them."""
    limit: Annotated[int, Field(ge=1, le=10000000, strict=True)]
    """Most executions: in a window, or at the same time."""
    window_seconds: Annotated[int, Field(ge=1, le=86400, strict=True)] | None = None
    """Length of the window of Executions; absent means 60."""
    burst: Annotated[int, Field(ge=1, le=100000, strict=True)] | None = None
    """Executions that may start at once; absent means 1, which spaces them evenly and makes `limit` a ceiling for every window."""
    on_exhausted: OnExhausted = OnExhausted.WAIT
    """Wait: in the queue, if it comes in time. Refuse: at once."""
