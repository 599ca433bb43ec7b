"""The `pods` tier: executors as pods of this cluster, and all that a pool may say about those pods.

`PodTemplate` is an allow-list. A pod field that could weaken isolation or reach the host is not in it, and the operator
sets everything else.
"""

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from execpool.api.fields import (
    LABEL_KEY,
    ImageReference,
    LabelKey,
    LabelValue,
    Message,
    ObjectName,
    OptionalObjectName,
    Quantity,
    ShortText,
    list_map,
)
from execpool.api.model import Model, Rule


class Runtime(StrEnum):
    """What runs the code of a `pods` tier."""

    PYTHON = "Python"
    """CPython with the usual libraries: a fresh process for every execution."""
    MONTY = "Monty"
    """An interpreter of a part of Python, for simple programs: what it cannot answer as CPython does goes to the next tier."""


class Network(StrEnum):
    """What user code may reach."""

    NONE = "None"
    EGRESS = "Egress"


class Toleration(Model):
    """A toleration of executor pods, as in a pod spec."""

    key: ShortText = ""
    """Taint key; empty with operator Exists tolerates every taint."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """Exists or Equal."""
    value: ShortText = ""
    """Taint value, for Equal."""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    """NoSchedule, PreferNoSchedule or NoExecute; empty matches all."""


class ImagePullSecret(Model):
    """A reference to a pull secret in the pool's namespace."""

    name: ObjectName
    """Name of the Secret."""


def _qualified_keys(field: str, attribute: str) -> Rule:
    """Return the rule that the keys of a map are label keys, since a wrong one would only show when a pod is refused."""
    return Rule(
        cel=f"!has(self.{field}) || self.{field}.all(k, k.matches('{LABEL_KEY}'))",
        message=f"keys of {field} must look like name or prefix.example/name, as label keys do",
        holds=lambda self: all(re.fullmatch(LABEL_KEY, key) for key in getattr(self, attribute)),
        field_path=f".{field}",
    )


class PodTemplate(Model):
    """What a pool may say about its executor pods: an allow-list. Everything else about the pod is ours."""

    rules = (
        Rule(
            cel="!has(self.labels) || self.labels.all(k, !k.contains('execpool.dev/') && !k.startsWith('app.kubernetes.io/'))",
            message="labels under execpool.dev/ and app.kubernetes.io/ are set by the operator; choose another prefix",
            holds=lambda self: (
                not any("execpool.dev/" in key or key.startswith("app.kubernetes.io/") for key in self.labels)
            ),
            field_path=".labels",
        ),
        Rule(
            # Nearly every controller and runtime that changes a pod by annotation does so by a prefixed one (extra network
            # cards, cloud identities, secret injection): a list of those to refuse would never be complete.
            cel="!has(self.annotations) || self.annotations.all(k, !k.contains('/'))",
            message="annotations with a prefix can change how a pod is run; use a name without one",
            holds=lambda self: not any("/" in key for key in self.annotations),
            field_path=".annotations",
        ),
        _qualified_keys("labels", "labels"),
        _qualified_keys("annotations", "annotations"),
        _qualified_keys("nodeSelector", "node_selector"),
    )

    labels: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=16)
    """Extra labels of executor pods, for example a Kueue queue name or a cost centre."""
    annotations: dict[LabelKey, Message] = Field(default_factory=dict, max_length=16)
    """Extra annotations of executor pods, without a prefix: those with one can change how a pod is run."""
    image_pull_secrets: list[ImagePullSecret] = Field(
        default_factory=list, max_length=8, json_schema_extra=list_map("name")
    )
    """Pull secrets in the pool's namespace."""
    node_selector: dict[LabelKey, LabelValue] = Field(default_factory=dict, max_length=16)
    """Node labels that executor pods need."""
    tolerations: list[Toleration] = Field(default_factory=list, max_length=16)
    """Taints that executor pods tolerate."""
    priority_class_name: OptionalObjectName = ""
    """PriorityClass of executor pods."""


class ResourceLimits(Model):
    """Limits of the runner container, in which user code runs."""

    cpu: Quantity = "1"
    """CPU cores of the runner container; write fractions as 500m, or in quotes."""
    memory: Quantity = "1Gi"
    """Memory of the runner container; one execution may use what is left of it beside the preloaded libraries."""


class ResourceRequests(Model):
    """What the scheduler sets aside for an executor."""

    cpu: Quantity = "100m"
    """CPU cores set aside; warm executors idle, so this is far below the limit by default."""
    memory: Quantity | None = None
    """Memory set aside; absent means the whole limit, so that a node does not run out under running code."""


class Resources(Model):
    """Resources of an executor."""

    limits: ResourceLimits = Field(default_factory=ResourceLimits)
    """Limits of the runner container, in which user code runs."""
    requests: ResourceRequests = Field(default_factory=ResourceRequests)
    """What the scheduler sets aside."""


class PodsTier(Model):
    """Executors as pods of this cluster."""

    rules = (
        Rule(
            cel="!has(self.warm) || self.warm <= self.max",
            message="warm must not be above max, since max counts warm, claimed and terminating executors",
            holds=lambda self: self.warm is None or self.warm <= self.max,
            field_path=".warm",
        ),
        Rule(
            cel="self.runtime != 'Monty' || self.network == 'None'",
            message="runtime Monty reaches no network: leave network out, or choose runtime Python",
            holds=lambda self: self.runtime is not Runtime.MONTY or self.network is Network.NONE,
            field_path=".network",
        ),
    )

    runtime: Runtime = Runtime.PYTHON
    """What runs the code: Python, or Monty for simple programs, with the rest left to the tiers behind it."""
    warm: Annotated[int, Field(ge=0, le=1000, strict=True)] | None = None
    """Executors kept ready and unclaimed. Absent on the scaled tier, where `spec.replicas` says it; absent elsewhere means 0."""
    max: Annotated[int, Field(ge=1, le=1000, strict=True)]
    """Most executors at any time: warm, claimed and terminating together."""
    slots: Annotated[int, Field(ge=1, le=64, strict=True)] = 4
    """Executions that one executor runs at the same time, all of the one principal that holds it."""
    image: ImageReference = ""
    """Executor image; empty means the executor of this release."""
    resources: Resources = Field(default_factory=Resources)
    """Resources of an executor."""
    runtime_class_name: OptionalObjectName = ""
    """RuntimeClass of executor pods, for example gvisor. Named but absent in the cluster stalls the pool."""
    network: Network = Network.NONE
    """What user code may reach: None, or Egress (the internet without cluster, node and metadata addresses)."""
    idle_seconds: Annotated[int, Field(ge=5, le=86400, strict=True)] = 120
    """A claimed executor without a run exits after this long."""
    max_age_seconds: Annotated[int, Field(ge=60, le=604800, strict=True)] = 3600
    """A warm executor is replaced after this long, jittered by up to 10 percent."""
    pod_template: PodTemplate = Field(default_factory=PodTemplate)
    """Labels, scheduling and pull secrets of executor pods."""
