"""The API `execpool.dev/v1alpha1`: the only hand-written schema.

CRDs, field tables and the chart's copies are generated from these models (`python -m execpool.api.generate`). The
docstring under a field is its comment here, its `kubectl explain` text and its row in the README. Only what works is in
the schema: fields of later tiers come with the code that honours them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

from execpool.api.model import Model, Rule
from execpool.api.names import Isolation

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"

TierName = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=DNS_LABEL)]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE)]
ShortText = Annotated[str, StringConstraints(max_length=253)]
Message = Annotated[str, StringConstraints(max_length=1024)]
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int) and not isinstance(value, bool) else value),
    StringConstraints(min_length=1, max_length=32, pattern=QUANTITY),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]


class Runtime(StrEnum):
    """What runs the code of a `pods` tier."""

    PYTHON = "Python"


class Network(StrEnum):
    """What user code may reach."""

    NONE = "None"
    EGRESS = "Egress"


class DeletionPolicy(StrEnum):
    """What happens to claimed executors when their pool is deleted."""

    DRAIN = "Drain"
    DELETE = "Delete"


class Toleration(Model):
    """A toleration of executor pods, as in a pod spec."""

    key: ShortText = ""
    """Taint key; empty with operator Exists tolerates every taint."""
    operator: Annotated[str, StringConstraints(pattern=r"^(Exists|Equal)$")] = "Equal"
    """Exists or Equal."""
    value: ShortText = ""
    """Taint value, for Equal."""
    effect: Annotated[str, StringConstraints(pattern=r"^(|NoSchedule|PreferNoSchedule|NoExecute)$")] = ""
    """NoSchedule, PreferNoSchedule or NoExecute; empty matches all."""


class ImagePullSecret(Model):
    """A reference to a pull secret in the pool's namespace."""

    name: ObjectName
    """Name of the Secret."""


class PodTemplate(Model):
    """What a pool may say about its executor pods: an allow-list. Everything else about the pod is ours."""

    rules = (
        Rule(
            cel="!has(self.labels) || self.labels.all(k, !k.contains('execpool.dev/') && !k.startsWith('app.kubernetes.io/'))",
            message="labels under execpool.dev/ and app.kubernetes.io/ are set by the operator; choose another prefix",
            holds=lambda self: not any("execpool.dev/" in key or key.startswith("app.kubernetes.io/") for key in self.labels),
            field_path=".labels",
        ),
        Rule(
            cel="!has(self.annotations) || self.annotations.all(k, !k.contains('execpool.dev/') && !k.contains('kubernetes.io/'))",
            message="annotations under execpool.dev/ and kubernetes.io/ change how a pod is run; choose another prefix",
            holds=lambda self: not any("execpool.dev/" in key or "kubernetes.io/" in key for key in self.annotations),
            field_path=".annotations",
        ),
    )

    labels: dict[Annotated[str, StringConstraints(max_length=253)], LabelValue] = Field(default_factory=dict, max_length=16)
    """Extra labels of executor pods, for example a Kueue queue name or a cost centre."""
    annotations: dict[Annotated[str, StringConstraints(max_length=253)], Message] = Field(default_factory=dict, max_length=16)
    """Extra annotations of executor pods."""
    image_pull_secrets: list[ImagePullSecret] = Field(default_factory=list, max_length=8)
    """Pull secrets in the pool's namespace."""
    node_selector: dict[Annotated[str, StringConstraints(max_length=253)], LabelValue] = Field(default_factory=dict, max_length=16)
    """Node labels that executor pods need."""
    tolerations: list[Toleration] = Field(default_factory=list, max_length=16)
    """Taints that executor pods tolerate."""
    priority_class_name: ShortText = ""
    """PriorityClass of executor pods."""


class ResourceLimits(Model):
    """Limits of an executor; requests are set to the same values."""

    cpu: Quantity = "1"
    """CPU cores of the runner container."""
    memory: Quantity = "1Gi"
    """Memory of the runner container; one execution may use what is left of it beside the preloaded libraries."""


class Resources(Model):
    """Resources of an executor."""

    limits: ResourceLimits = Field(default_factory=ResourceLimits)
    """Limits of the runner container, in which user code runs."""


class PodsTier(Model):
    """Executors as pods of this cluster."""

    rules = (
        Rule(
            cel="!has(self.warm) || self.warm <= self.max",
            message="warm must not be above max, since max counts warm, claimed and terminating executors",
            holds=lambda self: self.warm is None or self.warm <= self.max,
            field_path=".warm",
        ),
    )

    runtime: Runtime = Runtime.PYTHON
    """What runs the code."""
    warm: Annotated[int, Field(ge=0, le=1000)] | None = None
    """Executors kept ready and unclaimed. Absent on the scaled tier, where `spec.replicas` says it; absent elsewhere means 0."""
    max: Annotated[int, Field(ge=1, le=1000)]
    """Most executors at any time: warm, claimed and terminating together."""
    slots: Annotated[int, Field(ge=1, le=64)] = 4
    """Executions that one executor runs at the same time, all of the one principal that holds it."""
    image: Annotated[str, StringConstraints(max_length=512, pattern=r"^\S*$")] = ""
    """Executor image; empty means the executor of this release."""
    resources: Resources = Field(default_factory=Resources)
    """Resources of an executor."""
    runtime_class_name: Annotated[str, StringConstraints(max_length=253)] = ""
    """RuntimeClass of executor pods, for example gvisor. Named but absent in the cluster stalls the pool."""
    network: Network = Network.NONE
    """What user code may reach: None, or Egress (the internet without cluster, node and metadata addresses)."""
    idle_seconds: Annotated[int, Field(ge=5, le=86400)] = 120
    """A claimed executor without a run exits after this long."""
    max_age_seconds: Annotated[int, Field(ge=60, le=604800)] = 3600
    """A warm executor is replaced after this long, jittered by up to 10 percent."""
    pod_template: PodTemplate = Field(default_factory=PodTemplate)
    """Labels, scheduling and pull secrets of executor pods."""


