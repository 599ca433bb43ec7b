"""What gateways tell the operator: the annotation on a gateway's Lease, written and read here, so that it cannot differ.

The annotation is read from an object that others could write: whatever does not parse is no demand, never an error.
"""

import json
from collections.abc import Iterable, Mapping

from execpool.core.model import Demand

_MOST = 100_000


def write_demand(pools: Mapping[str, Demand]) -> str:
    """Return the annotation for the pools (by `namespace/name`) that a gateway owns; pools without demand are left out."""
    told = {
        key: {
            "waiting": {tier: count for tier, count in sorted(demand.waiting.items()) if count},
            "claims": demand.claims,
        }
        for key, demand in sorted(pools.items())
        if demand.claims or any(demand.waiting.values())
    }
    return json.dumps(told, separators=(",", ":"))


def read_demand(annotations: Iterable[str], pool: str) -> Demand:
    """Return the demand of one pool, added up over the annotations of all living gateways."""
    waiting: dict[str, int] = {}
    claims = 0
    for annotation in annotations:
        told = _object(_loaded(annotation).get(pool))
        claims += _count(told.get("claims"))
        for tier, count in _object(told.get("waiting")).items():
            waiting[tier] = waiting.get(tier, 0) + _count(count)
    return Demand(waiting, claims)


def pools_named(annotation: str) -> frozenset[str]:
    """Return the pools (`namespace/name`) that an annotation speaks about."""
    return frozenset(_loaded(annotation))


def _loaded(annotation: str) -> dict[str, object]:
    try:
        return _object(json.loads(annotation))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return min(max(value, 0), _MOST) if isinstance(value, int) and not isinstance(value, bool) else 0
