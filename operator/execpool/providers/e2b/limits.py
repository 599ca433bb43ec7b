"""What an account allows: who may draw on it, how many sandboxes, how fast, for how much money; and what refusals taught.

Each limit says itself why it holds something back. Nothing is asked of E2B here.
"""

from dataclasses import dataclass, field, replace

from execpool.api.e2b import E2BAccountSpec
from execpool.api.names import Reason
from execpool.core.budget import NANOSECONDS, Bucket, Rate, SpendWindow
from execpool.core.learning import MINUTE, LearnedNumber, LearnedRate
from execpool.core.spending import DAY_SECONDS, NO_LIMIT, price
from execpool.providers.e2b.errors import E2BError, FullError, GoneError, PacedError, RefusedError
from execpool.providers.e2b.holds import Hold, Watches
from execpool.providers.e2b.records import AccountName, Record

PACE_PERMILLE = 990
"""Share of the declared rate that is used: what leaves here evenly arrives a little less so, and would be refused."""
HOUR = 3600
DOOR_SECONDS = 0.25
"""A creation whose turn comes within this waits for it at the desk; long enough to read all records meanwhile."""
TEMPLATE_SECONDS = 60.0
"""A template that E2B refused is not asked for again before this."""


@dataclass
class Limits:
    """The limits of one account. Buckets begin empty."""

    name: AccountName
    watches: Watches
    spec: E2BAccountSpec | None = None
    """As last read; None until then."""
    rate: LearnedRate = field(default_factory=LearnedRate)
    number: LearnedNumber = field(default_factory=LearnedNumber)
    spend: SpendWindow = field(default_factory=lambda: SpendWindow(NO_LIMIT, DAY_SECONDS, 0))
    at_door: int = 0
    """Creations that wait at the desk for their turn."""
    _bucket: Bucket | None = None
    _templates: dict[str, Hold] = field(default_factory=dict)

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

    def take(self) -> float:
        """Take one creation from the bucket; return 0, or the seconds until there is one."""
        wait = self.wait()
        if wait <= 0:
            self._ready_bucket().take(self._now_ns())
            self.rate = self.rate.asked(self._per_minute(), self.watches.steady())
        return wait

    def wait(self) -> float:
        """Return the seconds until there is a creation in the bucket, and refusals allow one."""
        learned = self.rate.wait(self._per_minute(), self.watches.steady())
        return max(learned, self._ready_bucket().wait(self._now_ns()) / NANOSECONDS)

    def came(self, sandboxes: int, asked_at: float) -> None:
        """Learn from a creation that was let through, and was asked for then; there are so many of ours now."""
        self.rate = self.rate.let_through(self._per_minute(), asked_at, self.watches.steady())
        if self.spec is not None:
            self.number = self.number.came(sandboxes, self.spec.most_of_ours())

    def refused(self, template: str, error: E2BError, sandboxes: int, asked_at: float) -> None:
        """Learn from a creation that was refused, and was asked for then, while there were so many of ours."""
        now = self.watches.steady()
        if isinstance(error, PacedError):
            self.rate = self.rate.refused(self._per_minute(), error.retry_after, asked_at, now)
        elif isinstance(error, FullError):
            self.number = self.number.full(sandboxes, now)
        elif isinstance(error, GoneError | RefusedError):
            message = f"template {template}: {error}"
            self._templates[template] = Hold(Reason.TEMPLATE_REFUSED, message, now + TEMPLATE_SECONDS)

    # Holds, one reason each

    def hold_of_namespace(self, namespace: str) -> Hold | None:
        if self.is_allowed(namespace):
            return None
        message = f"account {self.name.key} does not allow namespace {namespace}; add it to spec.allowedNamespaces"
        return Hold(Reason.NOT_ALLOWED, message, 30.0)

    def hold_of_template(self, template: str) -> Hold | None:
        refused = self._templates.get(template)
        if refused is None or refused.seconds <= self.watches.steady():
            return None
        return replace(refused, seconds=refused.seconds - self.watches.steady())

    def hold_of_number(self, counted: int) -> Hold | None:
        most = self.most()
        if counted < most or self.spec is None:
            return None
        declared = self.spec.most_of_ours()
        told = f", of {declared} declared, since it said that it is full" if most < declared else ""
        message = f"account {self.name.key} has {counted} sandboxes of {most} for us{told}"
        return Hold(Reason.ACCOUNT_FULL, message, max(self.number.wait(self.watches.steady()), 5.0))

    def hold_of_money(self, amount: int) -> Hold | None:
        if self.spend.left >= amount:
            return None
        message = (
            f"account {self.name.key} may spend {self.spend.limit} micro-dollars a day; {self.spend.settled} are spent and"
            f" {self.spend.reserved} reserved"
        )
        return Hold(Reason.BUDGET_EXHAUSTED, message, max(min(self.spend.end - self.watches.clock(), 60.0), 1.0))

    def hold_of_rate(self) -> Hold | None:
        most = self.rate.most(self._per_minute())
        wait = self.wait() + self.at_door * MINUTE / most
        if wait <= DOOR_SECONDS:
            return None
        message = f"account {self.name.key} lets {round(most)} sandboxes a minute be created"
        return Hold(Reason.RATE_LIMITED, message, wait - DOOR_SECONDS)

    def _per_hour(self) -> int:
        creates = self.spec.limit_of_creates() if self.spec is not None else 1
        return creates * HOUR * PACE_PERMILLE // 1000

    def _per_minute(self) -> float:
        return self._per_hour() * MINUTE / HOUR

    def _ready_bucket(self) -> Bucket:
        rate = Rate(self._per_hour(), HOUR)
        now = self._now_ns()
        self._bucket = Bucket(rate, now) if self._bucket is None else self._bucket.renewed(rate, now)
        return self._bucket

    def _now_ns(self) -> int:
        return int(self.watches.steady() * NANOSECONDS)
