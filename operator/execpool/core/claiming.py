"""Which executors may serve an execution, and which of them first. Pure.

A *route* says which tiers may serve, in order, and why. Isolation is a floor, never a preference (DESIGN rule 9): a tier
that is weaker than asked is not on the route, and an empty route is an error of the request. A tier's rank is what its next
executors will have; one that was made before its spec changed may be weaker, so the floor is held against each executor too.

Among warm executors those of the newest template come first, so that nobody is given an outdated one while a current one
is ready; among equals the oldest, which the operator would replace for its age soonest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from execpool.api.names import Isolation
from execpool.api.v1alpha1 import Runtime, TierKind
from execpool.core.isolation import is_at_least
from execpool.core.sealing import SandboxAccess


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """What the record of an E2B sandbox says beyond what every executor has."""

    namespace: str
    resource_version: str
    """The version that was read: a claim is a write against it."""
    account: tuple[str, str]
    """Namespace and name of the E2BAccount."""
    access: SandboxAccess
    expires_at: float
    """The deadline that E2B last confirmed, in UNIX seconds."""
    principal: str | None = None
    """Who holds it; None while it is warm."""
    gateway: str = ""
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Target:
    """An executor as a watch shows it: where it is, and what it takes to claim it.

    The address and what its claim secret is derived from are a pod's, `record` is a sandbox's.
    """

    uid: str
    name: str
    address: str
    """IP address; empty while it has none."""
    executor_id: str
    key_id: str
    tier: str
    template_hash: str
    created_at: float
    ready: bool
    """Ready, and not being deleted."""
    isolation: Isolation = Isolation.INTERPRETER
    """By its own pod, whatever its tier says by now."""
    runtime: Runtime = Runtime.PYTHON
    pool_uid: str = ""
    record: SandboxRecord | None = None

    @property
    def kind(self) -> TierKind:
        """What it is."""
        return TierKind.PODS if self.record is None else TierKind.E2B

    def as_sandbox(self) -> SandboxRecord:
        """Return what its record says. Raises TypeError for another kind."""
        if self.record is None:
            raise TypeError(f"{self.name} is of kind {self.kind}")
        return self.record


@dataclass(frozen=True, slots=True)
class Route:
    """The tiers that may serve an execution, in order of preference, and why in words."""

    tiers: tuple[str, ...]
    reasons: tuple[str, ...]


def without(route: Route, tier: str, why: str) -> Route:
    """Return what is left of a route once a tier has said, before anything happened, that it does not run this code."""
    return Route(tuple(one for one in route.tiers if one != tier), (*route.reasons, f"not on {tier}: {why}"))


def choose_route(tiers: Mapping[str, Isolation], named: str | None, floor: Isolation | None) -> Route:
    """Return the tiers that may serve, in the pool's order or only the one that the request names.

    No tiers means that none is isolated enough; `named` must be one of them.
    """
    candidates = tuple(tiers) if named is None else (named,)
    reasons = ["tiers in the pool's order" if named is None else "tier named by the request"]
    if floor is not None:
        weak = [tier for tier in candidates if not is_at_least(tiers[tier], floor)]
        candidates = tuple(tier for tier in candidates if tier not in weak)
        reasons.append(f"isolation at least {floor}" + (f", which excludes {', '.join(weak)}" if weak else ""))
    return Route(candidates, tuple(reasons))


def in_order_of_choice(targets: Iterable[Target]) -> list[Target]:
    """Sort warm executors of one tier: newest template first, oldest executor first within a template."""
    listed: Sequence[Target] = sorted(targets, key=lambda target: (target.created_at, target.uid))
    newest = {target.template_hash: target.created_at for target in listed}
    return sorted(listed, key=lambda target: -newest[target.template_hash])
