"""The API `execpool.dev/v1alpha1`: with `pods.py` and `status.py` the only hand-written schema.

CRDs and field tables are generated from these models (`python -m execpool.api.generate`). The docstring under a field is
its comment here, its `kubectl explain` text and its row in the README. Only what works is in the schema: fields of later
tiers come with the code that honours them.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StrictBool, StringConstraints

from execpool.api.budgets import CAPACITY, Budget, BudgetResource, BudgetScope, OnExhausted
from execpool.api.e2b import (
    E2BAccountSpec,
    E2BAccountStatus,
    E2BSandboxSpec,
    E2BSandboxStatus,
    E2BTier,
)
from execpool.api.fields import DNS_LABEL, ObjectName, TierName, list_map
from execpool.api.model import Model, Rule
from execpool.api.pods import (
    ImagePullSecret,
    Network,
    PodsTier,
    PodTemplate,
    ResourceLimits,
    Resources,
    Runtime,
    Toleration,
)
from execpool.api.status import Condition, ExecutionKeyStatus, ExecutionPoolStatus, TierStatus

__all__ = [
    "Budget",
    "BudgetResource",
    "BudgetScope",
    "Condition",
    "Deletion",
    "DeletionPolicy",
    "E2BAccountSpec",
    "E2BAccountStatus",
    "E2BSandboxSpec",
    "E2BSandboxStatus",
    "E2BTier",
    "ExecutionKeySpec",
    "ExecutionKeyStatus",
    "ExecutionPoolSpec",
    "ExecutionPoolStatus",
    "ImagePullSecret",
    "Network",
    "OnExhausted",
    "PodTemplate",
    "PodsTier",
    "Queue",
    "ResourceLimits",
    "Resources",
    "Runtime",
    "Tier",
    "TierKind",
    "TierStatus",
    "Toleration",
    "meta",
]


class DeletionPolicy(StrEnum):
    """What happens to claimed executors when their pool is deleted."""

    DRAIN = "Drain"
    DELETE = "Delete"


class TierKind(StrEnum):
    """What the executors of a tier are."""

    PODS = "pods"
    E2B = "e2b"


class Tier(Model):
    """A named class of capacity, of exactly one kind. Tiers are tried in their order."""

    rules = (
        Rule(
            cel="has(self.pods) != has(self.e2b)",
            message="a tier is of exactly one kind: pods or e2b",
            holds=lambda self: (self.pods is None) is not (self.e2b is None),
        ),
    )

    name: TierName
    """Name of the tier, unique in its pool."""
    pods: PodsTier | None = None
    """Executors as pods of this cluster."""
    e2b: E2BTier | None = Field(default=None, alias="e2b")  # the generator of aliases would say e2B
    """Executors as E2B sandboxes of an account."""

    @property
    def kind(self) -> TierKind:
        """Which kind it is."""
        return TierKind.PODS if self.pods is not None else TierKind.E2B

    @property
    def sizing(self) -> PodsTier | E2BTier:
        """What every kind has: `warm`, `max`, `slots`, `idle_seconds`, `max_age_seconds`."""
        return self.pods or self.as_e2b()

    def as_pods(self) -> PodsTier:
        """Return what it says of pods. Raises TypeError for another kind."""
        if self.pods is None:
            raise TypeError(f"tier {self.name} is of kind {self.kind}")
        return self.pods

    def as_e2b(self) -> E2BTier:
        """Return what it says of sandboxes. Raises TypeError for another kind."""
        if self.e2b is None:
            raise TypeError(f"tier {self.name} is of kind {self.kind}")
        return self.e2b


class Deletion(Model):
    """What happens when the pool is deleted."""

    policy: DeletionPolicy = DeletionPolicy.DRAIN
    """Drain lets running executions end first; Delete ends them at once."""
    timeout_seconds: Annotated[int, Field(ge=0, le=86400, strict=True)] = 300
    """Longest drain; afterwards running executions are ended."""


class Queue(Model):
    """How executions wait when every executor is busy."""

    max_depth: Annotated[int, Field(ge=0, le=100000, strict=True)] = 256
    """Most executions waiting; one more is refused with QueueFull."""
    max_wait_seconds: Annotated[int, Field(ge=0, le=3600, strict=True)] = 120
    """Longest wait for an executor; a request may ask for less, not for more."""


class ExecutionPoolSpec(Model):
    """Capacity to run code: how much is warm, in which tiers, within which limits."""

    rules = (
        Rule(
            cel="self.tiers.size() <= 1 || has(self.scaledTier)",
            message="scaledTier is required when there is more than one tier, to say which one spec.replicas counts",
            holds=lambda self: len(self.tiers) <= 1 or self.scaled_tier is not None,
            field_path=".scaledTier",
        ),
        Rule(
            cel="!has(self.scaledTier) || self.tiers.exists(t, t.name == self.scaledTier)",
            message="scaledTier must be the name of one of the tiers",
            holds=lambda self: self.scaled_tier is None or any(tier.name == self.scaled_tier for tier in self.tiers),
            field_path=".scaledTier",
        ),
        Rule(
            cel="self.tiers.all(t, !((has(t.pods) && has(t.pods.warm)) || (has(t.e2b) && has(t.e2b.warm)))"
            " || (self.tiers.size() > 1 && has(self.scaledTier) && t.name != self.scaledTier))",
            message="the scaled tier sets no warm: spec.replicas is its number of warm executors",
            holds=lambda self: all(tier.sizing.warm is None or not self.is_scaled(tier) for tier in self.tiers),
            field_path=".tiers",
        ),
        Rule(
            cel="self.tiers.all(t, self.tiers.exists_one(u, u.name == t.name))",
            message="tier names must be unique in a pool",
            holds=lambda self: len({tier.name for tier in self.tiers}) == len(self.tiers),
            field_path=".tiers",
        ),
        Rule(
            cel="!has(self.budgets) || self.budgets.all(b, self.budgets.exists_one(c, c.name == b.name))",
            message="names of budgets must be unique in a pool",
            holds=lambda self: len({budget.name for budget in self.budgets}) == len(self.budgets),
            field_path=".budgets",
        ),
        Rule(
            cel="!has(self.budgets) || self.budgets.all(b, !has(b.tier) || self.tiers.exists(t, t.name == b.tier))",
            message="the tier of a budget must be one of the pool's tiers",
            holds=lambda self: {budget.tier for budget in self.budgets} <= {None, *(tier.name for tier in self.tiers)},
            field_path=".budgets",
        ),
        Rule(
            cel="!has(self.budgets) || self.budgets.all(b, !(b.resource in ['Creates', 'Sandboxes', 'SpendMicroUSD'])"
            " || self.tiers.exists(t, has(t.e2b) && (!has(b.tier) || t.name == b.tier)))",
            message="Creates, Sandboxes and SpendMicroUSD count E2B sandboxes: the tier of such a budget must be of kind e2b",
            holds=lambda self: all(
                any(tier.e2b is not None and budget.counts(tier.name) for tier in self.tiers)
                for budget in self.budgets
                if budget.resource in CAPACITY
            ),
            field_path=".budgets",
        ),
    )

    replicas: Annotated[int, Field(ge=0, le=1000, strict=True)] = 1
    """Warm executors of the scaled tier; what `kubectl scale` and autoscalers set. Leave it out of Git when an autoscaler owns it."""
    scaled_tier: TierName | None = None
    """The tier that `replicas` counts; required when there is more than one."""
    suspend: StrictBool = False
    """True retires warm capacity and refuses new executions; running ones end by themselves."""
    deletion: Deletion = Field(default_factory=Deletion)
    """What happens to running executions when the pool is deleted."""
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=8, json_schema_extra=list_map("name"))]
    """Classes of capacity, in order of preference."""
    budgets: Annotated[list[Budget], Field(max_length=16, json_schema_extra=list_map("name"))] = Field(
        default_factory=list
    )
    """Limits of this pool; those of the account hold above them, and the strictest wins."""
    queue: Queue = Field(default_factory=Queue)
    """How executions wait when every executor is busy."""

    def is_scaled(self, tier: Tier) -> bool:
        """True for the tier whose warm executors `replicas` counts."""
        return len(self.tiers) == 1 or tier.name == self.scaled_tier

    def warm(self, tier: Tier) -> int:
        """Return how many warm executors the spec asks of a tier, before suspension, deletion and `max`."""
        return self.replicas if self.is_scaled(tier) else tier.sizing.warm or 0


class ExecutionKeySpec(Model):
    """Who may execute. Holds no secret: only the SHA-256 of 256 random bits, so it fits into Git."""

    key_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Lower-case hexadecimal SHA-256 of the whole key, `ep_` included (`execpool key create` prints both)."""
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Who the key names. Tenant and end user together are the unit of isolation."""
    pools: Annotated[list[ObjectName], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})] = (
        Field(default_factory=list)
    )
    """Pools of this namespace that the key may use; empty means all of them."""
    expires_at: AwareDatetime | None = None
    """End of validity; absent means none."""
    disabled: StrictBool = False
    """True refuses the key at once."""


def meta(wire: dict[str, Any], field: str) -> str:
    """Return a string of an object's metadata, empty when absent."""
    return str(wire.get("metadata", {}).get(field, ""))
