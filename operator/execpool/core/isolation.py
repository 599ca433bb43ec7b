"""How far an executor is from its neighbours: derived from what a tier really uses, never declared (DESIGN rule 9)."""

from execpool.api.names import Isolation
from execpool.api.v1alpha1 import Runtime, Tier

RANKS = tuple(Isolation)
"""In rising order."""


def isolation_of(tier: Tier, *, user_namespaces: bool) -> Isolation:
    """Return the rank of a tier's executors.

    A RuntimeClass counts as Sandboxed: naming one that is an ordinary runtime is the cluster admin's word against it.
    In Monty one interpreter stands between a program and its pod, so that is what counts, whatever is around the pod.
    """
    if tier.pods is None:
        return Isolation.MICRO_VM
    if tier.pods.runtime is Runtime.MONTY:
        return Isolation.INTERPRETER
    if tier.pods.runtime_class_name:
        return Isolation.SANDBOXED
    return Isolation.USER_NAMESPACE if user_namespaces else Isolation.CONTAINER


def is_at_least(rank: Isolation, floor: Isolation) -> bool:
    """True when `rank` is as strong as `floor`, or stronger."""
    return RANKS.index(rank) >= RANKS.index(floor)
