"""How far an executor is from its neighbours: derived from what a tier really uses, never declared (DESIGN rule 9)."""

from execpool.api.names import Isolation
from execpool.api.v1alpha1 import Runtime, Tier

RANKS = tuple(Isolation)
"""In rising order."""


def isolation_of(tier: Tier, *, user_namespaces: bool, containers: bool = True) -> Isolation:
    """Return the rank of a tier's executors.

    Without containers (`execpool dev`) whatever would be a pod is a process, which has the lowest rank there is. A
    RuntimeClass counts as Sandboxed: naming one that is an ordinary runtime is the cluster admin's word against it. In Monty one interpreter stands between a program and its pod, so that is what counts, whatever is around the pod.
    """
    if tier.pods is None:
        return Isolation.MICRO_VM
    if tier.pods.runtime is Runtime.MONTY or not containers:
        return Isolation.INTERPRETER
    if tier.pods.runtime_class_name:
        return Isolation.SANDBOXED
    return Isolation.USER_NAMESPACE if user_namespaces else Isolation.CONTAINER


def weaker_of(rank: Isolation, said: str) -> Isolation:
    """Return the lower of a rank and one that somebody reports; what is no rank says nothing."""
    return min(rank, Isolation(said), key=RANKS.index) if said in RANKS else rank


def is_at_least(rank: Isolation, floor: Isolation) -> bool:
    """True when `rank` is as strong as `floor`, or stronger."""
    return RANKS.index(rank) >= RANKS.index(floor)
