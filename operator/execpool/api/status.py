"""What is observed of API objects. Written by the operator alone; numbers and reasons, never rates or user content."""

from typing import Annotated

from pydantic import Field, StringConstraints

from execpool.api.fields import Message, ShortText, TierName, list_map
from execpool.api.model import Model
from execpool.api.names import Isolation


class Condition(Model):
    """A condition as in metav1.Condition."""

    type: Annotated[str, StringConstraints(max_length=316)]
    """Type of the condition."""
    status: Annotated[str, StringConstraints(pattern=r"^(True|False|Unknown)$")]
    """True, False or Unknown."""
    observed_generation: Annotated[int, Field(ge=0)] = 0
    """The generation that the condition speaks about."""
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When the status last changed."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    """CamelCase reason, from a closed list."""
    message: Annotated[str, StringConstraints(max_length=32768)] = ""
    """One sentence with the observed numbers."""


class TierStatus(Model):
    """What a tier holds at this moment."""

    name: TierName
    """Name of the tier."""
    kind: ShortText
    """Kind of the tier."""
    isolation: Isolation
    """How far an executor of this tier is from its neighbours."""
    desired: int
    """Warm executors wanted now."""
    ready: int
    """Ready and unclaimed."""
    starting: int
    """Not ready yet and unclaimed."""
    claimed: int
    """Held by one principal each."""
    terminating: int
    """Ending."""
    breaker: ShortText = ""
    """Whether the tier's backend is asked: Closed, Open or HalfOpen; empty for pods."""
    message: Message = ""
    """Why the tier is not as wanted; empty when it is."""


class BudgetStatus(Model):
    """How far a budget has been used, when that was last written."""

    name: TierName
    """Name of the budget."""
    limit: Annotated[int, Field(ge=0)]
    """Its limit."""
    remaining: Annotated[int, Field(ge=0)] = 0
    """What could be had of it at once."""
    resets_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When nothing of it is used any more, as things stand; absent when that depends on what ends."""
    message: Message = ""
    """What it holds back, with numbers; empty while it holds back nothing."""


class ExecutionFigures(Model):
    """Executions of one minute."""

    count: Annotated[int, Field(ge=0)] = 0
    """Executions that were answered."""
    warm_hits: Annotated[int, Field(ge=0)] = 0
    """Of them, those that found an executor that was ready before they came."""
    offloaded: Annotated[int, Field(ge=0)] = 0
    """Of them, those that no E2B sandbox ran."""
    refused: Annotated[int, Field(ge=0)] = 0
    """Refused."""
    wait_milliseconds: Annotated[int, Field(ge=0)] = 0
    """Median wait for an executor."""


ConditionList = Annotated[
    list[Condition],
    Field(max_length=16, json_schema_extra=list_map("type")),
]


class ExecutionPoolStatus(Model):
    """Observed state of a pool. Written by the operator alone."""

    observed_generation: int = 0
    """The generation that this status speaks about."""
    conditions: ConditionList = Field(default_factory=list)
    """Ready; Reconciling and Stalled while true; WarmPoolFilled, TiersAvailable, BudgetAvailable, PoolInUse, IsolationVerified."""
    replicas: int = 0
    """Unclaimed executors (ready and starting) of the scaled tier."""
    ready_replicas: int = 0
    """Ready unclaimed executors of the scaled tier."""
    desired_replicas: int = 0
    """Warm executors wanted of the scaled tier now."""
    selector: ShortText = ""
    """Label selector of the scaled tier's pods, for autoscalers; never empty."""
    warm: ShortText = ""
    """Ready of wanted warm executors over all tiers, as shown by `kubectl get`."""
    claimed: int = 0
    """Claimed executors over all tiers."""
    tiers: Annotated[list[TierStatus], Field(max_length=8, json_schema_extra=list_map("name"))] = Field(
        default_factory=list
    )
    """Per tier."""
    budgets: Annotated[list[BudgetStatus], Field(max_length=16, json_schema_extra=list_map("name"))] = Field(
        default_factory=list
    )
    """Per budget, at `figuresAt`."""
    executions: ExecutionFigures | None = None
    """The minute before `figuresAt`."""
    figures_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """When `budgets` and `executions` were taken: they are written with the next change of anything else, once a minute at most."""


class ExecutionKeyStatus(Model):
    """Reserved for what will be observed of a key."""

    observed_generation: int = 0
    """The generation that this status speaks about."""
