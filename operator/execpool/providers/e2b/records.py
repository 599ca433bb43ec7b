"""Records of sandboxes as objects of the API server: read, built and written.

Every write names the version that it was decided on, so that a claim, a retirement and a step of the driver never
overwrite each other: one of them is answered 409, reads again and decides again.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from execpool.api import names
from execpool.api.e2b import E2BSandboxSpec, E2BSandboxStatus, SandboxPhase
from execpool.api.names import FINALIZER_SANDBOX, Reason
from execpool.api.v1alpha1 import Tier, TierKind
from execpool.core.model import Claim, Executor, Phase, Pool
from execpool.core.slots import Slot
from execpool.core.times import format_time, parse_time
from execpool.kube.client import Kube, Object
from execpool.kube.errors import ConflictError, InvalidError, NotFoundError
from execpool.kube.kinds import SANDBOXES

PROFILE = 1
"""Part of every template hash: raise it when sandboxes are asked for in another way, and pools roll over."""

_PHASES = {
    SandboxPhase.INTENT: Phase.STARTING,
    SandboxPhase.READY: Phase.READY,
    SandboxPhase.CLAIMED: Phase.CLAIMED,
    SandboxPhase.TERMINATING: Phase.TERMINATING,
    SandboxPhase.LOST: Phase.ENDED,
}


@dataclass(frozen=True, order=True)
class AccountName:
    """Which account."""

    namespace: str
    name: str

    @property
    def key(self) -> str:
        """`namespace/name`, for logs."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Trouble:
    """Why a record has no sandbox yet."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Record:
    """One record as read from the API server."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    pool_uid: str
    spec: E2BSandboxSpec
    status: E2BSandboxStatus
    finalizers: tuple[str, ...] = ()
    is_deleted: bool = False

    @property
    def key(self) -> str:
        """`namespace/name`, for logs."""
        return f"{self.namespace}/{self.name}"

    @property
    def account(self) -> AccountName:
        """The account that it draws on."""
        return AccountName(self.spec.account.namespace or self.namespace, self.spec.account.name)

    @property
    def slot(self) -> Slot:
        """The record as decisions have it. One that somebody deletes is to end, whatever it says."""
        phase = SandboxPhase.TERMINATING if self.is_deleted else self.status.phase
        return Slot(
            uid=self.uid,
            phase=phase,
            attempt=self.spec.attempt,
            attempt_at=parse_time(self.spec.attempt_at),
            sandbox_id=self.status.sandbox_id,
            expires_at=parse_time(self.status.expires_at) if self.status.expires_at else 0.0,
        )


def read_record(wire: Object) -> Record:
    """Return a record as read from the API server. Raises pydantic.ValidationError and ValueError."""
    metadata = wire["metadata"]
    return Record(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        pool_uid=(metadata.get("labels") or {}).get(names.LABEL_POOL_UID, ""),
        spec=E2BSandboxSpec.read(wire["spec"]),
        status=E2BSandboxStatus.read(wire.get("status") or {}),
        finalizers=tuple(metadata.get("finalizers") or ()),
        is_deleted=bool(metadata.get("deletionTimestamp")),
    )


def read_records(items: Iterable[Object]) -> tuple[list[Record], int]:
    """Return the records that can be read, and how many cannot."""
    records, unreadable = [], 0
    for item in items:
        try:
            record = read_record(item)
            _ = record.slot
        except (ValidationError, ValueError):
            unreadable += 1
        else:
            records.append(record)
    return records, unreadable


def account_of(pool: Pool, tier: Tier) -> AccountName:
    """Return the account that a tier draws on."""
    ref = tier.as_e2b().account_ref
    return AccountName(ref.namespace or pool.namespace, ref.name)


def template_hash(tier: Tier) -> str:
    """Return the hash of everything in a tier that changes what its sandboxes are."""
    e2b = tier.as_e2b()
    material = {"profile": PROFILE, "account": e2b.account_ref.wire(), "template": e2b.template}
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()[:16]