class Tier(Model):
    """A named class of capacity. Tiers are tried in their order."""

    name: TierName
    """Name of the tier, unique in its pool."""
    pods: PodsTier
    """Executors as pods of this cluster."""


class Deletion(Model):
    """What happens when the pool is deleted."""

    policy: DeletionPolicy = DeletionPolicy.DRAIN
    """Drain lets running executions end first; Delete ends them at once."""
    timeout_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """Longest drain; afterwards running executions are ended."""


class Queue(Model):
    """How executions wait when every executor is busy."""

    max_depth: Annotated[int, Field(ge=0, le=100000)] = 256
    """Most executions waiting; one more is refused with QueueFull."""
    max_wait_seconds: Annotated[int, Field(ge=0, le=3600)] = 120
    """Longest wait for an executor; a request may ask for less, not for more."""


class ExecutionPoolSpec(Model):
    """Capacity to run code: how much is warm, in which tiers, within which limits."""

    rules = (
        Rule(
            cel="self.tiers.size() == 1 || has(self.scaledTier)",
            message="scaledTier is required when there is more than one tier, to say which one spec.replicas counts",
            holds=lambda self: len(self.tiers) == 1 or self.scaled_tier is not None,
            field_path=".scaledTier",
        ),
        Rule(
            cel="!has(self.scaledTier) || self.tiers.exists(t, t.name == self.scaledTier)",
            message="scaledTier must be the name of one of the tiers",
            holds=lambda self: self.scaled_tier is None or any(tier.name == self.scaled_tier for tier in self.tiers),
            field_path=".scaledTier",
        ),
        Rule(
            cel="self.tiers.all(t, !has(t.pods.warm) || (self.tiers.size() > 1 && has(self.scaledTier) && t.name != self.scaledTier))",
            message="the scaled tier sets no warm: spec.replicas is its number of warm executors",
            holds=lambda self: all(tier.pods.warm is None or not self.is_scaled(tier) for tier in self.tiers),
            field_path=".tiers",
        ),
        Rule(
            cel="self.tiers.all(t, self.tiers.exists_one(u, u.name == t.name))",
            message="tier names must be unique in a pool",
            holds=lambda self: len({tier.name for tier in self.tiers}) == len(self.tiers),
            field_path=".tiers",
        ),
    )

    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Warm executors of the scaled tier; what `kubectl scale` and autoscalers set. Leave it out of Git when an autoscaler owns it."""
    scaled_tier: TierName | None = None
    """The tier that `replicas` counts; required when there is more than one."""
    suspend: bool = False
    """True retires warm capacity and refuses new executions; running ones end by themselves."""
    deletion: Deletion = Field(default_factory=Deletion)
    """What happens to running executions when the pool is deleted."""
    tiers: Annotated[list[Tier], Field(min_length=1, max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})]
    """Classes of capacity, in order of preference."""
    queue: Queue = Field(default_factory=Queue)
    """How executions wait when every executor is busy."""

    def is_scaled(self, tier: Tier) -> bool:
        """True for the tier whose warm executors `replicas` counts."""
        return len(self.tiers) == 1 or tier.name == self.scaled_tier

    def warm(self, tier: Tier) -> int:
        """Return how many warm executors the spec asks of a tier, before suspension, deletion and `max`."""
        return self.replicas if self.is_scaled(tier) else tier.pods.warm or 0


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
    message: Message = ""
    """Why the tier is not as wanted; empty when it is."""


ConditionList = Annotated[
    list[Condition],
    Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class ExecutionPoolStatus(Model):
    """Observed state of a pool. Written by the operator alone."""

    observed_generation: int = 0
    """The generation that this status speaks about."""
    conditions: ConditionList = Field(default_factory=list)
    """Ready; Reconciling and Stalled while true; WarmPoolFilled, TiersAvailable, IsolationVerified."""
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
    tiers: Annotated[list[TierStatus], Field(max_length=8, json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})] = Field(default_factory=list)
    """Per tier."""


class ExecutionKeySpec(Model):
    """Who may execute. Holds no secret: only the SHA-256 of 256 random bits, so it fits into Git."""

    key_hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Lower-case hexadecimal SHA-256 of the whole key, `ep_` included (`execpool key create` prints both)."""
    tenant: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL)]
    """Who the key names. Tenant and end user together are the unit of isolation."""
    pools: Annotated[list[ObjectName], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})] = Field(default_factory=list)
    """Pools of this namespace that the key may use; empty means all of them."""
    expires_at: Annotated[datetime, Field(json_schema_extra={"format": "date-time"})] | None = None
    """End of validity; absent means none."""
    disabled: bool = False
    """True refuses the key at once."""


class ExecutionKeyStatus(Model):
    """Reserved for what will be observed of a key."""

    observed_generation: int = 0
    """The generation that this status speaks about."""


def meta(wire: dict[str, Any], field: str) -> str:
    """Return a string of an object's metadata, empty when absent."""
    return str(wire.get("metadata", {}).get(field, ""))
