"""Writes down every execution, refusal and denial once: a metric and an audit line. Code appears as its digest only."""

import hashlib
import logging

from execpool.api.names import Refusal
from execpool.gateway.answers import Answer
from execpool.gateway.auth import Caller
from execpool.gateway.errors import GatewayError
from execpool.gateway.requests import Order
from execpool.telemetry.metrics import EXECUTIONS, OVERHEAD_SECONDS, REFUSALS, RUN_SECONDS, WAIT_SECONDS

audit = logging.getLogger("execpool.audit")


def record_execution(caller: Caller, order: Order, pool: tuple[str, str], answer: Answer) -> None:
    """Record how an admitted execution ended."""
    timings = answer.timings
    EXECUTIONS.labels(*pool, answer.tier, answer.status).inc()
    WAIT_SECONDS.labels(*pool).observe(timings.wait)
    RUN_SECONDS.labels(*pool).observe(timings.run)
    OVERHEAD_SECONDS.labels(*pool).observe(max(timings.total - timings.wait - timings.run, 0.0))
    audit.info(
        "execution",
        extra={
            **_who(caller, order),
            "execution": answer.id,
            "pool": "/".join(pool),
            "tier": answer.tier,
            "executor": answer.executor,
            "outcome": answer.status,
            "reason": answer.reason,
            "wait_seconds": round(timings.wait, 6),
            "run_seconds": round(timings.run, 6),
            "total_seconds": round(timings.total, 6),
        },
    )


def record_refusal(error: GatewayError, caller: Caller | None, order: Order | None) -> None:
    """Record a request that was not run. Without a caller it is a denial."""
    REFUSALS.labels(error.refusal).inc()
    denied = error.refusal is Refusal.UNAUTHENTICATED
    who = {} if caller is None else _who(caller, order)
    extra = {**error.facts, **who, "reason": error.refusal, "detail": error.sentence}
    audit.info("denial" if denied else "refusal", extra={"pool": order.pool if order else None, **extra})


def _who(caller: Caller, order: Order | None) -> dict[str, str]:
    who = {"namespace": caller.namespace, "tenant": caller.tenant, "key": caller.key}
    if order is not None:
        who |= {"user": order.user, "code_sha256": hashlib.sha256(order.code.encode()).hexdigest()}
    return who