def make_record(pool: Pool, tier: Tier, name: str, now: float) -> Object:
    """Build the record of a sandbox that has not been asked for. It carries no ownerReference (docs/decisions.md, 3)."""
    e2b = tier.as_e2b()
    spec = E2BSandboxSpec(
        pool=pool.name,
        tier=tier.name,
        account=e2b.account_ref,
        template=e2b.template,
        template_hash=template_hash(tier),
        vcpus=e2b.vcpus,
        memory_mib=e2b.memory_mib,
        attempt=1,
        attempt_at=format_time(now),
    )
    labels = {
        "app.kubernetes.io/managed-by": names.MANAGED_BY,
        names.LABEL_POOL: pool.name,
        names.LABEL_POOL_UID: pool.uid,
        names.LABEL_TIER: tier.name,
    }
    metadata = {"name": name, "namespace": pool.namespace, "labels": labels, "finalizers": [FINALIZER_SANDBOX]}
    return {"metadata": metadata, "spec": spec.wire()}


def executor_of(record: Record, now: float, trouble: Trouble | None = None) -> Executor:
    """Return the executor that a record stands for.

    Nothing here knows whether a claimed one is busy, so it counts as busy: the gateway that holds it ends it when it is idle.
    """
    slot, held = record.slot, record.status.claim
    phase = _PHASES[slot.phase]
    claim = None
    if held is not None and phase is Phase.CLAIMED:
        seconds = max(now - parse_time(held.claimed_at), 0.0)
        claim = Claim(held.principal, held.epoch, held_seconds=seconds, idle_seconds=0.0, running=1)
    told = trouble if phase is Phase.STARTING else None
    return Executor(
        name=record.name,
        uid=record.uid,
        tier=record.spec.tier,
        phase=phase,
        template_hash=record.spec.template_hash,
        created_at=slot.attempt_at,
        claim=claim,
        trouble=told.reason if told else None,
        message=told.message if told else "",
        kind=TierKind.E2B,
    )


@dataclass(frozen=True)
class RecordWriter:
    """The writes to records. All raise KubeError; ConflictError when the record is no longer as it was read."""

    kube: Kube

    async def read(self, record: Record) -> Record | None:
        """Read a record again; None when it is gone."""
        try:
            wire = await self.kube.get(SANDBOXES, record.namespace, record.name)
        except NotFoundError:
            return None
        return read_record(wire) if wire["metadata"]["uid"] == record.uid else None

    async def write_status(self, record: Record, **changes: Any) -> Record:
        """Change fields of a record's status, given by their names on the wire; None removes one."""
        body = {"metadata": {"resourceVersion": record.resource_version, "uid": record.uid}, "status": changes}
        written = await self.kube.patch(SANDBOXES, record.namespace, record.name, body, subresource="status")
        return read_record(written)

    async def write_attempt(self, record: Record, now: float) -> Record:
        """Begin the next attempt."""
        body = {
            "metadata": {"resourceVersion": record.resource_version, "uid": record.uid},
            "spec": {"attempt": record.spec.attempt + 1, "attemptAt": format_time(now)},
        }
        return read_record(await self.kube.patch(SANDBOXES, record.namespace, record.name, body))

    async def release(self, record: Record) -> None:
        """Let a record go: delete it, and take our finalizer off, which alone keeps it."""
        try:
            await self.kube.delete(SANDBOXES, record.namespace, record.name, uid=record.uid)
            current = await self.read(record)
            if current is not None and FINALIZER_SANDBOX in current.finalizers:
                left = [name for name in current.finalizers if name != FINALIZER_SANDBOX]
                patch: list[Object] = [
                    {"op": "test", "path": "/metadata/resourceVersion", "value": current.resource_version},
                    {"op": "add", "path": "/metadata/finalizers", "value": left},
                ]
                await self.kube.patch(SANDBOXES, record.namespace, record.name, patch)
        except NotFoundError:
            return
        except InvalidError as error:  # how a JSON patch says that its test failed
            raise ConflictError(409, "Conflict", error.message) from error
