"""The one way to E2B for an account: what may be asked for now, and what answers taught.

Every call of every pool on the account goes through its desk, so the account's limits hold across all of them. A desk begins
with nothing: its bucket empty, its breaker closed, its records unread; and until it has been equipped with a spec and a
key, and has read the records, it lets nothing out.

    hold_for_record   may one more sandbox be planned?     account, namespace, template, breaker, number, money
    hold_for_ask      may one be asked for at this moment?  the same, and the rate
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from execpool.api.e2b import E2BAccountSpec
from execpool.api.names import Reason
from execpool.core.breaker import Breaker, BreakerState, Seen
from execpool.core.budget import NANOSECONDS, Bucket, Rate, SpendWindow
from execpool.core.learning import LearnedNumber, LearnedRate
from execpool.core.slots import LONG_TTL_SECONDS
from execpool.core.spending import DAY_SECONDS, NO_LIMIT, cost, price
from execpool.providers.e2b.book import Book
from execpool.providers.e2b.client import E2BApi
from execpool.providers.e2b.errors import (
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
from execpool.providers.e2b.records import AccountName, Record
from execpool.providers.e2b.wire import Created, Listed
from execpool.telemetry import metrics

T = TypeVar("T")

PACE_PERCENT = 97
"""Share of the declared rate that is used: what leaves here evenly arrives a little less so, and would be refused."""
PAUSE_SECONDS = 5.0
"""After a 429 that does not say for how long."""
TEMPLATE_SECONDS = 60.0
"""A template that E2B refused is not asked for again before this."""


@dataclass
class Desk:
    """What may be asked of one account, and what is known of it."""

    name: AccountName
    watches: Watches = field(default_factory=Watches)
    book: Book = field(default_factory=Book)
    spec: E2BAccountSpec | None = None
    closed: Hold | None = NOT_LOOKED
    """Why nothing at all may be asked of the account; None while it may."""
    breaker: Breaker = field(default_factory=Breaker)
    rate: LearnedRate = field(default_factory=LearnedRate)
    number: LearnedNumber = field(default_factory=LearnedNumber)
    spend: SpendWindow = field(default_factory=lambda: SpendWindow(NO_LIMIT, DAY_SECONDS, 0))
    denial: str = ""
    """E2B's words when it last refused the key; empty since it was accepted, or another one came."""
    foreign: int = 0
    """Sandboxes of others at the last sweep."""
    asked_at: float = float("-inf")
    """When a pool last wanted to draw on it, by the steady clock."""
    turned_away: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Pools that wanted one more sandbox and were refused: by UID, their namespace, template and price."""
    _calls: LearnedRate = field(default_factory=LearnedRate)
    """For how long calls other than creations wait; their rate is far from E2B's limit (20,000 in 30 s)."""
    _api: E2BApi | None = None
    _put_away: list[E2BApi] = field(default_factory=list)
    """Clients of earlier keys; calls may still be under way on them."""
    _bucket: Bucket | None = None
    _templates: dict[str, Hold] = field(default_factory=dict)

    # What it is equipped with

    def equip(self, spec: E2BAccountSpec, api: E2BApi) -> None:
        """Work with another client from now on: what was learned of the key before is void."""
        self.disarm(None)
        self.spec, self._api = spec, api
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

    def hold_for_record(self, namespace: str, template: str, price_of_one: int) -> Hold | None:
        """Return why no record may be written for one more sandbox; None when one may."""
        return (
            self.closed
            or self._hold_of_namespace(namespace)
            or self.hold_of_breaker()
            or self._hold_of_template(template)
            or self._hold_of_number(self.book.planned())
            or self._hold_of_money(cost(price_of_one, LONG_TTL_SECONDS))
        )

    def turn_away(self, pool_uid: str, namespace: str, template: str, price_of_one: int) -> None:
        """Note that a pool was refused, so that it is told when it would not be any more."""
        self.asked_at = self.watches.steady()
        self.turned_away[pool_uid] = (namespace, template, price_of_one)

    def admitted(self) -> list[str]:
        """Return the UIDs of pools that were refused and would not be now, and forget them."""
        pools = [uid for uid, wanted in self.turned_away.items() if self.hold_for_record(*wanted) is None]
        for uid in pools:
            del self.turned_away[uid]
        return pools

    def hold_for_ask(self, record: Record) -> Hold | None:
        """Return why a record's sandbox may not be asked for now; None when it may. What it costs is reserved already."""
        return (
            self.closed
            or self._hold_of_namespace(record.namespace)
            or self.hold_of_breaker()
            or self._hold_of_template(record.spec.template)
            or self._hold_of_number(self.book.sandboxes())
            or self._hold_of_money(0)
            or self._hold_of_rate()
        )

    def is_allowed(self, namespace: str) -> bool:
        """True when pools of a namespace may draw on the account."""
        return namespace == self.name.namespace or (self.spec is not None and namespace in self.spec.allowed_namespaces)

    def most(self) -> int:
        """Return how many sandboxes of ours there may be now."""
        declared = self.spec.most_of_ours() if self.spec is not None else 0
        return self.number.most(declared, self.watches.steady())

    def price_of(self, record: Record) -> int:
        """Return what a record's sandbox costs, in nano-dollars per second."""
        return price(record.spec.vcpus, record.spec.memory_mib, self.spec.prices) if self.spec is not None else 0

    def reserve(self, amount: int, *, anyway: bool = False) -> bool:
        """Reserve micro-dollars; False when they are not left. `anyway` books them all the same."""
        reserved = self.spend.reserve(amount)
        if reserved is None and anyway:
            reserved = replace(self.spend, reserved=self.spend.reserved + amount)
        if reserved is None:
            return False
        self.spend = reserved
        return True

    def state(self) -> BreakerState:
        """Return the breaker's state."""
        return self.breaker.state(self.watches.steady())

    # Calls

    async def create(self, record: Record, tag: Mapping[str, str], seconds: int) -> Created:
        """Ask for a record's sandbox, which `hold_for_ask` has just allowed, and which the book counts already.

        Raises:
            E2BError: HeldBackError when the rate says no after all.
        """
        bucket = self._ready_bucket()
        if not bucket.take(self._now_ns()):
            raise HeldBackError(Reason.RATE_LIMITED, "too fast", bucket.wait(self._now_ns()) / NANOSECONDS)
        key = f"{record.uid}-{record.spec.attempt}"
        try:
            created = await self._call("Create", lambda api: api.create(record.spec.template, seconds, tag, key))
        except E2BError as error:
            self._refused(record, error, bucket)
            raise
        declared = self._per_minute()
        self.rate = self.rate.let_through(declared)
        if self.spec is not None:
            self.number = self.number.came(self.book.sandboxes(), self.spec.most_of_ours())
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
        try:
            result = await work(self._api)
        except E2BError as error:
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

    def _tell(self, seen: Seen) -> None:
        self.breaker = self.breaker.told(seen, self.watches.steady(), self.watches.spread())

    def _refused(self, record: Record, error: E2BError, bucket: Bucket) -> None:
        now = self.watches.steady()
        if isinstance(error, UnsentError):
            bucket.give_back()
        elif isinstance(error, PacedError):
            self.rate = self.rate.refused(self._per_minute(), error.retry_after, now)
        elif isinstance(error, FullError):
            # The one that was refused is among the records, and is not there.
            self.number = self.number.full(self.book.sandboxes() - 1, now)
        elif isinstance(error, GoneError | RefusedError):
            message = f"template {record.spec.template}: {error}"
            self._templates[record.spec.template] = Hold(
                Reason.TEMPLATE_REFUSED, message, self.watches.steady() + TEMPLATE_SECONDS
            )

    # Holds, one reason each

    def _hold_of_namespace(self, namespace: str) -> Hold | None:
        if self.is_allowed(namespace):
            return None
        message = f"account {self.name.key} does not allow namespace {namespace}; add it to spec.allowedNamespaces"
        return Hold(Reason.NOT_ALLOWED, message, 30.0)

    def hold_of_breaker(self) -> Hold | None:
        """Return why E2B is left alone after what it last answered; None when it is not."""
        wait = self.breaker.wait(self.watches.steady())
        if wait <= 0:
            return None
        if self.denial:
            secret = self.spec.credentials_secret if self.spec is not None else ""
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

    def _hold_of_template(self, template: str) -> Hold | None:
        refused = self._templates.get(template)
        if refused is None or refused.seconds <= self.watches.steady():
            return None
        return replace(refused, seconds=refused.seconds - self.watches.steady())

    def _hold_of_number(self, counted: int) -> Hold | None:
        most = self.most()
        if counted < most or self.spec is None:
            return None
        declared = self.spec.most_of_ours()
        told = f", of {declared} declared, since it said that it is full" if most < declared else ""
        message = f"account {self.name.key} has {counted} sandboxes of {most} for us{told}"
        return Hold(Reason.ACCOUNT_FULL, message, max(self.number.wait(self.watches.steady()), 5.0))

    def _hold_of_money(self, amount: int) -> Hold | None:
        if self.spend.left >= amount:
            return None
        message = (
            f"account {self.name.key} may spend {self.spend.limit} micro-dollars a day; {self.spend.settled} are spent and"
            f" {self.spend.reserved} reserved"
        )
        return Hold(Reason.BUDGET_EXHAUSTED, message, max(min(self.spend.end - self.watches.clock(), 60.0), 1.0))

    def _hold_of_rate(self) -> Hold | None:
        wait = max(self.rate.wait(self.watches.steady()), self._ready_bucket().wait(self._now_ns()) / NANOSECONDS)
        if wait <= 0:
            return None
        most = self.rate.most(self._per_minute())
        return Hold(Reason.RATE_LIMITED, f"account {self.name.key} lets {most} sandboxes a minute be created", wait)

    def _per_minute(self) -> int:
        creates = self.spec.limit_of_creates() if self.spec is not None else 1
        return max(creates * 60 * PACE_PERCENT // 100, 1)

    def _ready_bucket(self) -> Bucket:
        rate = Rate(self.rate.most(self._per_minute()), 60)
        now = self._now_ns()
        self._bucket = Bucket(rate, now) if self._bucket is None else self._bucket.renewed(rate, now)
        return self._bucket

    def _now_ns(self) -> int:
        return int(self.watches.steady() * NANOSECONDS)


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
