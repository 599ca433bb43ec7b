"""What an account's round counts: the money of what has ended, and the gauges."""

from execpool.api.e2b import PoolSpend
from execpool.core.account_status import AccountView
from execpool.core.budget import SpendWindow
from execpool.core.spending import reserved_for, settled, spent_for
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.records import Record
from execpool.telemetry import metrics


def measure(desk: Desk, view: AccountView) -> None:
    """Set an account's gauges."""
    account = (desk.name.namespace, desk.name.name)
    metrics.ACCOUNT_SANDBOXES.labels(*account, "Ours").set(view.ours)
    metrics.ACCOUNT_SANDBOXES.labels(*account, "Foreign").set(view.foreign)
    metrics.ACCOUNT_SANDBOXES_LIMIT.labels(*account).set(desk.limits.most())
    metrics.ACCOUNT_CREATES_LIMIT.labels(*account).set(desk.limits.creates_per_minute())
    metrics.ACCOUNT_SPEND.labels(*account, "Settled").set(view.spend.settled / 1_000_000)
    metrics.ACCOUNT_SPEND.labels(*account, "Reserved").set(view.spend.reserved / 1_000_000)


def settle_all(desk: Desk, over: list[Record], now: float) -> tuple[SpendWindow, list[PoolSpend]]:
    """Return the account's money, and what its pools' budgets have spent, once these records are gone."""
    spend, entries = desk.limits.spend, desk.pools.to_keep(desk.name)
    for record in over:
        grant = desk.book.grant_of(record, desk.limits.price_of(record))
        ended = spent_for(grant, now, spend.start) if record.status.sandbox_id else 0
        spend = spend.settle(reserved_for(grant, spend.start), ended)
        if record.status.sandbox_id:
            entries = [settled(one, grant, now) if _is_of(one, record) else one for one in entries]
    return spend, entries


def _is_of(entry: PoolSpend, record: Record) -> bool:
    return entry.pool_uid == record.pool_uid and entry.tier in (None, record.spec.tier)
