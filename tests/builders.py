"""Valid values with overrides by keyword, for tests of every ring."""

from typing import Any

from execpool.api.names import FINALIZER, Reason
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.core.model import Claim, Demand, Executor, Phase, Pool, Snapshot

NOW = 1_000_000.0
CURRENT = "hash-current"
OLD = "hash-old"


def spec(**overrides: Any) -> ExecutionPoolSpec:
    """One pods tier `local` with room for six; `pods` overrides the tier, everything else the spec."""
    pods = {"max": 6, "slots": 2, "maxAgeSeconds": 3600} | overrides.pop("pods", {})
    return ExecutionPoolSpec.model_validate({"replicas": 3, "tiers": [{"name": "local", "pods": pods}]} | overrides)


def pool(**overrides: Any) -> Pool:
    values: dict[str, Any] = {
        "namespace": "agents",
        "name": "agents",
        "uid": "pool-uid",
        "generation": 1,
        "resource_version": "1",
        "spec": spec(),
        "status": ExecutionPoolStatus(observed_generation=1),
        "finalizers": (FINALIZER,),
    }
    return Pool(**values | overrides)


def executor(name: str = "e1", phase: Phase = Phase.READY, **overrides: Any) -> Executor:
    values: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "tier": "local",
        "phase": phase,
        "template_hash": CURRENT,
        "created_at": NOW - 60,
    }
    return Executor(**values | overrides)


def claimed(name: str, *, held: float = 60.0, idle: float = 30.0, running: int = 0, **overrides: Any) -> Executor:
    claim = Claim(principal=f"p-{name}", epoch=1, held_seconds=held, idle_seconds=idle, running=running)
    return executor(name, Phase.CLAIMED, claim=claim, **overrides)


def troubled(name: str, reason: Reason, message: str = "the provider's words") -> Executor:
    return executor(name, Phase.STARTING, trouble=reason, message=message)


def snapshot(*executors: Executor, waiting: int = 0, **overrides: Any) -> Snapshot:
    values: dict[str, Any] = {
        "pool": pool(),
        "executors": executors,
        "now": NOW,
        "template_hashes": {"local": CURRENT},
        "demand": Demand({"local": waiting} if waiting else {}),
    }
    return Snapshot(**values | overrides)
