"""Reads an executor out of the record of an E2B sandbox. What is not one for us is None.

The address and the tokens come from the sealed part alone, which only the operator can write, bound to this record and this
sandbox. Everything else in a record could have been written by somebody else, and says only who holds it, and until when.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from execpool.api import names
from execpool.api.e2b import E2BSandboxSpec, E2BSandboxStatus, SandboxPhase
from execpool.api.names import Isolation
from execpool.core.claiming import SandboxRecord, Target
from execpool.core.proof import KeyRing
from execpool.core.sealing import SandboxAccess, SealError, unseal

log = logging.getLogger(__name__)


class Records:
    """Reads records. What is wrong with one is logged once, not each time that its deadline is renewed.

    Args:
        keys: open what is sealed in a record.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self._told: set[str] = set()

    def forget(self, uid: str) -> None:
        """Drop what is known of a record that is gone."""
        self._told.discard(uid)

    def target_of(self, wire: Mapping[str, Any]) -> Target | None:
        """Return the executor that a record stands for; None while, or since, there is none that can be reached."""
        metadata = wire["metadata"]
        try:
            spec = E2BSandboxSpec.read(wire.get("spec") or {})
            status = E2BSandboxStatus.read(wire.get("status") or {})
            if not _has_sandbox(status):
                return None
            access = unseal(self._keys, metadata["uid"], status.sandbox_id, status.sealed_tokens)
        except (ValidationError, SealError) as error:
            self._tell(metadata, error)
            return None
        return _target(metadata, spec, _record(metadata, spec, status, access))

    def _tell(self, metadata: Mapping[str, Any], error: Exception) -> None:
        if metadata["uid"] not in self._told:
            self._told.add(metadata["uid"])
            log.error("record not used", extra={"record": metadata["name"], "error": str(error)[:300]})


def _has_sandbox(status: E2BSandboxStatus) -> bool:
    """True when it is warm, or claimed by somebody who is named."""
    in_use = status.phase is (SandboxPhase.READY if status.claim is None else SandboxPhase.CLAIMED)
    return in_use and status.expires_at is not None


def _target(metadata: Mapping[str, Any], spec: E2BSandboxSpec, record: SandboxRecord) -> Target:
    return Target(
        uid=metadata["uid"],
        name=metadata["name"],
        address="",
        executor_id="",
        key_id="",
        tier=spec.tier,
        template_hash=spec.template_hash,
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        ready=not metadata.get("deletionTimestamp"),
        isolation=Isolation.MICRO_VM,
        pool_uid=(metadata.get("labels") or {}).get(names.LABEL_POOL_UID, ""),
        record=record,
    )


def _record(
    metadata: Mapping[str, Any], spec: E2BSandboxSpec, status: E2BSandboxStatus, access: SandboxAccess
) -> SandboxRecord:
    claim = status.claim
    return SandboxRecord(
        namespace=metadata["namespace"],
        resource_version=metadata["resourceVersion"],
        account=(spec.account.namespace or metadata["namespace"], spec.account.name),
        access=access,
        expires_at=datetime.fromisoformat(str(status.expires_at)).timestamp(),
        principal=None if claim is None else claim.principal,
        gateway="" if claim is None else claim.gateway,
        epoch=0 if claim is None else claim.epoch,
    )
