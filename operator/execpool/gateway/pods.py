"""Reads an executor out of a pod, as far as a claim needs it. What is not an executor of ours is None."""

import ipaddress
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from execpool import protocol
from execpool.api import names
from execpool.api.names import Isolation
from execpool.api.v1alpha1 import Runtime
from execpool.core.claiming import Target
from execpool.core.isolation import weaker_of

_ENDED = ("Succeeded", "Failed")


def pool_uid_of(pod: Mapping[str, Any]) -> str:
    """Return the UID of the pool that a pod says it belongs to, empty when it says none."""
    return str((pod["metadata"].get("labels") or {}).get(names.LABEL_POOL_UID, ""))


def target_of(pod: Mapping[str, Any]) -> Target | None:
    """Return the executor that a pod is; None when it has ended or lacks what an executor has."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    executor_id, tier = labels.get(names.LABEL_EXECUTOR_ID), labels.get(names.LABEL_TIER)
    if not executor_id or not tier or status.get("phase") in _ENDED:
        return None
    address = _address(status.get("podIP"))
    runtime = _runtime(pod.get("spec") or {})
    return Target(
        uid=metadata["uid"],
        name=metadata["name"],
        address=address,
        executor_id=executor_id,
        key_id=annotations.get(names.ANNOTATION_KEY_ID, ""),
        tier=tier,
        template_hash=annotations.get(names.ANNOTATION_TEMPLATE_HASH, ""),
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        ready=bool(address) and not metadata.get("deletionTimestamp") and _is_ready(status),
        isolation=weaker_of(
            _isolation(pod.get("spec") or {}, runtime), annotations.get(names.ANNOTATION_ISOLATION, "")
        ),
        runtime=runtime,
        pool_uid=labels.get(names.LABEL_POOL_UID, ""),
    )


def _runtime(spec: Mapping[str, Any]) -> Runtime:
    """Return what its runner was started as; the operator's builder says so in the environment."""
    variables = [one for container in spec.get("containers") or () for one in container.get("env") or ()]
    is_monty = {"name": protocol.ENV_RUNTIME, "value": Runtime.MONTY} in variables
    return Runtime.MONTY if is_monty else Runtime.PYTHON


def _isolation(spec: Mapping[str, Any], runtime: Runtime) -> Isolation:
    """Return how an executor is isolated, as `core.isolation` ranks the tier that it would be made of now."""
    if runtime is Runtime.MONTY:
        return Isolation.INTERPRETER
    if spec.get("runtimeClassName"):
        return Isolation.SANDBOXED
    return Isolation.USER_NAMESPACE if spec.get("hostUsers") is False else Isolation.CONTAINER


def _is_ready(status: Mapping[str, Any]) -> bool:
    conditions = status.get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def _address(value: object) -> str:
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        return ""
