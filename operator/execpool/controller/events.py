"""Kubernetes events of a pool: on transitions only, deduplicated, with a budget per pool.

`transitions` is pure; the recorder writes `events.k8s.io/v1` objects and raises the count of a repeated one instead of
writing another. Losing an event is no error: conditions say the same.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from execpool.api.names import API_VERSION, ConditionType
from execpool.api.v1alpha1 import ExecutionPoolStatus
from execpool.core.model import Pool
from execpool.core.status import condition
from execpool.kube.client import Kube, Object
from execpool.kube.errors import KubeError, NotFoundError
from execpool.kube.kinds import EVENTS, POOLS

log = logging.getLogger(__name__)

CONTROLLER = "execpool.dev/operator"
BURST = 25
REFILL_SECONDS = 12.0
"""Twenty-five events at once, then one in twelve seconds, for each pool."""

_GOOD_WHEN = {
    ConditionType.READY: "True",
    ConditionType.WARM_POOL_FILLED: "True",
    ConditionType.TIERS_AVAILABLE: "True",
    ConditionType.STALLED: "False",
    ConditionType.BUDGET_AVAILABLE: "True",
    ConditionType.POOL_IN_USE: "True",
    ConditionType.ISOLATION_VERIFIED: "True",
}
_ONLY_TROUBLE = frozenset({ConditionType.BUDGET_AVAILABLE, ConditionType.POOL_IN_USE})
"""Told when they turn False, and when they turn back; that all is well from the start is no event."""
_QUIET = frozenset({"Filling", "Deleting", "MaxReached"})
"""Reasons of an ordinary way through, told as Normal."""


_EBB_AND_FLOW = frozenset({"Filling", "Filled", "MaxReached"})
"""Between these a pool under load changes with every claim: neither an event nor a hurried status write is due."""


@dataclass(frozen=True)
class Note:
    """One event to be."""

    type: str
    reason: str
    message: str
    action: str


def transitions(before: ExecutionPoolStatus, after: ExecutionPoolStatus) -> list[Note]:
    """Return a note for every condition whose status or reason changed, but for the ebb and flow of a busy warm pool."""
    notes = []
    for type_, good in _GOOD_WHEN.items():
        was, now = condition(before, type_), condition(after, type_)
        if now is None or (was is not None and (was.status, was.reason) == (now.status, now.reason)):
            continue
        if now.status == "Unknown" or (was is not None and {was.reason, now.reason} <= _EBB_AND_FLOW):
            continue
        if type_ in _ONLY_TROUBLE and now.status == good and (was is None or was.status != "False"):
            continue
        normal = now.status == good or now.reason in _QUIET
        notes.append(Note("Normal" if normal else "Warning", now.reason, now.message, type_))
    return notes


@dataclass
class EventRecorder:
    """Writes notes as events of a pool."""

    kube: Kube
    instance: str
    clock: Callable[[], float] = time.monotonic
    _names: dict[tuple[str, str, str], tuple[str, int]] = field(default_factory=dict)
    _spent: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def publish(self, pool: Pool, notes: Iterable[Note]) -> None:
        """Write the notes that the pool's budget allows."""
        for note in notes:
            if self._allowed(pool.uid):
                try:
                    await self._write(pool, note)
                except KubeError as error:
                    log.info("event not written", extra={"pool": pool.key, "reason": note.reason, "error": str(error)})

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a pool that is gone."""
        self._spent.pop(uid, None)
        for key in [key for key in self._names if key[0] == uid]:
            del self._names[key]

    async def _write(self, pool: Pool, note: Note) -> None:
        key = (pool.uid, note.reason, note.action)
        name, count = self._names.get(key, ("", 0))
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if name and await self._raise_count(pool, note, name, count + 1, now):
            self._names[key] = (name, count + 1)
            return
        name = f"{pool.name[:200]}.{secrets.token_hex(6)}"
        await self.kube.create(EVENTS, pool.namespace, self._event(pool, note, name, now))
        self._names[key] = (name, 1)

    async def _raise_count(self, pool: Pool, note: Note, name: str, count: int, now: str) -> bool:
        """Count a repeated event; False when its object has expired meanwhile."""
        series = {"series": {"count": count, "lastObservedTime": now}, "note": note.message[:1024]}
        try:
            await self.kube.patch(EVENTS, pool.namespace, name, series)
        except NotFoundError:
            return False
        return True

    def _event(self, pool: Pool, note: Note, name: str, now: str) -> Object:
        return {
            "metadata": {"name": name, "namespace": pool.namespace},
            "eventTime": now,
            "reportingController": CONTROLLER,
            "reportingInstance": self.instance,
            "action": note.action,
            "reason": note.reason,
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": POOLS.kind,
                "namespace": pool.namespace,
                "name": pool.name,
                "uid": pool.uid,
            },
            "note": note.message[:1024],
            "type": note.type,
        }

    def _allowed(self, uid: str) -> bool:
        now = self.clock()
        tokens, at = self._spent.get(uid, (float(BURST), now))
        tokens = min(BURST, tokens + (now - at) / REFILL_SECONDS)
        self._spent[uid] = (max(tokens - 1, 0.0) if tokens >= 1 else tokens, now)
        return tokens >= 1
