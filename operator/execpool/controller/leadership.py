"""Who may act: one operator at a time, by a Lease, with a fence that needs nobody else's clock.

The holder renews every 2 s and may write until 10 s after its last renewal was *sent*, by its own monotonic clock; the
Lease lives 15 s, so the next holder cannot start before the last one has stopped. A candidate judges a holder dead only
after it has itself seen the same Lease unchanged for a whole lifetime. Every acquiring compare-and-set raises the epoch,
also when a restarted process finds its own name (the pod's UID) in it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from execpool.api.names import ANNOTATION_EPOCH
from execpool.kube.client import Kube, Object
from execpool.kube.errors import ConflictError, KubeError, NotFoundError
from execpool.kube.kinds import LEASES

log = logging.getLogger(__name__)

LEASE_NAME = "execpool-operator"
SAFETY_SHARE = 2 / 3
"""Share of the Lease's lifetime within which effects may start."""


@dataclass
class Leadership:
    """One candidate for the operator's Lease.

    `kube` must be a client without a fence of its own: this is what the fence stands on.
    """

    kube: Kube
    namespace: str
    identity: str
    lease_seconds: float = 15.0
    renew_seconds: float = 2.0
    clock: Callable[[], float] = time.monotonic
    epoch: int = 0
    _deadline: float = 0.0
    _held: Object = field(default_factory=dict)
    _seen_version: str = ""
    _seen_at: float = 0.0

    def may_write(self) -> bool:
        """True while an effect may start."""
        return self.clock() < self._deadline

    async def acquire(self) -> int:
        """Wait until this candidate holds the Lease; return the new epoch."""
        while True:
            try:
                if await self._try_to_acquire():
                    log.info("lease acquired", extra={"epoch": self.epoch, "identity": self.identity})
                    return self.epoch
            except ConflictError:
                log.debug("another candidate wrote the lease first")
            except KubeError as error:
                log.warning("lease cannot be read or written", extra={"error": str(error)})
            await asyncio.sleep(self.renew_seconds / 2)

    async def hold(self) -> None:
        """Renew the Lease until it is lost: until the deadline passes, or somebody else is found in it."""
        while self.may_write():
            await asyncio.sleep(self.renew_seconds)
            sent = self.clock()
            try:
                self._held = await self.kube.patch(LEASES, self.namespace, LEASE_NAME, self._renewal(self._held))
            except (ConflictError, NotFoundError) as error:
                log.warning("lease lost", extra={"epoch": self.epoch, "error": str(error)})
                break
            except KubeError as error:
                log.warning("lease not renewed", extra={"epoch": self.epoch, "error": str(error)})
            else:
                self._deadline = sent + self.lease_seconds * SAFETY_SHARE
        self._deadline = 0.0

    async def release(self) -> None:
        """Give the Lease up, so that the next candidate need not wait; best effort."""
        self._deadline = 0.0
        if not self._held:
            return
        vacated = {"metadata": _version(self._held), "spec": {"holderIdentity": "", "renewTime": _micro_time()}}
        try:
            await self.kube.patch(LEASES, self.namespace, LEASE_NAME, vacated)
        except KubeError as error:
            log.info("lease not released", extra={"error": str(error)})
        self._held = {}

    async def _try_to_acquire(self) -> bool:
        sent = self.clock()
        try:
            lease = await self.kube.get(LEASES, self.namespace, LEASE_NAME)
        except NotFoundError:
            # Epochs only ever rise: where none is on record, the wall clock is above all that were ever given.
            self._held = await self.kube.create(LEASES, self.namespace, self._first(int(time.time())))
        else:
            if not self._is_vacant(lease):
                return False
            sent = self.clock()
            taken = self._renewal(lease)
            taken["metadata"]["annotations"] = {ANNOTATION_EPOCH: str(_epoch(lease) + 1)}
            taken["spec"]["leaseTransitions"] = int(lease["spec"].get("leaseTransitions") or 0) + 1
            taken["spec"]["acquireTime"] = _micro_time()
            self._held = await self.kube.patch(LEASES, self.namespace, LEASE_NAME, taken)
        self.epoch = _epoch(self._held)
        self._deadline = sent + self.lease_seconds * SAFETY_SHARE
        return True

    def _is_vacant(self, lease: Object) -> bool:
        holder = lease["spec"].get("holderIdentity")
        if not holder or holder == self.identity:
            return True
        version = lease["metadata"]["resourceVersion"]
        if version != self._seen_version:
            self._seen_version, self._seen_at = version, self.clock()
        lifetime = float(lease["spec"].get("leaseDurationSeconds") or self.lease_seconds)
        return self.clock() - self._seen_at > lifetime

    def _first(self, epoch: int) -> Object:
        body = self._renewal({})
        body["metadata"] = {"name": LEASE_NAME, "annotations": {ANNOTATION_EPOCH: str(epoch)}}
        body["spec"] |= {"acquireTime": _micro_time(), "leaseTransitions": 0}
        return body

    def _renewal(self, lease: Object) -> Object:
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self.lease_seconds),
            "renewTime": _micro_time(),
        }
        return {"metadata": _version(lease), "spec": spec}


def _version(lease: Object) -> Object:
    return {"resourceVersion": lease["metadata"]["resourceVersion"]} if lease else {}


def _epoch(lease: Object) -> int:
    try:
        return int((lease["metadata"].get("annotations") or {}).get(ANNOTATION_EPOCH, 0))
    except ValueError:
        return int(time.time())


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
