"""Tells the operator what is wanted: one Lease of this gateway, whose annotation holds claims and waiting by pool.

A second one holds figures of their use, which change all the time and go along whenever the Lease is written.
Renewed every `lease_seconds`, and within a second when what it says changes; never more often than once a second, however
fast claims come and go. This is the gateway's only write to Kubernetes, and never on the path of an execution: when it
fails it is logged and tried again, and executions go on.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from execpool.api import names
from execpool.kube.client import Kube
from execpool.kube.errors import ConflictError, KubeError, NotFoundError
from execpool.kube.kinds import LEASES
from execpool.settings import GatewaySettings

log = logging.getLogger(__name__)

COMPONENT = "gateway"
SHORTEST_SECONDS = 1.0
"""Least time between two writes."""
OUTSIDE_A_POD = GatewaySettings.model_fields["pod_uid"].default
LIFETIMES = 4
"""How many renewals may be missed before the operator takes this gateway for dead."""


class DemandPublisher:
    """Keeps the Lease.

    Args:
        kube: the API server.
        settings: names this gateway and its namespace.
        read: returns the annotation as of now.
        read_use: returns the figures as of now, which go along whenever the Lease is written.
    """

    def __init__(
        self, kube: Kube, settings: GatewaySettings, read: Callable[[], str], read_use: Callable[[], str] = lambda: "{}"
    ) -> None:
        self._kube = kube
        self._namespace = settings.namespace
        self._name = f"execpool-gateway-{settings.pod_name}"
        self._pod = settings.pod_name
        self._identity = settings.pod_uid
        self._interval = float(settings.lease_seconds)
        self._read = read
        self._read_use = read_use
        self._changed = asyncio.Event()
        self._told = ""
        self._uid = ""
        self._renewed = -1e9

    def notify(self) -> None:
        """Say that the demand may have changed. Cheap: called on the path of every execution."""
        self._changed.set()

    async def run(self) -> None:
        """Keep the Lease until cancelled."""
        while True:
            self._changed.clear()
            text = self._read()
            if text != self._told or time.monotonic() - self._renewed >= self._interval:
                await self._publish(text)
            await asyncio.sleep(SHORTEST_SECONDS)
            await self._change_or_renewal()

    async def close(self) -> None:
        """Delete the Lease: this gateway wants nothing any more."""
        if not self._uid:
            return
        uid, self._uid = self._uid, ""
        try:
            await self._kube.delete(LEASES, self._namespace, self._name, uid=uid)
        except NotFoundError:
            return
        except KubeError as error:
            log.warning("demand not withdrawn", extra={"lease": self._name, "error": str(error)})

    async def _change_or_renewal(self) -> None:
        try:
            async with asyncio.timeout(max(self._renewed + self._interval - time.monotonic(), 0)):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _publish(self, text: str) -> None:
        try:
            await self._write(text)
        except KubeError as error:
            log.warning("demand not published", extra={"lease": self._name, "error": str(error)})
        else:
            self._told = text
            self._renewed = time.monotonic()

    async def _write(self, text: str) -> None:
        if not self._uid:
            await self._create(text)
            return
        try:
            await self._patch(text)
        except NotFoundError:
            self._uid = ""
            await self._create(text)

    async def _create(self, text: str) -> None:
        body = self._body(text)
        body["metadata"] |= {"name": self._name, "labels": {names.LABEL_COMPONENT: COMPONENT}} | self._owned()
        body["spec"]["acquireTime"] = body["spec"]["renewTime"]
        try:
            created = await self._kube.create(LEASES, self._namespace, body)
        except ConflictError:  # a predecessor of this name left it
            created = await self._patch(text)
        self._uid = created["metadata"]["uid"]

    async def _patch(self, text: str) -> dict[str, Any]:
        return await self._kube.patch(LEASES, self._namespace, self._name, self._body(text))

    def _owned(self) -> dict[str, Any]:
        """Return what makes the Lease of a killed gateway go with its pod; nothing outside a pod."""
        if self._identity == OUTSIDE_A_POD:
            return {}
        return {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": self._pod, "uid": self._identity}]}

    def _body(self, text: str) -> dict[str, Any]:
        return {
            "metadata": {"annotations": {names.ANNOTATION_DEMAND: text, names.ANNOTATION_USE: self._read_use()}},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": round(LIFETIMES * self._interval),
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
