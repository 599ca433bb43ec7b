"""What the gateways want, as last heard: the annotations of their Leases, without those of dead ones.

A gateway is judged dead only after its Lease has not changed for a whole lifetime of our own good reads; until then its
waiters count. Read through a Reflector of our own namespace rather than through kopf, which would watch the Leases of
the whole cluster and need the right to (docs/decisions.md, 4).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from execpool.api.names import ANNOTATION_DEMAND, ANNOTATION_USE
from execpool.core.demand import read_demand
from execpool.core.model import Demand, Use
from execpool.core.use import read_use
from execpool.kube.client import EventType, Object

GATEWAY_LEASES = "execpool.dev/component=gateway"
DEFAULT_LIFETIME = 60.0


@dataclass(frozen=True)
class _Heard:
    annotation: str
    use: str
    renewed: str
    at: float
    lifetime: float


@dataclass
class DemandBoard:
    """Demand by pool. `on_change` is called with what a gateway said before and says now, to wake the pools named."""

    on_change: Callable[[str, str], None]
    clock: Callable[[], float] = time.monotonic
    _heard: dict[str, _Heard] = field(default_factory=dict)

    def hear(self, type_: EventType, lease: Object) -> None:
        """Take in one change of a gateway's Lease."""
        name = lease["metadata"]["name"]
        before = self._heard.pop(name, None)
        annotations = lease["metadata"].get("annotations") or {}
        annotation = annotations.get(ANNOTATION_DEMAND, "")
        if type_ is EventType.DELETED:
            annotation = ""
        else:
            spec = lease.get("spec") or {}
            lifetime = float(spec.get("leaseDurationSeconds") or DEFAULT_LIFETIME)
            self._heard[name] = _Heard(
                annotation, annotations.get(ANNOTATION_USE, ""), str(spec.get("renewTime")), self.clock(), lifetime
            )
        previous = before.annotation if before else ""
        if previous != annotation:
            self.on_change(previous, annotation)

    def of(self, pool: str) -> Demand:
        """Return the demand of one pool (`namespace/name`) over all living gateways."""
        return read_demand([heard.annotation for heard in self._living()], pool)

    def use_of(self, pool: str) -> Use | None:
        """Return what living gateways say of the executions of one pool; None when none speaks of it."""
        return read_use([heard.use for heard in self._living()], pool)

    def _living(self) -> list[_Heard]:
        now = self.clock()
        return [heard for heard in self._heard.values() if now - heard.at <= heard.lifetime]
