"""The one way to E2B for an account: what may be asked for now, and what answers taught.

Every call of every pool on the account goes through its desk, so the account's limits hold across all of them. A desk begins
with nothing: its bucket empty, its breaker closed, its records unread; and until it has been equipped with a spec and a
key, and has read the records, it lets nothing out.

    hold_for_record   may one more sandbox be planned?     account, namespace, template, breaker, number, money, pool's budgets
    hold_for_ask      may one be asked for at this moment?  the same, and the rate
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from execpool.api.e2b import E2BAccountSpec
from execpool.api.names import Reason
from execpool.core.breaker import Breaker, BreakerState, Seen
from execpool.core.learning import LearnedRate
from execpool.core.slots import LONG_TTL_SECONDS
from execpool.core.spending import cost
from execpool.providers.e2b.book import Book
from execpool.providers.e2b.client import E2BApi
from execpool.providers.e2b.errors import (
    AnsweredError,
    DeniedError,
    E2BError,
    FullError,
    GoneError,
    HeldBackError,
    PacedError,
    RefusedError,
    UnsentError,
)
from execpool.providers.e2b.holds import NOT_LOOKED, Hold, Watches
from execpool.providers.e2b.limits import Limits
from execpool.providers.e2b.pool_budgets import PoolBudgets
from execpool.providers.e2b.records import AccountName, Record
from execpool.providers.e2b.wire import Created, Listed
from execpool.telemetry import metrics

T = TypeVar("T")

RECENT_SECONDS = 60.0
PAUSE_SECONDS = 5.0
"""After a 429 that does not say for how long."""


@dataclass(frozen=True)
class Wish:
    """One more sandbox for a pool. The price is in nano-dollars per second."""

    pool_uid: str
    namespace: str
    tier: str
    template: str
    price: int


@dataclass
class Desk:
    """What may be asked of one account, and what is known of it."""

    name: AccountName
    watches: Watches = field(default_factory=Watches)
    book: Book = field(default_factory=Book)
    pools: PoolBudgets = field(default_factory=PoolBudgets)
    closed: Hold | None = NOT_LOOKED
    """Why nothing at all may be asked of the account; None while it may."""
    breaker: Breaker = field(default_factory=Breaker)
    denial: str = ""
    """E2B's words when it last refused the key; empty since it was accepted, or another one came."""
    foreign: int = 0
    """Sandboxes of others at the last sweep."""
    foreign_since: float | None = None
    """UNIX seconds since when every sweep has shown some; from the oldest of them at first. None while there are none."""
    asked_at: float = float("-inf")
    """When a pool last wanted to draw on it, by the steady clock."""
    turned_away: dict[str, Wish] = field(default_factory=dict)
    """What pools wanted and were refused, by their UID."""
    _recent: dict[str, deque[float]] = field(default_factory=lambda: {"Create": deque(), "TooMany": deque()})
    """When what was asked for, or answered so, in the last minute, by the steady clock."""
    _calls: LearnedRate = field(default_factory=LearnedRate)
    """For how long calls other than creations wait; their rate is far from E2B's limit (20,000 in 30 s)."""
    on_breaker: Callable[[], None] = lambda: None
    """Called when the breaker has changed its state."""
    _api: E2BApi | None = None
    _put_away: list[E2BApi] = field(default_factory=list)
    """Clients of earlier keys; calls may still be under way on them."""

    def __post_init__(self) -> None:
        self.limits = Limits(self.name, self.watches)

    # What it is equipped with

    def equip(self, spec: E2BAccountSpec, api: E2BApi) -> None:
        """Work with another client from now on: what was learned of the key before is void."""
        self.disarm(None)
        self.limits.spec, self._api = spec, api
        self.breaker, self.denial = Breaker(), ""

    def disarm(self, why: Hold | None) -> None:
        """Ask nothing of the account any more."""
        if self._api is not None:
            self._put_away.append(self._api)
        self._api, self.closed = None, why

    async def tidy(self) -> None:
        """Close the clients of earlier keys; nothing may be under way on them."""
        while self._put_away:
            await self._put_away.pop().close()

    async def close(self) -> None:
        """Close all connections."""
        self.disarm(NOT_LOOKED)
        await self.tidy()

    @property
    def is_equipped(self) -> bool:
        """True while there is a client."""
        return self._api is not None

    # May it?

    def hold_for_record(self, wish: Wish) -> Hold | None:
        """Return why no record may be written for one more sandbox; None when one may."""
        return (
            self.closed
            or self.limits.hold_of_namespace(wish.namespace)
            or self.hold_of_breaker()
            or self.limits.hold_of_template(wish.template)
            or self.limits.hold_of_number(self.book.planned())
            or self.limits.hold_of_money(cost(wish.price, LONG_TTL_SECONDS))
            or self.pools.hold_for_record(wish.pool_uid, wish.tier, wish.price)
        )

    def saw_foreign(self, started_at: Sequence[float]) -> None:
        """Note the sandboxes of others that a sweep has shown, by when each began."""
        self.foreign = len(started_at)
        oldest = min((self.watches.clock(), *started_at))
        self.foreign_since = None if not started_at else min(oldest, self.foreign_since or oldest)

    def turn_away(self, wish: Wish) -> None:
        """Note that a pool was refused, so that it is told when it would not be any more."""
        self.asked_at = self.watches.steady()
        self.turned_away[wish.pool_uid] = wish
        self.pools.deny(wish.pool_uid, wish.tier, wish.price)

    def admitted(self) -> list[str]:
        """Return the UIDs of pools that were refused and would not be now, and forget them."""
        pools = [uid for uid, wish in self.turned_away.items() if self.hold_for_record(wish) is None]
        for uid in pools:
            del self.turned_away[uid]
        return pools

    def hold_for_ask(self, record: Record) -> Hold | None:
        """Return why a record's sandbox may not be asked for now; None when it may. What it costs is reserved already."""
        return (
            self.closed
            or self.limits.hold_of_namespace(record.namespace)
            or self.hold_of_breaker()
            or self.limits.hold_of_template(record.spec.template)
            or self.limits.hold_of_number(self.book.sandboxes())
            or self.limits.hold_of_money(0)
            or self.pools.hold_for_ask(record)
            or self.limits.hold_of_rate()
        )

    def state(self) -> BreakerState:
        """Return the breaker's state."""
        return self.breaker.state(self.watches.steady())

    # Calls

    async def create(self, record: Record, tag: Mapping[str, str], seconds: int) -> Created:
        """Ask for a record's sandbox, which `hold_for_ask` has just allowed, and which the book counts already.

        Raises:
            E2BError: HeldBackError when the rate says no after all.
        """
        if (wait := self.pools.take(record)) > 0:
            raise HeldBackError(Reason.BUDGET_EXHAUSTED, "a budget of the pool paces creations", wait)
        if (wait := self.limits.take()) > 0:
            self.pools.give_back(record)
            raise HeldBackError(Reason.RATE_LIMITED, "creations are paced", wait)
        key = f"{record.uid}-{record.spec.attempt}"
        try:
            created = await self._call("Create", lambda api: api.create(record.spec.template, seconds, tag, key))
        except E2BError as error:
            if isinstance(error, AnsweredError | UnsentError):
                self.pools.give_back(record)  # nothing came of it; what E2B counts is the account's own rate
            # The one that was refused is counted, and is not there.
            self.limits.refused(record.spec.template, error, self.book.sandboxes() - 1)
            raise
        self.limits.came(self.book.sandboxes())
        return created

    async def connect(self, sandbox_id: str, seconds: int) -> Created:
        """Return the tokens of a sandbox that was found."""
        return await self._call("Connect", lambda api: api.connect(sandbox_id, seconds))

    async def listing(self, tag: Mapping[str, str]) -> tuple[Listed, ...]:
        """Return what carries a tag. The service's own filter is not relied on."""
        listed = await self._call("List", lambda api: api.list(tag))
        return tuple(one for one in listed if tag.items() <= one.tag.items())

    async def extend(self, sandbox_id: str, seconds: int) -> None:
        """Set a deadline."""
        await self._call("Extend", lambda api: api.extend(sandbox_id, seconds))

    async def kill(self, sandbox_id: str) -> None:
        """End a sandbox."""
        await self._call("Kill", lambda api: api.kill(sandbox_id))

    async def _call(self, name: str, work: Callable[[E2BApi], Awaitable[T]]) -> T:
        hold = self.closed or (self.hold_of_breaker() if name == "Create" else self.hold_of_calls())
        if hold is not None or self._api is None:
            hold = hold or NOT_LOOKED
            raise HeldBackError(hold.reason, hold.message, hold.seconds)
        self.breaker = self.breaker.asking(self.watches.steady())
        if name == "Create":
            self._note(name)
        try:
            result = await work(self._api)
        except E2BError as error:
            if isinstance(error, PacedError | FullError):
                self._note("TooMany")
            if isinstance(error, DeniedError):
                self.denial = str(error)
            elif isinstance(error, PacedError | FullError) and name != "Create":
                self._calls = self._calls.refused(1, _pause(error), self.watches.steady())
            self._tell(_seen(error))
            metrics.E2B_REQUESTS.labels(name, type(error).__name__.removesuffix("Error")).inc()
            raise
        metrics.E2B_REQUESTS.labels(name, "Done").inc()
        self.denial = ""
        self._tell(Seen.SUCCESS)
        return result

    def recent(self, what: str) -> int:
        """Return how often it was in the last minute: `Create`, or `TooMany` for answers 429."""
        times = self._recent[what]
        while times and times[0] <= self.watches.steady() - RECENT_SECONDS:
            times.popleft()
        return len(times)

    def _note(self, what: str) -> None:
        self._recent[what].append(self.watches.steady())
        self.recent(what)

    def _tell(self, seen: Seen) -> None:
        now = self.watches.steady()
        before, self.breaker = self.breaker.state(now), self.breaker.told(seen, now, self.watches.spread())
        metrics.tell_breaker((self.name.namespace, self.name.name), "Control", before, self.breaker.state(now), seen)
        if before != self.breaker.state(now):
            self.on_breaker()

    def hold_of_breaker(self) -> Hold | None:
        """Return why E2B is left alone after what it last answered; None when it is not."""
        wait = self.breaker.wait(self.watches.steady())
        if wait <= 0:
            return None
        if self.denial:
            spec = self.limits.spec
            secret = spec.credentials_secret if spec is not None else ""
            message = f"the key in Secret {secret} of namespace {self.name.namespace} is refused: {self.denial}"
            return Hold(Reason.CREDENTIAL_INVALID, message, wait)
        message = f"{self.breaker.failures} calls to E2B in a row have failed; the next one is a probe"
        return Hold(Reason.BREAKER_OPEN, message, wait)

    def hold_of_calls(self) -> Hold | None:
        """Return why no call other than a creation is made now: E2B limits those too, by themselves."""
        hold, wait = self.hold_of_breaker(), self._calls.wait(self.watches.steady())
        if hold is not None or wait <= 0:
            return hold
        return Hold(Reason.RATE_LIMITED, f"E2B lets account {self.name.key} make no calls for a while", wait)


def _pause(error: PacedError | FullError) -> float:
    return error.retry_after if isinstance(error, PacedError) else PAUSE_SECONDS


def _seen(error: E2BError) -> Seen:
    """Return what an error says about the service (table in core.breaker)."""
    if isinstance(error, DeniedError):
        return Seen.DENIED
    if isinstance(error, GoneError):
        return Seen.SUCCESS
    if isinstance(error, RefusedError):
        return Seen.SUCCESS if error.status == 409 else Seen.NEUTRAL
    return Seen.NEUTRAL if isinstance(error, PacedError | FullError) else Seen.FAILURE
