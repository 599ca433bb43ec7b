"""The CustomResourceDefinitions: what `kubectl` shows, what can be scaled, and the schemas of the models. Pure."""

from dataclasses import dataclass
from typing import Any

from execpool.api.fields import DNS_LABEL
from execpool.api.model import Model
from execpool.api.names import GROUP, VERSION
from execpool.api.schema import structural
from execpool.api.v1alpha1 import (
    E2BAccountSpec,
    E2BAccountStatus,
    E2BSandboxSpec,
    E2BSandboxStatus,
    ExecutionKeySpec,
    ExecutionKeyStatus,
    ExecutionPoolSpec,
    ExecutionPoolStatus,
)

Document = dict[str, Any]

_META_TEXT = {
    "apiVersion": "Version of the API that this object is written in.",
    "kind": "Kind of this object.",
}


@dataclass(frozen=True)
class Kind:
    """A kind of the API and how it is presented."""

    name: str
    plural: str
    short: str
    description: str
    spec: type[Model]
    status: type[Model]
    columns: tuple[Document, ...]
    scalable: bool = False

    @property
    def crd_name(self) -> str:
        """Name of the CRD object, and of its file."""
        return f"{self.plural}.{GROUP}"


def _column(name: str, path: str, description: str, *, kind: str = "string", wide: bool = False) -> Document:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | {"priority": 1} if wide else column


def _ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


_AGE = _column("Age", ".metadata.creationTimestamp", "Time since creation.", kind="date")
_WHY = (
    _column("Reason", _ready("reason"), "Why it is ready or not.", wide=True),
    _column("Message", _ready("message"), "The same in a sentence.", wide=True),
)

# One row answers: healthy? how warm, how busy, and (with -o wide) why not.
POOL = Kind(
    name="ExecutionPool",
    plural="executionpools",
    short="expool",
    description="Capacity that runs AI-written code: how much is warm, in which tiers, within which limits.",
    spec=ExecutionPoolSpec,
    status=ExecutionPoolStatus,
    columns=(
        _column("Ready", _ready("status"), "Whether the pool serves executions."),
        _column("Warm", ".status.warm", "Ready of wanted warm executors, over all tiers."),
        _column("Claimed", ".status.claimed", "Executors held by a principal.", kind="integer"),
        _column("Desired", ".status.desiredReplicas", "Warm executors wanted of the scaled tier.", kind="integer"),
        _AGE,
        *_WHY,
    ),
    scalable=True,
)
KEY = Kind(
    name="ExecutionKey",
    plural="executionkeys",
    short="exkey",
    description="Who may execute in this namespace's pools. Holds the hash of a key, never the key.",
    spec=ExecutionKeySpec,
    status=ExecutionKeyStatus,
    columns=(
        _column("Tenant", ".spec.tenant", "Whom the key names."),
        _column("Disabled", ".spec.disabled", "Whether the key is refused.", kind="boolean"),
        _column("Expires", ".spec.expiresAt", "End of validity; empty means none."),
        _AGE,
    ),
)
ACCOUNT = Kind(
    name="E2BAccount",
    plural="e2baccounts",
    short="e2bacct",
    description="An account at E2B: its key, its limits, what may be spent, and which namespaces may draw on it.",
    spec=E2BAccountSpec,
    status=E2BAccountStatus,
    columns=(
        _column("Ready", _ready("status"), "Whether sandboxes can be had."),
        _column("Plan", ".spec.plan", "Plan of the account."),
        _column("Ours", ".status.sandboxes.ours", "Sandboxes of this cluster.", kind="integer"),
        _column("Foreign", ".status.sandboxes.foreign", "Sandboxes of others.", kind="integer"),
        _column("Breaker", ".status.breaker", "Closed, Open or HalfOpen."),
        _AGE,
        *_WHY,
    ),
)
SANDBOX = Kind(
    name="E2BSandbox",
    plural="e2bsandboxes",
    short="e2bsb",
    description="Record of one E2B sandbox, written before it is asked for. Made and ended by the operator.",
    spec=E2BSandboxSpec,
    status=E2BSandboxStatus,
    columns=(
        _column("Pool", ".spec.pool", "Pool."),
        _column("Phase", ".status.phase", "Where it is in its life."),
        _column("Sandbox", ".status.sandboxID", "E2B's id."),
        _column(
            "Expires", ".status.expiresAt", "Deadline that E2B last confirmed."
        ),  # a date column shows the past alone
        _AGE,
        _column("Attempt", ".spec.attempt", "How often one was asked for.", kind="integer", wide=True),
        _column("Message", ".status.message", "Why it is not as wanted.", wide=True),
    ),
)
KINDS = (ACCOUNT, SANDBOX, KEY, POOL)


def crd(kind: Kind) -> Document:
    """Return the CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.crd_name},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["execution"],
            },
            "scope": "Namespaced",
            "versions": [_version(kind)],
        },
    }


def _version(kind: Kind) -> Document:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": _subresources(kind),
        "additionalPrinterColumns": list(kind.columns),
        "schema": {"openAPIV3Schema": _root(kind)},
    }


def _subresources(kind: Kind) -> Document:
    scale = {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    return {"status": {}} | ({"scale": scale} if kind.scalable else {})


def _root(kind: Kind) -> Document:
    # The name becomes the value of a label on every executor, and labels end at 63 characters.
    name = {"type": "string", "maxLength": 63, "pattern": DNS_LABEL}
    described = {field: {"type": "string", "description": text} for field, text in _META_TEXT.items()}
    return {
        "description": kind.description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            **described,
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": structural(kind.spec),
            "status": structural(kind.status, defaults=False),
        },
    }
