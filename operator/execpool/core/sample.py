"""One look at one pool, as one readable line and as fields for programs. Pure.

    agents/agents  warm 3/3  claimed 2  running 1  waiting 0  warm hits 11/12 (92 %)  p50 wait 0.00 s  offloaded 4  refused 0
    account agents/main: 5/20 sandboxes, creates 2/min, 429s 0, spent $0.0123, reserved $0.0999  cost $0.27/h

(on one line). The gateway logs it and `execpool status` prints it, both from the same objects: the pool, its accounts, and
what gateways tell of its executions. Counts are of the last minute.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from execpool.api.e2b import E2BAccountSpec, E2BAccountStatus
from execpool.api.names import ConditionType
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus, Tier
from execpool.core.model import Use
from execpool.core.spending import dollars, price
from execpool.core.times import parse_time

MINUTE = 60.0


@dataclass(frozen=True)
class Account:
    """An account as it is read."""

    spec: E2BAccountSpec
    status: E2BAccountStatus


@dataclass(frozen=True)
class AccountSample:
    """Use of one account, by all that draw on it. Money is of its day, in micro-dollars."""

    name: str
    sandboxes: int
    sandboxes_limit: int
    creates: int
    too_many: int
    """Answers 429."""
    breaker: str
    spent: int
    reserved: int
    learned_creates: int | None = None
    """Per minute, where it is less than was declared."""
    executions: int | None = None
    """Executions per minute that are let through; None when no limit is known."""


@dataclass(frozen=True)
class Sample:
    """One look at one pool."""

    namespace: str
    pool: str
    warm: int
    warm_wanted: int
    claimed: int
    use: Use | None
    """None while no gateway tells."""
    accounts: tuple[AccountSample, ...]
    cost_per_hour: int
    """Of the sandboxes that there are now, in micro-dollars."""
    exhausted: tuple[str, ...] = ()
    """Names of budgets that hold something back."""
    is_bypassed: bool = False


def sample_of(
    key: tuple[str, str],
    spec: ExecutionPoolSpec,
    status: ExecutionPoolStatus,
    *,
    use: Use | None,
    accounts: Mapping[tuple[str, str], Account],
    now: float,
) -> Sample:
    """Return what is to be told of a pool (by namespace and name) at `now`, in UNIX seconds."""
    drawn = {_account_of(key[0], tier): None for tier in spec.tiers if tier.e2b is not None}
    in_use = next((one for one in status.conditions if one.type == ConditionType.POOL_IN_USE), None)
    return Sample(
        namespace=key[0],
        pool=key[1],
        warm=sum(tier.ready for tier in status.tiers),
        warm_wanted=sum(tier.desired for tier in status.tiers),
        claimed=sum(tier.claimed for tier in status.tiers),
        use=use,
        accounts=tuple(_account("/".join(name), accounts[name], now) for name in drawn if name in accounts),
        cost_per_hour=sum(_cost_per_hour(key[0], tier, status, accounts) for tier in spec.tiers),
        exhausted=tuple(one.name for one in status.budgets if one.message),
        is_bypassed=in_use is not None and in_use.status == "False",
    )


def line(sample: Sample) -> str:
    """Return a sample as people read it."""
    parts = [
        f"{sample.namespace}/{sample.pool}",
        f"warm {sample.warm}/{sample.warm_wanted}",
        f"claimed {sample.claimed}",
        *_traffic(sample.use),
        *(_of_account(account) for account in sample.accounts),
    ]
    if sample.accounts:
        parts.append(f"cost {dollars(sample.cost_per_hour)}/h")
    if sample.exhausted:
        parts.append(f"exhausted: {', '.join(sample.exhausted)}")
    if sample.is_bypassed:
        parts.append("something goes around the pool")
    return "  ".join(parts)


def fields(sample: Sample) -> dict[str, object]:
    """Return a sample as programs read it."""
    told = asdict(sample)
    use = told.pop("use") or {}
    for name in ("budgets", "last_at", "since"):
        use.pop(name, None)
    return told | use


def _traffic(use: Use | None) -> list[str]:
    if use is None:
        return ["no gateway tells of executions"]
    share = f" ({100 * use.warm_hits // use.executions} %)" if use.executions else ""
    return [
        f"running {use.running}",
        f"waiting {use.waiting}",
        f"warm hits {use.warm_hits}/{use.executions}{share}",
        f"p50 wait {use.wait_seconds:.2f} s",
        f"offloaded {use.offloaded}",
        f"refused {use.refused}",
    ]


def _of_account(account: AccountSample) -> str:
    said = [
        f"{account.sandboxes}/{account.sandboxes_limit} sandboxes",
        f"creates {account.creates}/min",
        f"429s {account.too_many}",
        f"spent {dollars(account.spent)}",
        f"reserved {dollars(account.reserved)}",
    ]
    if account.learned_creates is not None:
        said.insert(2, f"learned creates/min {account.learned_creates}")
    if account.executions is not None:
        said.insert(3, f"executions/min {account.executions}")
    if account.breaker not in ("", "Closed"):
        said.append(f"breaker {account.breaker}")
    return f"account {account.name}: {', '.join(said)}"


def _account_of(namespace: str, tier: Tier) -> tuple[str, str]:
    ref = tier.as_e2b().account_ref
    return (ref.namespace or namespace, ref.name)


def _account(name: str, account: Account, now: float) -> AccountSample:
    status, recent = account.status, account.status.recent
    is_recent = recent is not None and now - parse_time(recent.at) < MINUTE
    return AccountSample(
        name=name,
        sandboxes=status.sandboxes.ours + status.sandboxes.foreign,
        sandboxes_limit=account.spec.limit_of_sandboxes(),
        creates=recent.creates if recent is not None and is_recent else 0,
        too_many=recent.too_many if recent is not None and is_recent else 0,
        breaker=status.breaker,
        spent=status.spend.settled_micro_usd,
        reserved=status.spend.reserved_micro_usd,
        learned_creates=status.learned_limits.creates_per_minute,
        executions=account.spec.limits.executions_per_minute,
    )


def _cost_per_hour(
    namespace: str, tier: Tier, status: ExecutionPoolStatus, accounts: Mapping[tuple[str, str], Account]
) -> int:
    found = next((one for one in status.tiers if one.name == tier.name), None)
    account = accounts.get(_account_of(namespace, tier)) if tier.e2b is not None else None
    if found is None or account is None or tier.e2b is None:
        return 0
    there = found.ready + found.claimed + found.terminating
    return there * price(tier.e2b.vcpus, tier.e2b.memory_mib, account.spec.prices) * 3600 // 1000
