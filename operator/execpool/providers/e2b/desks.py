"""The desks of all accounts: the pools' provider and the accounts' own tasks meet here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from execpool.core.model import Backend, BudgetUse, Pool
from execpool.providers.e2b.book import Book, Stake
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.holds import Watches
from execpool.providers.e2b.pool_budgets import PoolBudgets
from execpool.providers.e2b.records import AccountName, account_of


@dataclass
class Desks:
    """All desks of one term, and the budgets of pools, which hold over them.

    Attributes:
        on_asked: told of an account that a pool wants to draw on.
        on_trouble: told the UID of a pool whose sandboxes are in other trouble than before.
        on_relief: told the UID of a pool that was refused a sandbox and would not be now.
    """

    watches: Watches = field(default_factory=Watches)
    on_asked: Callable[[AccountName], None] = lambda _name: None
    on_trouble: Callable[[str], None] = lambda _pool_uid: None
    on_relief: Callable[[str], None] = lambda _pool_uid: None
    _desks: dict[AccountName, Desk] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pools = PoolBudgets(self.watches, self._stakes)

    def of(self, name: AccountName) -> Desk:
        """Return the desk of an account, made when there is none."""
        if name not in self._desks:
            desk = self._desks[name] = Desk(name, self.watches, Book(self.on_trouble), self.pools)
            desk.on_breaker = lambda: self._tell_pools(desk)
        return self._desks[name]

    async def forget(self, name: AccountName) -> None:
        """Drop the desk of an account that is gone."""
        self.pools.forget(name)
        desk = self._desks.pop(name, None)
        if desk is not None:
            await desk.close()

    def budgets_of(self, pool: Pool) -> list[BudgetUse]:
        """Return how far the budgets of a pool that count sandboxes have been used."""
        return self.pools.use_of(pool.uid)

    def backends_of(self, pool: Pool) -> dict[str, Backend]:
        """Return, by tier, what is known of the account that it draws on."""
        found = {}
        for tier in pool.spec.tiers:
            if tier.e2b is not None:
                desk = self.of(account_of(pool, tier))
                found[tier.name] = Backend(desk.name.key, desk.state(), desk.foreign, desk.foreign_since)
        return found

    def _tell_pools(self, desk: Desk) -> None:
        """Let the pools that draw on an account look: their status says the state of its breaker."""
        for uid in {record.pool_uid for record in desk.book.records.values()}:
            self.on_trouble(uid)

    def _stakes(self) -> Iterator[Stake]:
        for desk in self._desks.values():
            yield from desk.book.stakes(desk.limits.price_of)

    async def close(self) -> None:
        """Close all connections."""
        for desk in self._desks.values():
            await desk.close()
