"""What gateways tell of the use of pools: an annotation on a gateway's Lease, beside its demand. Pure.

Figures change with every execution and wake nobody: they are written whenever the Lease is. Read from an object that others
could write: what does not parse is left out.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from execpool.core.model import BudgetUse, Use

_MOST = 10**12
_COUNTS = {
    "executions": "executions",
    "warmHits": "warm_hits",
    "offloaded": "offloaded",
    "refused": "refused",
    "waiting": "waiting",
    "running": "running",
}


def write_use(pools: Mapping[str, Use]) -> str:
    """Return the annotation for the pools (by `namespace/name`) that a gateway owns."""
    return json.dumps({key: _written(use) for key, use in sorted(pools.items())}, separators=(",", ":"))


def read_use(annotations: Iterable[str], pool: str) -> Use | None:
    """Return the use of one pool over the annotations of all living gateways; None when none speaks of it."""
    told = [_read(found) for text in annotations if (found := _object(_loaded(text).get(pool)))]
    if not told:
        return None
    total = told[0]
    for use in told[1:]:
        total = _together(total, use)
    return total


def _written(use: Use) -> dict[str, object]:
    budgets = {
        one.name: {"remaining": one.remaining, "limit": one.limit, "held": bool(one.exhausted)}
        | ({} if one.resets_at is None else {"resetsAt": round(one.resets_at)})
        for one in use.budgets
    }
    return {
        **{wire: getattr(use, name) for wire, name in _COUNTS.items()},
        "waitSeconds": round(use.wait_seconds, 3),
        "lastAt": round(use.last_at),
        "since": round(use.since),
        "budgets": budgets,
    }


def _read(told: dict[str, object]) -> Use:
    return Use(
        **{name: int(_number(told.get(wire))) for wire, name in _COUNTS.items()},
        wait_seconds=_number(told.get("waitSeconds")),
        last_at=_number(told.get("lastAt")),
        since=_number(told.get("since")),
        budgets=tuple(_budgets(_object(told.get("budgets")))),
    )


def _budgets(told: dict[str, object]) -> Iterator[BudgetUse]:
    for name, value in told.items():
        one = _object(value)
        resets_at = _number(one.get("resetsAt")) or None
        held = "held" if one.get("held") is True else ""
        yield BudgetUse(name, int(_number(one.get("limit"))), int(_number(one.get("remaining"))), resets_at, held)


def _together(one: Use, other: Use) -> Use:
    """Return what two gateways say together: a pool has one owner, so one of them speaks of the past."""
    counts = {name: getattr(one, name) + getattr(other, name) for name in _COUNTS.values()}
    newer = max(one, other, key=lambda use: (use.last_at, use.since))
    return replace(newer, **counts, since=min(one.since, other.since), last_at=newer.last_at)


def _loaded(annotation: str) -> dict[str, object]:
    try:
        return _object(json.loads(annotation))
    except (ValueError, RecursionError):
        return {}


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return min(max(float(value), 0.0), _MOST)
