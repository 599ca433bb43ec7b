"""The one way to E2B for an account: what may be asked for now, and what answers taught.

Every call of every pool on the account goes through its desk, so the account's limits hold across all of them. A desk begins
with nothing: its bucket empty, its breaker closed, its records unread; and until it has been equipped with a spec and a
key, and has read the records, it lets nothing out.

    hold_for_record   may one more sandbox be planned?     account, namespace, template, breaker, number, money
    hold_for_ask      may one be asked for at this moment?  the same, and the rate
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from execpool.api.e2b import E2BAccountSpec
from execpool.api.names import Reason
from execpool.core.breaker import Breaker, BreakerState, Seen
from execpool.core.learning import LONGEST_PAUSE_SECONDS
from execpool.core.slots import LONG_TTL_SECONDS
from execpool.core.spending import cost
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
)
from execpool.providers.e2b.holds import NOT_LOOKED, Hold, Watches
from execpool.providers.e2b.limits import DOOR_SECONDS, Limits
from execpool.providers.e2b.records import AccountName, Record
from execpool.providers.e2b.wire import Created, Listed
from execpool.telemetry import metrics

T = TypeVar("T")

PAUSE_SECONDS = 5.0
"""After a 429 that does not say for how long."""


@dataclass
class Desk:
    """What may be asked of one account, and what is known of it."""

    name: AccountName
    watches: Watches = field(default_factory=Watches)
    book: Book = field(default_factory=Book)
    closed: Hold | None = NOT_LOOKED
    """Why nothing at all may be asked of the account; None while it may."""
    breaker: Breaker = field(default_factory=Breaker)
    denial: str = ""
    """E2B's words when it last refused the key; empty since it was accepted, or another one came."""
    foreign: int = 0
    """Sandboxes of others at the last sweep."""
    asked_at: float = float("-inf")
    """When a pool last wanted to draw on it, by the steady clock."""
    turned_away: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    """Pools that wanted one more sandbox and were refused: by UID, their namespace, template and price."""
    _calls_paused_until: float = float("-inf")
    """Calls other than creations wait until then, by the steady clock; their rate is far from E2B's limit (20,000 in 30 s)."""
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

    def hold_for_record(self, namespace: str, template: str, price_of_one: int) -> Hold | None:
        """Return why no record may be written for one more sandbox; None when one may."""
        return (
            self.closed
            or self.limits.hold_of_namespace(namespace)
            or self.hold_of_breaker()
            or self.limits.hold_of_template(template)
            or self.limits.hold_of_number(self.book.planned())
            or self.limits.hold_of_money(cost(price_of_one, LONG_TTL_SECONDS))
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
            or self.limits.hold_of_namespace(record.namespace)
            or self.hold_of_breaker()
            or self.limits.hold_of_template(record.spec.template)
            or self.limits.hold_of_number(self.book.sandboxes())
            or self.limits.hold_of_money(0)
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
        await self._await_turn()
        asked_at = self.watches.steady()
        key = f"{record.uid}-{record.spec.attempt}"
        try:
            created = await self._call("Create", lambda api: api.create(record.spec.template, seconds, tag, key))
        except E2BError as error:
            # The one that was refused is counted, and is not there.
            self.limits.refused(record.spec.template, error, self.book.sandboxes() - 1, asked_at)
            raise
        self.limits.came(self.book.sandboxes(), asked_at)
        return created

    async def _await_turn(self) -> None:
        """Wait at the door for the moment of the next creation, which is near, and take it.

        Whoever looks at the account again only once that moment has come is late by the time which the look takes, every time.
        """
        self.limits.at_door += 1
        try:
            wait = self.limits.wait()
            if 0 < wait <= DOOR_SECONDS:
                await self.watches.sleep(wait)
        finally:
            self.limits.at_door -= 1
        wait = self.limits.take()
        if wait > 0:
            raise HeldBackError(Reason.RATE_LIMITED, "creations are paced", wait)

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
                pause = min(_pause(error), LONGEST_PAUSE_SECONDS)
                self._calls_paused_until = max(self._calls_paused_until, self.watches.steady() + pause)
            self._tell(_seen(error))
            metrics.E2B_REQUESTS.labels(name, type(error).__name__.removesuffix("Error")).inc()
            raise
        metrics.E2B_REQUESTS.labels(name, "Done").inc()
        self.denial = ""
        self._tell(Seen.SUCCESS)
        return result

    def _tell(self, seen: Seen) -> None:
        self.breaker = self.breaker.told(seen, self.watches.steady(), self.watches.spread())

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
        hold, wait = self.hold_of_breaker(), self._calls_paused_until - self.watches.steady()
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
