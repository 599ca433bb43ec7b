"""The values that decisions are made of. Frozen, and free of Kubernetes: providers translate.

Times are seconds; `now` and creation times are UNIX seconds of one clock, everything else is a duration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from execpool.api.names import Reason
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus, TierKind
from execpool.protocol import Egress


class Phase(StrEnum):
    """Where an executor is in its life; derived from what its provider reports, never stored."""

    STARTING = "Starting"
    READY = "Ready"
    """Warm: ready and owned by nobody."""
    CLAIMED = "Claimed"
    UNREACHABLE = "Unreachable"
    """Running, but it does not answer: it may be claimed, so nothing is done to it."""
    EXITING = "Exiting"
    """Its server has ended for good, its runner or its object has not: it serves nobody and still counts."""
    TERMINATING = "Terminating"
    ENDED = "Ended"
    """Its processes are gone; only its object is left."""


POPULATION = frozenset(Phase) - {Phase.ENDED}
"""Phases that count against `max`: whatever may still hold resources."""


@dataclass(frozen=True)
class Claim:
    """Who holds an executor, as it reported at the last look."""

    principal: str
    epoch: int
    held_seconds: float
    idle_seconds: float
    running: int


@dataclass(frozen=True)
class Executor:
    """One isolated runtime of a tier, as last observed."""

    name: str
    uid: str
    tier: str
    phase: Phase
    template_hash: str
    created_at: float
    claim: Claim | None = None
    trouble: Reason | None = None
    """Why a starting executor does not become ready, when its provider can tell."""
    message: str = ""
    """The provider's own words about `trouble`."""
    egress: Egress = Egress.UNKNOWN
    kind: TierKind = TierKind.PODS
    """What it is, and so which provider ends it; its tier may be of another kind by now."""
    emulated: bool = False
    """A sandbox of a service that is not E2B's own: it is as far from its neighbours as that one makes it."""

    @property
    def counts(self) -> bool:
        """True when it counts against `max`."""
        return self.phase in POPULATION

    @property
    def unclaimed(self) -> bool:
        """True when it is warm capacity: ready or on its way."""
        return self.phase in (Phase.STARTING, Phase.READY)


@dataclass(frozen=True)
class Finding:
    """Why a plan stops short of what the spec asks, or what it noticed: reason and one sentence with numbers."""

    reason: Reason
    message: str
    tier: str = ""


@dataclass(frozen=True)
class BudgetUse:
    """How far one budget of a pool has been used."""

    name: str
    limit: int
    remaining: int
    resets_at: float | None = None
    """UNIX seconds at which nothing of it is used any more, as things stand; None when nobody can know."""
    exhausted: str = ""
    """One sentence with the numbers while it holds back something that is wanted; empty while it does not."""


@dataclass(frozen=True)
class Backend:
    """What is known of the account that a tier draws on."""

    account: str
    """`namespace/name`."""
    breaker: str
    foreign: int = 0
    """Sandboxes of others."""
    foreign_since: float | None = None
    """UNIX seconds since when there have been some at every look; None while there are none."""


@dataclass(frozen=True)
class Use:
    """What gateways say of one pool's executions; counts are of the last minute."""

    executions: int = 0
    warm_hits: int = 0
    """Executions that found an executor that was ready before they came."""
    offloaded: int = 0
    """Executions that no E2B sandbox ran."""
    refused: int = 0
    waiting: int = 0
    running: int = 0
    wait_seconds: float = 0.0
    """Median wait for an executor."""
    last_at: float = 0.0
    """UNIX seconds of the last execution; 0 when there was none since `since`."""
    since: float = 0.0
    """UNIX seconds since when the gateway has counted."""
    budgets: tuple[BudgetUse, ...] = ()
    """Of Executions and Concurrency."""


@dataclass(frozen=True)
class Demand:
    """What the gateways say about one pool. `waiting` counts executors wanted by tier, not requests."""

    waiting: Mapping[str, int] = field(default_factory=dict)
    claims: int = 0


@dataclass(frozen=True)
class Pool:
    """A pool as read from the API server."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    spec: ExecutionPoolSpec
    status: ExecutionPoolStatus
    finalizers: tuple[str, ...] = ()
    deleted_at: float | None = None

    @property
    def key(self) -> str:
        """`namespace/name`, for logs and demand."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class CreateFailure:
    """The latest failed creation of a tier, remembered until one succeeds."""

    reason: Reason
    message: str
    retry_at: float


@dataclass(frozen=True)
class Snapshot:
    """Everything that a decision about one pool may know."""

    pool: Pool
    executors: tuple[Executor, ...]
    now: float
    template_hashes: Mapping[str, str]
    """Hash of the executor template that each tier's spec asks for."""
    demand: Demand = field(default_factory=Demand)
    use: Use | None = None
    """None while no gateway has told."""
    budgets: tuple[BudgetUse, ...] = ()
    """In the spec's order."""
    backends: Mapping[str, Backend] = field(default_factory=dict)
    """By tier; those of kind e2b."""
    runtime_classes: frozenset[str] | None = None
    """RuntimeClasses of the cluster; None when no tier names one, or they cannot be read."""
    failures: Mapping[str, CreateFailure] = field(default_factory=dict)
    """By tier."""
    user_namespaces: bool = True
    """Whether executor pods get a user namespace of their own."""
    containers: bool = True
    """Whether executor pods are in containers; processes of this machine otherwise (`execpool dev`)."""
    policies_current: bool = True
    """Whether the pool's network policies are as wanted."""

    def of(self, tier: str) -> tuple[Executor, ...]:
        """Return the executors of one tier, of those the spec no longer names too."""
        return tuple(executor for executor in self.executors if executor.tier == tier)
