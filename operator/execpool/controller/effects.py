"""The writes of a plan: each action to its provider or to the pool itself, failures remembered for their back-off.

One failure does not stop the rest, except where the rest stands on it: without finalizer or network policies, no
executor is created. A fence that closes under a write ends the pass.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from execpool.api.names import FINALIZER
from execpool.controller.pools import as_written
from execpool.core.actions import (
    Action,
    AddFinalizer,
    ApplyPolicies,
    CreateExecutors,
    Plan,
    ReleaseFinalizer,
    RemoveExecutor,
    RemovePolicies,
    RetireExecutor,
)
from execpool.core.backoff import backoff
from execpool.core.model import CreateFailure, Pool
from execpool.kube.client import Kube, Object
from execpool.kube.errors import FencedError, KubeError
from execpool.kube.kinds import POOLS
from execpool.providers.base import Provider, ProviderError, Retirement
from execpool.telemetry import metrics

log = logging.getLogger(__name__)

MOST_BACKOFF = 60.0
RETIRE_AT_ONCE = 16


@dataclass(frozen=True)
class Outcome:
    """What became of one action; `error` is None when it was carried out or had become unnecessary."""

    action: Action
    error: Exception | None = None


@dataclass(frozen=True)
class _Failed:
    """The latest failed creation of a tier, and how many there were in a row in this generation."""

    failure: CreateFailure
    count: int
    generation: int


@dataclass
class Effects:
    """Carries plans out."""

    kube: Kube
    provider: Provider
    clock: Callable[[], float] = time.time
    _failures: dict[str, dict[str, _Failed]] = field(default_factory=dict)

    def failures_of(self, pool: Pool) -> Mapping[str, CreateFailure]:
        """Return the failed creations of a pool's generation that have not been followed by a good one, by tier."""
        known = self._failures.get(pool.uid, {})
        return {tier: failed.failure for tier, failed in known.items() if failed.generation == pool.generation}

    def forget(self, uid: str) -> None:
        """Drop what is remembered of a pool that is gone."""
        self._failures.pop(uid, None)

    def forgive(self, uid: str) -> None:
        """Drop the failed creations of a pool: what caused them is known to be over."""
        self._failures.pop(uid, None)

    async def apply(self, pool: Pool, decision: Plan) -> tuple[Pool, list[Outcome]]:
        """Carry a plan out. One failure does not stop the rest, except where the rest stands on it."""
        outcomes: list[Outcome] = []
        for action in decision.actions:
            if isinstance(action, AddFinalizer):
                pool = await self._patch_finalizers(pool, (*pool.finalizers, FINALIZER))
                outcomes.append(Outcome(action))
            elif isinstance(action, ApplyPolicies):
                outcomes.append(await self._apply_policies(pool, action))
        ends = [action for action in decision.actions if isinstance(action, RetireExecutor | RemoveExecutor)]
        outcomes += await self.end_executors(pool, ends)
        unprotected = any(isinstance(outcome.action, ApplyPolicies) and outcome.error for outcome in outcomes)
        for action in decision.actions:
            if isinstance(action, CreateExecutors) and unprotected:
                continue
            if isinstance(action, CreateExecutors):
                outcomes += await self._create_executors(pool, action)
            elif isinstance(action, RemovePolicies):
                await self.provider.remove_policies(pool)
                outcomes.append(Outcome(action))
            elif isinstance(action, ReleaseFinalizer):
                pool = await self._patch_finalizers(pool, tuple(name for name in pool.finalizers if name != FINALIZER))
                outcomes.append(Outcome(action))
                log.info("pool released", extra={"pool": pool.key})
        for outcome in outcomes:
            metrics.ACTIONS.labels(type(outcome.action).__name__, "Failed" if outcome.error else "Done").inc()
        return pool, outcomes

    async def _apply_policies(self, pool: Pool, action: ApplyPolicies) -> Outcome:
        try:
            await self.provider.apply_policies(pool)
        except FencedError:
            raise
        except KubeError as error:
            log.warning("network policies not applied", extra={"pool": pool.key, "error": str(error)})
            return Outcome(action, error)
        return Outcome(action)

    async def end_executors(self, pool: Pool, ends: Sequence[RetireExecutor | RemoveExecutor]) -> list[Outcome]:
        """Retire or remove executors, sixteen at a time."""
        gate = asyncio.Semaphore(RETIRE_AT_ONCE)
        return list(await asyncio.gather(*(self._end_executor(pool, action, gate) for action in ends)))

    async def _end_executor(
        self, pool: Pool, action: RetireExecutor | RemoveExecutor, gate: asyncio.Semaphore
    ) -> Outcome:
        fields = {"pool": pool.key, "executor": action.executor.name, "because": action.because.value}
        async with gate:
            try:
                if isinstance(action, RemoveExecutor):
                    await self.provider.remove(action.executor, pool.namespace)
                    log.info("executor removed", extra=fields)
                else:
                    answer = await self.provider.retire(pool, action.executor, action.expect)
                    level = logging.INFO if answer is Retirement.RETIRED else logging.DEBUG
                    log.log(level, "executor asked to retire", extra={**fields, "answer": answer.value})
            except FencedError:
                raise
            except (KubeError, ProviderError) as error:
                log.warning("executor not ended", extra={**fields, "error": str(error)})
                return Outcome(action, error)
        return Outcome(action)

    async def _create_executors(self, pool: Pool, action: CreateExecutors) -> list[Outcome]:
        """Create in batches of 1, 2, 4, ...: when the backend refuses, few requests were wasted on finding out."""
        tier = next(tier for tier in pool.spec.tiers if tier.name == action.tier)
        outcomes: list[Outcome] = []
        left, batch = action.count, 1
        while left > 0 and not any(outcome.error for outcome in outcomes):
            size = min(batch, left)
            results = await asyncio.gather(
                *(self.provider.create(pool, tier) for _ in range(size)), return_exceptions=True
            )
            for result in results:
                if isinstance(result, ProviderError):
                    self._remember_failure(pool, action.tier, result)
                    outcomes.append(Outcome(action, result))
                elif isinstance(result, BaseException):
                    raise result
                else:
                    log.info("executor created", extra={"pool": pool.key, "tier": action.tier, "executor": result})
                    outcomes.append(Outcome(action))
            left, batch = left - size, batch * 2
        if not any(outcome.error for outcome in outcomes):
            self._failures.get(pool.uid, {}).pop(action.tier, None)
        return outcomes

    def _remember_failure(self, pool: Pool, tier: str, error: ProviderError) -> None:
        known = self._failures.setdefault(pool.uid, {})
        last = known.get(tier)
        count = last.count + 1 if last is not None and last.generation == pool.generation else 1
        wait = backoff(count - 1, error.retry_after, MOST_BACKOFF)
        known[tier] = _Failed(CreateFailure(error.reason, str(error), self.clock() + wait), count, pool.generation)
        log.warning(
            "executor not created",
            extra={"pool": pool.key, "tier": tier, "reason": error.reason.value, "error": str(error)},
        )

    async def _patch_finalizers(self, pool: Pool, finalizers: Sequence[str]) -> Pool:
        patch: list[Object] = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": pool.resource_version},
            {"op": "add", "path": "/metadata/finalizers", "value": list(finalizers)},
        ]
        written = await self.kube.patch(POOLS, pool.namespace, pool.name, patch)
        return as_written(pool, written, pool.status)
