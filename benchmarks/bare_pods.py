"""Executor pods without an operator: the same images, containers and limits, made by whoever wants a peer for it.

Nothing of execpool's is on them that its operator or gateway would take for theirs.
"""

import secrets
from typing import Any

from benchmarks.cluster import TIER, Cluster, pool_manifest
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.core.model import Pool
from execpool.kube.client import Object
from execpool.kube.resources import ExecutorIdentity, ExecutorProfile, make_executor_pod
from execpool.protocol import secret_hash

IMAGE = "EXECPOOL_EXECUTOR_IMAGE"
USER_NAMESPACES = "EXECPOOL_USER_NAMESPACES"
LABEL = "bench/made-by"


def make_bare_pod(cluster: Cluster, namespace: str, name: str, maker: str, **pods: Any) -> Object:
    """Return the pod that the operator would make for `pool_manifest(**pods)`, labelled with another maker."""
    spec = ExecutionPoolSpec.read(pool_manifest("bare", warm=1, **pods)["spec"])
    pool = Pool(namespace, "bare", secrets.token_hex(8), 1, "", spec, ExecutionPoolStatus())
    environment = cluster.operator.environment
    profile = ExecutorProfile(
        environment[IMAGE], environment.get(USER_NAMESPACES, "true").lower() not in ("false", "0")
    )
    identity = ExecutorIdentity(name, secrets.token_hex(16), secret_hash(secrets.token_hex(16)), "")
    tier = next(tier for tier in spec.tiers if tier.name == TIER)
    made = make_executor_pod(pool, tier, profile, identity)
    return {"metadata": {"name": name, "labels": {LABEL: maker}}, "spec": made["spec"]}
