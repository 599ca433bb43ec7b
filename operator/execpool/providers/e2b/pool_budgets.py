"""The budgets of pools that count sandboxes: what each pool may have, beside what its accounts allow.

One for all desks, since a pool may draw on several accounts and its budgets hold over them together. Each says itself why
it holds something back:

    resource        holds back                     while                                   after a restart
    --------------- ------------------------------ --------------------------------------- --------------------------------
    Creates         asking                         its bucket has none                     begins empty (core.budget)
    Sandboxes       a record, and asking           so many stand already, or will          counted from records
    SpendMicroUSD   a record, and more time        what is left does not pay for it        from records and accounts' statuses

Nothing is planned on money whose window is not in an account's status yet: what ended sandboxes cost is booked there, also
by an operator that has just started and has not seen the pool.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from execpool.api.budgets import CAPACITY, Budget, BudgetResource
from execpool.api.e2b import PoolSpend
from execpool.api.names import Reason
from execpool.core.budget import NANOSECONDS, Bucket, Rate, SpendWindow
from execpool.core.model import BudgetUse, Pool
from execpool.core.slots import LONG_TTL_SECONDS
from execpool.core.spending import cost, dollars, entry_of, is_counted, pool_window
from execpool.core.times import format_seconds
from execpool.providers.e2b.book import Stake
from execpool.providers.e2b.holds import Hold, Watches
from execpool.providers.e2b.records import AccountName, Record, account_of

SHORT_SECONDS = 10.0
"""A creation that a rate lets through this soon is on its way; nobody is told that it is held back."""
FORGET_SECONDS = 300.0
"""A pool that nobody has looked at for so long is gone."""
LONGEST_HOLD = 60.0
TOLD_SECONDS = 75.0
"""A budget is exhausted for so long after it last held back something; what is wanted is tried once a minute at least."""
MOST_KEPT = 512


@dataclass
class _Pool:
    """What is known of one pool."""

    key: str
    seen_at: float
    budgets: tuple[Budget, ...]
    accounts: dict[str, AccountName]
    """By tier."""
    prices: dict[str, int] = field(default_factory=dict)
    """Of the last sandbox that was wanted, by tier."""
    buckets: dict[str, Bucket] = field(default_factory=dict)
    denied: dict[str, float] = field(default_factory=dict)
    """When each budget last held back something that was wanted."""


@dataclass
class PoolBudgets:
    """All of them.

    Attributes:
        watches: where the time is read.
        stakes: returns what there is or is to be, on all accounts.
    """

    watches: Watches = field(default_factory=Watches)
    stakes: Callable[[], Iterable[Stake]] = lambda: ()
    _pools: dict[str, _Pool] = field(default_factory=dict)
    _kept: dict[AccountName, tuple[PoolSpend, ...]] = field(default_factory=dict)

    # What is known

    def observe(self, pool: Pool) -> None:
        """Take in what a pool declares. A budget that stays as it is goes on; a rate that changes begins empty."""
        now = self.watches.steady()
        budgets = tuple(budget for budget in pool.spec.budgets if budget.resource in CAPACITY)
        accounts = {tier.name: account_of(pool, tier) for tier in pool.spec.tiers if tier.e2b is not None}
        known = self._pools.setdefault(pool.uid, _Pool(pool.key, now, budgets, accounts))
        known.seen_at, known.budgets, known.accounts = now, budgets, accounts
        known.buckets = {
            one.name: known.buckets[one.name].renewed(_rate(one), self._now_ns())
            if one.name in known.buckets
            else Bucket(_rate(one), self._now_ns())
            for one in budgets
            if one.resource is BudgetResource.CREATES
        }

    def read(self, account: AccountName, kept: Sequence[PoolSpend]) -> None:
        """Take in what an account's status says that was spent."""
        self._kept[account] = tuple(kept)

    def forget(self, account: AccountName) -> None:
        """Drop what is known of an account that is gone."""
        self._kept.pop(account, None)

    def to_keep(self, account: AccountName) -> list[PoolSpend]:
        """Return the entries that an account's status should have: of the pools there are, and what is still counted."""
        now = self.watches.clock()
        for uid in [uid for uid, one in self._pools.items() if self.watches.steady() - one.seen_at > FORGET_SECONDS]:
            del self._pools[uid]
        stored = {(one.pool_uid, one.budget): one for one in self._kept.get(account, ())}
        declared = {
            (uid, budget.name): entry_of(stored.get((uid, budget.name)), uid, pool.key, budget, now)
            for uid, pool in self._pools.items()
            for budget in pool.budgets
            if budget.resource is BudgetResource.SPEND and account in self._counted(pool, budget)
        }
        staked = {stake.pool_uid for stake in self.stakes()}
        left = {
            key: one
            for key, one in stored.items()
            if key[0] not in self._pools and (key[0] in staked or is_counted(one, now))
        }
        entries = declared | left
        return [entries[key] for key in sorted(entries)][:MOST_KEPT]

    # May it?

    def hold_for_record(self, pool_uid: str, tier: str, price: int) -> Hold | None:
        """Return why no record may be written for one more sandbox of a pool; None when one may."""
        if (pool := self._pools.get(pool_uid)) is not None:
            pool.prices[tier] = price
        return self._first(pool_uid, tier, lambda budget: self._record_hold(pool_uid, budget, price))

    def hold_for_ask(self, record: Record) -> Hold | None:
        """Return why a record's sandbox may not be asked for now; None when it may."""
        if record.pool_uid not in self._pools:
            return Hold(Reason.ACCOUNT_AWAITED, "the operator has not looked at the pool yet", 0.5)
        hold = self._first(record.pool_uid, record.spec.tier, lambda budget: self._ask_hold(record, budget))
        if hold is not None:
            self.deny(record.pool_uid, record.spec.tier, 0)
        return hold

    def deny(self, pool_uid: str, tier: str, price: int) -> None:
        """Note which budgets hold back a sandbox that is wanted."""
        pool = self._pools.get(pool_uid)
        for budget in pool.budgets if pool is not None else ():
            if budget.counts(tier) and self._record_hold(pool_uid, budget, price) is not None:
                pool.denied[budget.name] = self.watches.steady()  # type: ignore[union-attr]

    def take(self, record: Record) -> float:
        """Take one creation from each bucket that counts a record; return 0, or the seconds until all have one."""
        buckets = list(self._buckets(record))
        now = self._now_ns()
        wait = max((bucket.wait(now) for bucket in buckets), default=0)
        if wait <= 0:
            for bucket in buckets:
                bucket.take(now)
        return wait / NANOSECONDS

    def give_back(self, record: Record) -> None:
        """Undo one `take`: nothing came of it."""
        for bucket in self._buckets(record):
            bucket.give_back()

    def short_of(self, record: Record, amount: int) -> str:
        """Return, in words, which budget of money does not leave so much for a record; empty when all do."""
        for name, limit, seconds, tier in self._spend_budgets(record.pool_uid):
            if tier in (None, record.spec.tier):
                window = self._window(record.pool_uid, name, limit, seconds, tier)
                if window.left < amount:
                    if (pool := self._pools.get(record.pool_uid)) is not None:
                        pool.denied[name] = self.watches.steady()
                    return (
                        f"of the {dollars(limit)} that budget {name} of its pool allows in {seconds} s nothing is left"
                    )
        return ""

    # What is told

    def use_of(self, pool_uid: str) -> list[BudgetUse]:
        """Return how far each budget of a pool has been used."""
        pool = self._pools.get(pool_uid)
        return [] if pool is None else [self._use(pool_uid, pool, budget) for budget in pool.budgets]

    def _use(self, pool_uid: str, pool: _Pool, budget: Budget) -> BudgetUse:
        hold = self._record_hold(pool_uid, budget, 0)
        recently = self.watches.steady() - pool.denied.get(budget.name, float("-inf")) < TOLD_SECONDS
        told = hold.message if hold is not None and recently else ""
        if budget.resource is BudgetResource.SANDBOXES:
            left = budget.limit - len(self._wanted(pool_uid, budget))
            return BudgetUse(budget.name, budget.limit, max(left, 0), None, told)
        if budget.resource is BudgetResource.SPEND:
            window = self._window_of(pool_uid, budget)
            return BudgetUse(budget.name, budget.limit, max(window.left, 0), float(window.end), told)
        bucket, now = pool.buckets[budget.name], self._now_ns()
        full = self.watches.clock() + max(bucket.full_at() - now, 0) / NANOSECONDS
        return BudgetUse(budget.name, budget.limit, bucket.remaining(now), full, told)

    # Holds, by resource

    def _first(self, pool_uid: str, tier: str, hold_of: Callable[[Budget], Hold | None]) -> Hold | None:
        pool = self._pools.get(pool_uid)
        if pool is None:
            return None
        for budget in pool.budgets:
            if budget.counts(tier) and (hold := hold_of(budget)) is not None:
                return hold
        return None

    def _record_hold(self, pool_uid: str, budget: Budget, price: int) -> Hold | None:
        if budget.resource is BudgetResource.SANDBOXES:
            return self._number_hold(budget, len(self._wanted(pool_uid, budget)))
        if budget.resource is BudgetResource.SPEND:
            return self._unopened(pool_uid, budget) or self._money_hold(pool_uid, budget, price)
        ahead = sum(stake.is_unsent and stake.is_wanted for stake in self._counted_stakes(pool_uid, budget.tier))
        return self._rate_hold(pool_uid, budget, ahead + 1, SHORT_SECONDS)

    def _ask_hold(self, record: Record, budget: Budget) -> Hold | None:
        if budget.resource is BudgetResource.SANDBOXES:
            asked = [stake for stake in self._wanted(record.pool_uid, budget) if not stake.is_unsent]
            return self._number_hold(budget, len(asked))
        if budget.resource is BudgetResource.SPEND:
            window = self._window_of(record.pool_uid, budget)
            return None if window.left >= 0 else self._spent(budget, window, 0)
        return self._rate_hold(record.pool_uid, budget, 1, 0.0)

    def _number_hold(self, budget: Budget, counted: int) -> Hold | None:
        if counted < budget.limit:
            return None
        message = f"budget {budget.name} allows {budget.limit} sandboxes at the same time, and there are {counted}"
        return Hold(Reason.BUDGET_EXHAUSTED, message, 5.0)

    def _rate_hold(self, pool_uid: str, budget: Budget, events: int, allowed: float) -> Hold | None:
        wait = self._pools[pool_uid].buckets[budget.name].wait(self._now_ns(), events) / NANOSECONDS
        if wait <= allowed:
            return None
        again = format_seconds(self.watches.clock() + wait + 1)
        message = (
            f"budget {budget.name} lets {budget.limit} sandboxes be created in {budget.seconds} s, {budget.burst or 1} at once;"
            f" the next one may be at {again}"
        )
        return Hold(Reason.BUDGET_EXHAUSTED, message, min(wait, LONGEST_HOLD))

    def _money_hold(self, pool_uid: str, budget: Budget, price: int) -> Hold | None:
        # Without a price (for the status): whether the cheapest of what was last wanted could be had.
        prices = [known for tier, known in self._pools[pool_uid].prices.items() if budget.counts(tier)]
        needed = cost(price or min(prices, default=0), LONG_TTL_SECONDS) or 1
        window = self._window_of(pool_uid, budget)
        return None if window.left >= needed else self._spent(budget, window, needed)

    def _spent(self, budget: Budget, window: SpendWindow, needed: int) -> Hold:
        message = (
            f"budget {budget.name} allows {dollars(budget.limit)} in {budget.seconds} s: {dollars(window.settled)} are spent and"
            f" {dollars(window.reserved)} reserved, and a sandbox reserves {dollars(needed)};"
            f" the next window begins at {format_seconds(window.end)}"
        )
        return Hold(Reason.BUDGET_EXHAUSTED, message, max(min(window.end - self.watches.clock(), LONGEST_HOLD), 1.0))

    def _unopened(self, pool_uid: str, budget: Budget) -> Hold | None:
        """Return why nothing may be planned on a budget yet: an account's status does not have its entry."""
        for account in self._counted(self._pools[pool_uid], budget):
            kept = self._kept.get(account)
            if kept is None or not any((one.pool_uid, one.budget) == (pool_uid, budget.name) for one in kept):
                message = f"budget {budget.name} is being entered into the status of account {account.key}"
                return Hold(Reason.ACCOUNT_AWAITED, message, 0.5)
        return None

    # Counting

    def _window_of(self, pool_uid: str, budget: Budget) -> SpendWindow:
        return self._window(pool_uid, budget.name, budget.limit, budget.seconds, budget.tier)

    def _window(self, pool_uid: str, name: str, limit: int, seconds: int, tier: str | None) -> SpendWindow:
        grants = [stake.grant for stake in self._counted_stakes(pool_uid, tier)]
        kept = [
            one for entries in self._kept.values() for one in entries if (one.pool_uid, one.budget) == (pool_uid, name)
        ]
        return pool_window(limit, seconds, kept, grants, self.watches.clock())

    def _spend_budgets(self, pool_uid: str) -> Iterator[tuple[str, int, int, str | None]]:
        """Yield name, limit, seconds and tier of a pool's budgets of money; as last written while nobody has seen the pool."""
        pool = self._pools.get(pool_uid)
        if pool is not None:
            for budget in pool.budgets:
                if budget.resource is BudgetResource.SPEND:
                    yield budget.name, budget.limit, budget.seconds, budget.tier
            return
        stored = {one.budget: one for entries in self._kept.values() for one in entries if one.pool_uid == pool_uid}
        for one in stored.values():
            yield one.budget, one.limit_micro_usd, one.window_seconds, one.tier

    def _counted_stakes(self, pool_uid: str, tier: str | None) -> list[Stake]:
        return [stake for stake in self.stakes() if stake.pool_uid == pool_uid and tier in (None, stake.tier)]

    def _wanted(self, pool_uid: str, budget: Budget) -> list[Stake]:
        return [stake for stake in self._counted_stakes(pool_uid, budget.tier) if stake.is_wanted]

    def _counted(self, pool: _Pool, budget: Budget) -> set[AccountName]:
        return {account for tier, account in pool.accounts.items() if budget.counts(tier)}

    def _buckets(self, record: Record) -> Iterator[Bucket]:
        pool = self._pools.get(record.pool_uid)
        for budget in pool.budgets if pool is not None else ():
            if budget.resource is BudgetResource.CREATES and budget.counts(record.spec.tier):
                yield pool.buckets[budget.name]  # type: ignore[union-attr]

    def _now_ns(self) -> int:
        return int(self.watches.steady() * NANOSECONDS)


def _rate(budget: Budget) -> Rate:
    return Rate(budget.limit, budget.seconds, budget.burst or 1)
