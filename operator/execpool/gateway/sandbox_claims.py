"""Who holds an E2B sandbox: compare-and-set at its record (DESIGN rule 3). One write to claim, one to end, none between.

    PATCH status {phase Claimed, claim} with the resourceVersion that was watched
        done        it is ours
        404, 409,   the record is read: ours after all (the answer was lost), somebody else's (TakenError), being ended
        no answer   (GoneError), or still free and only touched by the operator: once more, against the new version

A principal that holds a record already claims it again with a higher epoch: that is what a restarted gateway does.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from execpool.api.e2b import SandboxPhase
from execpool.core.claiming import SandboxRecord, Target
from execpool.gateway.executors import BusyError, ControlPlaneError, GoneError, TakenError
from execpool.gateway.sandboxes import Records
from execpool.kube.client import Kube, Object
from execpool.kube.errors import ConflictError, KubeError, NotFoundError, OverloadedError, UnreachableError
from execpool.kube.kinds import SANDBOXES

log = logging.getLogger(__name__)

TRIES = 4
"""Versions of a record that a claim is tried against: the operator renews deadlines in it."""


class SandboxClaims:
    """Claims and ends records.

    Args:
        kube: the API server.
        records: reads them.
        gateway: name of this gateway, as written into claims.
        now: UNIX seconds.
    """

    def __init__(self, kube: Kube, records: Records, gateway: str, now: Callable[[], float]) -> None:
        self._kube = kube
        self._records = records
        self._gateway = gateway
        self._now = now

    async def claim(self, target: Target, principal: str) -> int:
        """Claim a record for a principal and return the claim's epoch.

        Raises:
            TakenError: another principal holds it.
            GoneError: it is being ended, or its tokens do not open.
            BusyError: it changes all the time.
            ControlPlaneError: the API server does not answer; whether it was claimed will show.
        """
        for _ in range(TRIES):
            epoch = target.as_sandbox().epoch + 1
            if await self._write(target, principal, epoch):
                return epoch
            target = await self._read(target)
            record = target.as_sandbox()
            if record.principal == principal and record.gateway == self._gateway and record.epoch == epoch:
                return epoch
            _check_free(target, record, principal)
        raise BusyError(f"{target.name} changed {TRIES} times while it was being claimed")

    async def end(self, target: Target) -> None:
        """Delete a record, which makes the operator end its sandbox."""
        try:
            await self._kube.delete(SANDBOXES, target.as_sandbox().namespace, target.name, uid=target.uid)
        except NotFoundError:
            return
        except KubeError as error:
            raise ControlPlaneError(f"record {target.name} was not deleted: {error}") from error

    async def _write(self, target: Target, principal: str, epoch: int) -> bool:
        """Write a claim against the version that was read; False when it is not known to have been done."""
        record = target.as_sandbox()
        patch = {
            "metadata": {"resourceVersion": record.resource_version, "uid": target.uid},
            "status": {"phase": SandboxPhase.CLAIMED, "claim": self._claim(principal, epoch)},
        }
        try:
            await self._kube.patch(SANDBOXES, record.namespace, target.name, patch, subresource="status")
        except (ConflictError, NotFoundError, UnreachableError, OverloadedError) as error:
            log.info("claim to be looked up", extra={"record": target.name, "error": str(error)})
            return False
        except KubeError as error:
            raise ControlPlaneError(f"record {target.name} could not be claimed: {error}") from error
        return True

    async def _read(self, target: Target) -> Target:
        try:
            wire = await self._kube.get(SANDBOXES, target.as_sandbox().namespace, target.name)
        except NotFoundError as error:
            raise GoneError(f"record {target.name} is gone") from error
        except KubeError as error:
            raise ControlPlaneError(f"record {target.name} could not be read: {error}") from error
        found = self._records.target_of(wire) if wire["metadata"]["uid"] == target.uid else None
        if found is None:
            raise GoneError(f"record {target.name} has no sandbox for us any more")
        return found

    def _claim(self, principal: str, epoch: int) -> Object:
        at = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {"principal": principal, "gateway": self._gateway, "epoch": epoch, "claimedAt": at}


def _check_free(target: Target, record: SandboxRecord, principal: str) -> None:
    if not target.ready:
        raise GoneError(f"{target.name} is being ended")
    if record.principal not in (None, principal):
        raise TakenError(f"{target.name} serves another principal")
