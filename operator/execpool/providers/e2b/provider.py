"""Executors as E2B sandboxes, for the pools: a record each, which the account's task brings to life and to its end.

`create` writes a record and nothing else; `retire` and `remove` change its phase. So a pool's reconcile never waits for E2B,
and who holds a sandbox is decided by the record's resourceVersion alone: a gateway's claim and a retirement are writes to
the same version, and one of them is refused.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from execpool.api import names
from execpool.api.e2b import SandboxPhase
from execpool.api.names import Reason
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus, Tier
from execpool.core.model import Executor, Pool
from execpool.core.proof import KeyRing
from execpool.core.sealing import key_id_of
from execpool.core.slots import LONG_TTL_SECONDS
from execpool.core.spending import Grant, cost, price
from execpool.kube.client import Kube
from execpool.kube.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnreachableError,
)
from execpool.kube.kinds import SANDBOXES
from execpool.protocol import Expect
from execpool.providers.base import ExhaustedError, ProviderError, RejectedError, Retirement, UnavailableError
from execpool.providers.e2b.addresses import is_e2bs_own
from execpool.providers.e2b.book import Stake
from execpool.providers.e2b.desk import Wish
from execpool.providers.e2b.desks import Desks
from execpool.providers.e2b.holds import Hold
from execpool.providers.e2b.records import (
    Record,
    account_of,
    executor_of,
    make_record,
    read_record,
    read_records,
    template_hash,
)

REMOVE_ATTEMPTS = 5
_EXHAUSTED = frozenset({Reason.ACCOUNT_FULL, Reason.BUDGET_EXHAUSTED, Reason.RATE_LIMITED})
_REJECTED = frozenset(
    {
        Reason.ACCOUNT_NOT_FOUND,
        Reason.NOT_ALLOWED,
        Reason.ENDPOINT_NOT_ALLOWED,
        Reason.CREDENTIAL_INVALID,
        Reason.FORBIDDEN,
        Reason.INVALID_SPEC,
        Reason.TEMPLATE_REFUSED,
    }
)
_WARM = (SandboxPhase.INTENT, SandboxPhase.READY)


@dataclass(frozen=True)
class E2BProvider:
    """Makes and ends records of sandboxes."""

    kube: Kube
    desks: Desks
    keys: KeyRing
    namespaces: tuple[str, ...] = ()
    draw_name: Callable[[], str] = lambda: secrets.token_hex(8)

    def template_hash(self, tier: Tier) -> str:
        return template_hash(tier)

    async def observe(self, pool: Pool) -> tuple[Executor, ...]:
        self.desks.pools.observe(pool)
        listing = await self.kube.list(SANDBOXES, pool.namespace, labels=f"{names.LABEL_POOL_UID}={pool.uid}")
        records, _ = read_records(listing.items)
        return tuple(self._executor(record) for record in records)

    async def create(self, pool: Pool, tier: Tier) -> str:
        account = account_of(pool, tier)
        desk = self.desks.of(account)
        e2b, now = tier.as_e2b(), self.desks.watches.clock()
        price_of_one = price(e2b.vcpus, e2b.memory_mib, desk.limits.spec.prices) if desk.limits.spec is not None else 0
        self.desks.pools.observe(pool)
        wish = Wish(pool.uid, pool.namespace, tier.name, e2b.template, price_of_one)
        hold = desk.hold_for_record(wish)
        if hold is not None:
            desk.turn_away(wish)
            self.desks.on_asked(account)
            raise _error_of(hold)
        name = f"{pool.name[:30]}-{tier.name[:12]}-{self.draw_name()}"
        key = f"{pool.namespace}/{name}"
        desk.limits.reserve(cost(price_of_one, LONG_TTL_SECONDS))  # counted from its record once that has been read
        desk.book.draft(key, Stake(pool.uid, tier.name, Grant(price_of_one, now, now + LONG_TTL_SECONDS)))
        try:
            await self.kube.create(SANDBOXES, pool.namespace, make_record(pool, tier, name, now))
        except UnreachableError as error:
            # It may be there all the same. Then it is read as one of which nothing is known, and looked for before it is asked for.
            desk.book.discard(key)
            raise UnavailableError(f"the API server did not answer a creation: {error}") from error
        except RefusedError as error:
            desk.book.discard(key)
            raise _refusal(error) from error
        self.desks.on_asked(account)
        return name

    async def retire(self, pool: Pool, executor: Executor, expect: Expect) -> Retirement:
        record = await self._read(pool.namespace, executor)
        if record is None or record.is_deleted or record.status.phase in (SandboxPhase.TERMINATING, SandboxPhase.LOST):
            return Retirement.GONE
        if not _is_as_expected(record, expect):
            return Retirement.HELD
        try:
            await self._end(record)
        except ConflictError:
            return Retirement.HELD
        except NotFoundError:
            return Retirement.GONE
        return Retirement.RETIRED

    async def remove(self, executor: Executor, namespace: str) -> None:
        for attempt in range(REMOVE_ATTEMPTS):
            record = await self._read(namespace, executor)
            if record is None or record.status.phase is SandboxPhase.TERMINATING:
                return
            try:
                await self._end(record)
            except NotFoundError:
                return
            except ConflictError:
                if attempt + 1 == REMOVE_ATTEMPTS:
                    raise
            else:
                return

    async def policies_current(self, pool: Pool) -> bool:  # noqa: ARG002 - sandboxes are in no network of ours
        return True

    async def apply_policies(self, pool: Pool) -> None:
        """Do nothing: sandboxes are in no network of ours."""

    async def remove_policies(self, pool: Pool) -> None:
        """Do nothing: sandboxes are in no network of ours."""

    async def stray_pools(self, known: Sequence[str]) -> tuple[Pool, ...]:
        scopes: tuple[str | None, ...] = self.namespaces or (None,)
        listings = [await self.kube.list(SANDBOXES, scope, labels=names.LABEL_POOL_UID) for scope in scopes]
        records, _ = read_records(item for listing in listings for item in listing.items)
        left = {(one.namespace, one.spec.pool, one.pool_uid) for one in records if one.pool_uid not in known}
        empty = ExecutionPoolSpec.model_construct(tiers=[])
        return tuple(Pool(*pool, 0, "", empty, ExecutionPoolStatus()) for pool in sorted(left))

    def _executor(self, record: Record) -> Executor:
        desk = self.desks.of(record.account)
        seen = executor_of(record, self.desks.watches.clock(), desk.book.trouble(record.uid))
        sealed = record.status.sealed_tokens
        if sealed and self.keys.named(key_id_of(sealed)) is None:
            seen = replace(seen, template_hash="")  # its root key has been rotated out: no gateway can open its tokens
        return replace(seen, emulated=desk.limits.spec is not None and not is_e2bs_own(desk.limits.spec.api_url))

    async def _read(self, namespace: str, executor: Executor) -> Record | None:
        try:
            wire = await self.kube.get(SANDBOXES, namespace, executor.name)
        except NotFoundError:
            return None
        return read_record(wire) if wire["metadata"]["uid"] == executor.uid else None

    async def _end(self, record: Record) -> None:
        body = {
            "metadata": {"resourceVersion": record.resource_version},
            "status": {"phase": SandboxPhase.TERMINATING},
        }
        await self.kube.patch(SANDBOXES, record.namespace, record.name, body, subresource="status")


def _is_as_expected(record: Record, expect: Expect) -> bool:
    """True when a record is as a retirement expects. Whether a claimed one is idle, no record says: so it is not."""
    if expect is Expect.WARM:
        return record.status.phase in _WARM and record.status.claim is None
    return expect is Expect.ANY


def _error_of(hold: Hold) -> ProviderError:
    kind: type[ProviderError] = UnavailableError
    if hold.reason in _EXHAUSTED:
        kind = ExhaustedError
    elif hold.reason in _REJECTED:
        kind = RejectedError
    return kind(hold.message, reason=hold.reason, retry_after=min(hold.seconds, 30.0))


def _refusal(error: RefusedError) -> ProviderError:
    if isinstance(error, ForbiddenError) and error.is_quota:
        return ExhaustedError(error.message, reason=Reason.QUOTA_EXCEEDED, retry_after=10.0)
    if isinstance(error, ForbiddenError):
        return RejectedError(error.message, reason=Reason.FORBIDDEN, retry_after=30.0)
    if isinstance(error, InvalidError):
        return RejectedError(error.message, reason=Reason.INVALID_SPEC, retry_after=30.0)
    return UnavailableError(error.message, retry_after=2.0)
