"""Executors as pods: what a pod and its executor say is translated into a phase, and plans into writes.

The pod tells whether it starts and why not; the executor's `/state` tells whether somebody holds it. A pod is deleted
only after its executor agreed to retire, or could never have been claimed. Pods are created by POST with a name drawn
here, so that a retry after a lost answer meets its own first attempt as 409 (server-side apply would resurrect a pod
that somebody deleted).
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from execpool.api import names
from execpool.api.names import Reason
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus, Tier, TierKind
from execpool.core.model import Executor, Phase, Pool
from execpool.core.proof import KeyRing, RootKey
from execpool.kube.client import Kube, Object
from execpool.kube.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    OverloadedError,
    RefusedError,
    UnreachableError,
)
from execpool.kube.kinds import NETWORK_POLICIES, PODS
from execpool.kube.resources import (
    ExecutorIdentity,
    ExecutorProfile,
    make_executor_pod,
    make_network_policy,
    policy_name,
    template_hash,
)
from execpool.protocol import (
    Challenge,
    Expect,
    Proof,
    proof_holds,
    secret_hash,
)
from execpool.providers.base import ExhaustedError, ProviderError, RejectedError, Retirement, UnavailableError
from execpool.providers.control import Answer, Control, retirement
from execpool.providers.pod_phase import has_served, may_answer, translate

CONCURRENT_STATES = 32
CREATE_ATTEMPTS = 3


@dataclass(frozen=True)
class PodsProvider:
    """Makes and ends executor pods."""

    kube: Kube
    control: Control
    keys: KeyRing
    profile: ExecutorProfile
    control_namespace: str
    namespaces: tuple[str, ...] = ()
    draw_name: Callable[[], str] = lambda: secrets.token_hex(4)

    def template_hash(self, tier: Tier) -> str:
        return template_hash(tier, self.profile)

    async def observe(self, pool: Pool) -> tuple[Executor, ...]:
        listing = await self.kube.list(PODS, pool.namespace, labels=f"{names.LABEL_POOL_UID}={pool.uid}")
        gate = asyncio.Semaphore(CONCURRENT_STATES)
        return tuple(await asyncio.gather(*(self._look_at(pod, gate) for pod in listing.items)))

    async def create(self, pool: Pool, tier: Tier) -> str:
        executor_id = secrets.token_hex(16)
        key = self.keys.current
        identity = ExecutorIdentity(
            name=f"{pool.name[:200]}-{tier.name}-{self.draw_name()}",
            executor_id=executor_id,
            secret_hash=secret_hash(key.claim_secret(pool.uid, executor_id)),
            key_id=key.key_id,
        )
        pod = make_executor_pod(pool, tier, self.profile, identity)
        for attempt in range(CREATE_ATTEMPTS):
            try:
                await self.kube.create(PODS, pool.namespace, pod)
            except ConflictError as error:
                if error.reason == "AlreadyExists" and attempt > 0:
                    return identity.name
                raise UnavailableError(f"pod {identity.name}: {error.message}") from error
            except UnreachableError as error:
                if attempt + 1 == CREATE_ATTEMPTS:
                    raise UnavailableError(f"the API server did not answer a creation: {error}") from error
            except RefusedError as error:
                raise _creation_error(error) from error
            else:
                break
        return identity.name

    async def retire(self, pool: Pool, executor: Executor, expect: Expect) -> Retirement:
        try:
            pod = await self.kube.get(PODS, pool.namespace, executor.name)
        except NotFoundError:
            return Retirement.GONE
        if pod["metadata"]["uid"] != executor.uid:
            return Retirement.GONE
        answer = await self._ask_to_retire(pool, pod, executor, expect)
        if answer is Answer.NO:
            return Retirement.HELD
        # One whose root key is rotated out can be asked by nobody and claimed by nobody: what was warm stays so.
        orphaned = self._key_of(pod) is None and executor.phase is Phase.READY
        if answer is Answer.NONE and has_served(pod) and not orphaned:
            return Retirement.UNREACHABLE
        await self.remove(executor, pool.namespace)
        return Retirement.RETIRED

    async def remove(self, executor: Executor, namespace: str) -> None:
        try:
            await self.kube.delete(PODS, namespace, executor.name, uid=executor.uid)
        except (NotFoundError, ConflictError):
            return  # gone, or another pod has taken the name since

    async def policies_current(self, pool: Pool) -> bool:
        if _dropped_tiers(pool):
            return False
        found = await asyncio.gather(*(self._policy(pool, wanted["metadata"]["name"]) for wanted in self._wanted(pool)))
        return all(
            policy is not None and _compact(policy["spec"]) == _compact(wanted["spec"])
            for policy, wanted in zip(found, self._wanted(pool), strict=True)
        )

    async def apply_policies(self, pool: Pool) -> None:
        # Written first and read only on conflict: a second LIST within 100 ms of a write waits for the API server's cache,
        # and this stands between a new pool and its first executor.
        for wanted in self._wanted(pool):
            name = wanted["metadata"]["name"]
            try:
                await self.kube.create(NETWORK_POLICIES, pool.namespace, wanted)
            except ConflictError:
                replaced = [{"op": "replace", "path": "/spec", "value": wanted["spec"]}]
                await self.kube.patch(NETWORK_POLICIES, pool.namespace, name, replaced)
        for tier in _dropped_tiers(pool):
            policy = await self._policy(pool, policy_name(pool, tier))
            if policy is not None:
                await self._remove_policy(policy)

    async def remove_policies(self, pool: Pool) -> None:
        listing = await self.kube.list(NETWORK_POLICIES, pool.namespace, labels=f"{names.LABEL_POOL_UID}={pool.uid}")
        for policy in listing.items:
            await self._remove_policy(policy)

    async def stray_pools(self, known: Sequence[str]) -> tuple[Pool, ...]:
        scopes: tuple[str | None, ...] = self.namespaces or (None,)
        kinds = (PODS, NETWORK_POLICIES)
        listings = [
            await self.kube.list(kind, scope, labels=names.LABEL_POOL_UID) for kind in kinds for scope in scopes
        ]
        left = {
            (item["metadata"]["namespace"], labels[names.LABEL_POOL], labels[names.LABEL_POOL_UID])
            for listing in listings
            for item in listing.items
            # Labels are anybody's to write: what does not name a pool is none of ours.
            if (labels := item["metadata"]["labels"])[names.LABEL_POOL_UID] not in known
            and labels.get(names.LABEL_POOL)
        }
        return tuple(_vanished(*pool) for pool in sorted(left))

    async def _look_at(self, pod: Object, gate: asyncio.Semaphore) -> Executor:
        state = None
        if may_answer(pod):
            async with gate:
                state = await self.control.state(pod["status"]["podIP"])
        seen = translate(pod, state)
        return seen if self._key_of(pod) else replace(seen, template_hash="")

    async def _ask_to_retire(self, pool: Pool, pod: Object, executor: Executor, expect: Expect) -> Answer:
        address = pod.get("status", {}).get("podIP")
        metadata = pod["metadata"]
        key = self._key_of(pod)
        if not address or key is None:
            return Answer.NONE
        executor_id = metadata["labels"].get(names.LABEL_EXECUTOR_ID, "")
        secret = key.claim_secret(pool.uid, executor_id)
        challenge = Challenge(nonce=secrets.token_hex(16), pod_uid=metadata["uid"])
        proof = await self.control.prove(address, challenge)
        # A pod that merely wears an executor's labels must not be told that executor's secret.
        if proof is None or not _is_genuine(proof, secret, challenge, executor_id):
            return Answer.NONE
        epoch = executor.claim.epoch if executor.claim else 0
        return await self.control.retire(address, retirement(secret, expect, epoch))

    def _key_of(self, pod: Object) -> RootKey | None:
        return self.keys.named(pod["metadata"].get("annotations", {}).get(names.ANNOTATION_KEY_ID, ""))

    def _wanted(self, pool: Pool) -> list[Object]:
        return [
            make_network_policy(pool, tier, self.control_namespace)
            for tier in pool.spec.tiers
            if tier.kind is TierKind.PODS
        ]

    async def _policy(self, pool: Pool, name: str) -> Object | None:
        try:
            return await self.kube.get(NETWORK_POLICIES, pool.namespace, name)
        except NotFoundError:
            return None

    async def _remove_policy(self, policy: Object) -> None:
        metadata = policy["metadata"]
        with suppress(NotFoundError):
            await self.kube.delete(NETWORK_POLICIES, metadata["namespace"], metadata["name"], uid=metadata["uid"])


def _dropped_tiers(pool: Pool) -> frozenset[str]:
    """Return the tiers of pods that the last status knew and the spec no longer names, or names as another kind."""
    known = {tier.name for tier in pool.status.tiers if tier.kind == TierKind.PODS}
    return frozenset(known) - {tier.name for tier in pool.spec.tiers if tier.kind is TierKind.PODS}


def _is_genuine(proof: Proof, secret: str, challenge: Challenge, executor_id: str) -> bool:
    if not isinstance(proof.proof, str) or proof.executor_id != executor_id:
        return False
    return proof_holds(proof.proof, secret_hash(secret), challenge.nonce, challenge.pod_uid, executor_id)


def _compact(spec: Any) -> Any:
    """Drop empty lists and objects, which the API server drops too: `egress: []` comes back as nothing."""
    if isinstance(spec, dict):
        return {name: compact for name, value in spec.items() if (compact := _compact(value)) not in ([], {})}
    return [_compact(value) for value in spec] if isinstance(spec, list) else spec


def _creation_error(error: RefusedError) -> ProviderError:
    if isinstance(error, ForbiddenError) and error.is_young_namespace:
        return UnavailableError(error.message, retry_after=0.5)
    if isinstance(error, ForbiddenError) and error.is_quota:
        return ExhaustedError(error.message, reason=Reason.QUOTA_EXCEEDED, retry_after=10.0)
    if isinstance(error, ForbiddenError):
        return RejectedError(error.message, reason=Reason.FORBIDDEN, retry_after=30.0)
    if isinstance(error, InvalidError):
        return RejectedError(error.message, reason=Reason.INVALID_SPEC, retry_after=30.0)
    if isinstance(error, OverloadedError):
        return UnavailableError(error.message, retry_after=2.0)
    return UnavailableError(error.message)


def _vanished(namespace: str, name: str, uid: str) -> Pool:
    """Return a pool that no longer exists, as one that wants nothing: enough to retire what it left behind."""
    empty = ExecutionPoolSpec.model_construct(tiers=[])
    return Pool(namespace, name, uid, 0, "", empty, ExecutionPoolStatus())
