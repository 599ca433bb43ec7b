"""From a pool on the wire to the values that decisions are made of."""

from dataclasses import dataclass, replace
from datetime import datetime

from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.core.model import Pool
from execpool.kube.client import Object


@dataclass(frozen=True)
class PoolRef:
    """Which pool a task is about: by UID, so that a namesake created later is another pool."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> str:
        """`namespace/name`, as gateways name pools in their demand."""
        return f"{self.namespace}/{self.name}"


def ref_of(wire: Object) -> PoolRef:
    """Return which pool an object is."""
    metadata = wire["metadata"]
    return PoolRef(metadata["namespace"], metadata["name"], metadata["uid"])


def read_pool(wire: Object) -> Pool:
    """Return a pool as read from the API server. Raises pydantic.ValidationError when its spec makes no sense."""
    metadata = wire["metadata"]
    deleted = metadata.get("deletionTimestamp")
    return Pool(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=metadata["generation"],
        resource_version=metadata["resourceVersion"],
        spec=ExecutionPoolSpec.read(wire["spec"]),
        status=ExecutionPoolStatus.read(wire.get("status") or {}),
        finalizers=tuple(metadata.get("finalizers") or ()),
        deleted_at=datetime.fromisoformat(deleted).timestamp() if deleted else None,
    )


def as_written(pool: Pool, written: Object, status: ExecutionPoolStatus) -> Pool:
    """Return the pool as it is after one of our own writes, so that the next write knows the version to expect."""
    metadata = written["metadata"]
    return replace(
        pool,
        resource_version=metadata["resourceVersion"],
        status=status,
        finalizers=tuple(metadata.get("finalizers") or ()),
    )
