"""The `e2b` tier, the account that it draws on, and the record of each sandbox.

An account is declared once, in the namespace of its Secret, and shared by pools of the namespaces that it names: its limits
are E2B's, so they hold for all of its pools together. Sandboxes are written by the operator alone.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from execpool.api.fields import Message, ObjectName, OptionalObjectName, ShortText, TierName, list_map
from execpool.api.model import Model, Rule
from execpool.api.status import ConditionList

E2B_API_URL = "https://api.e2b.app"
URL = r"^https?://[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?$"
"""Scheme, host and port: no path, no query, no user."""
SECRET_TYPE = "execpool.dev/e2b"  # noqa: S105 - a Secret's type
SECRET_KEY = "apiKey"  # noqa: S105 - the name of its entry

TemplateName = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][-A-Za-z0-9_./:]*$")
]


class Plan(StrEnum):
    """What E2B sells; each with the limits that it publishes."""

    HOBBY = "Hobby"
    PRO = "Pro"
    CUSTOM = "Custom"


class AccountRef(Model):
    """Which E2BAccount a tier draws on."""

    name: ObjectName
    """Name of the E2BAccount."""
    namespace: OptionalObjectName = ""
    """Its namespace; empty means the pool's own. Another one must be allowed by the account (`allowedNamespaces`)."""


class E2BTier(Model):
    """Executors as E2B sandboxes of an account."""

    rules = (
        Rule(
            cel="!has(self.warm) || self.warm <= self.max",
            message="warm must not be above max, since max counts warm, claimed and terminating executors",
            holds=lambda self: self.warm is None or self.warm <= self.max,
            field_path=".warm",
        ),
    )

    account_ref: AccountRef
    """The account that pays and whose limits hold."""
    template: TemplateName = "code-interpreter-v1"
    """E2B template of the sandboxes; it must contain E2B's code interpreter."""
    warm: Annotated[int, Field(ge=0, le=1000, strict=True)] | None = None
    """Executors kept ready and unclaimed. Absent on the scaled tier, where `spec.replicas` says it; absent elsewhere means 0."""
    max: Annotated[int, Field(ge=1, le=1000, strict=True)]
    """Most executors at any time: warm, claimed and terminating together."""
    idle_seconds: Annotated[int, Field(ge=5, le=86400, strict=True)] = 120
    """A claimed executor without a run is ended after this long."""
    max_age_seconds: Annotated[int, Field(ge=300, le=86400, strict=True)] = 3000
    """A warm executor is replaced after this long, jittered by up to 10 percent; below what the plan allows a sandbox to live."""
    vcpus: Annotated[int, Field(ge=1, le=64, strict=True)] = 2
    """CPUs of the template, for the cost that is reserved before a sandbox is asked for."""
    memory_mib: Annotated[int, Field(ge=128, le=1 << 20, strict=True)] = 2048
    """Memory of the template in MiB, for the same."""

    @property
    def slots(self) -> int:
        """Executions that one executor runs at the same time."""
        return 1


class AccountLimits(Model):
    """Limits of an account, where they differ from what its plan publishes."""

    creates_per_second: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = None
    """Sandboxes created per second; absent means the plan's (Hobby 1, Pro 5)."""
    sandboxes: Annotated[int, Field(ge=1, le=100000, strict=True)] | None = None
    """Sandboxes at the same time, those of others included; absent means the plan's (Hobby 20, Pro 100)."""
    executions_per_minute: Annotated[int, Field(ge=1, le=10000000, strict=True)] | None = None
    """Executions per minute over all sandboxes; absent means that E2B's limit is not known."""


class Prices(Model):
    """What a running sandbox costs, in billionths of a US dollar; the published prices by default."""

    vcpu_second_nano_usd: Annotated[int, Field(ge=0, le=10**9, strict=True)] = 14000
    """One CPU for one second."""
    gib_second_nano_usd: Annotated[int, Field(ge=0, le=10**9, strict=True)] = 4500
    """One GiB of memory for one second."""


class E2BAccountSpec(Model):
    """An account at E2B: its key, its limits, what may be spent, who may use it."""

    rules = (
        Rule(
            cel="self.plan != 'Custom' || (has(self.limits) && has(self.limits.createsPerSecond) && has(self.limits.sandboxes))",
            message="plan Custom publishes no limits: set limits.createsPerSecond and limits.sandboxes",
            holds=lambda self: (
                self.plan is not Plan.CUSTOM
                or (self.limits.creates_per_second is not None and self.limits.sandboxes is not None)
            ),
            field_path=".limits",
        ),
    )

    credentials_secret: ObjectName
    """Secret of type `execpool.dev/e2b` in this namespace, whose entry `apiKey` is the account's key. Read by the operator alone."""
    api_url: Annotated[str, StringConstraints(max_length=253, pattern=URL)] = E2B_API_URL
    """Address of E2B's API. It must be on the operator's allow-list; otherwise the account is Stalled."""
    plan: Plan = Plan.HOBBY
    """The plan, for the limits that it publishes."""
    limits: AccountLimits = Field(default_factory=AccountLimits)
    """Limits that differ from the plan's."""
    headroom_percent: Annotated[int, Field(ge=0, le=90, strict=True)] = 20
    """Share of the account's sandboxes that is left to others who use the same account."""
    daily_spend_micro_usd: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, alias="dailySpendMicroUSD"
    )
    """Most that all pools together may spend in a day, in millionths of a US dollar; absent means no limit."""
    prices: Prices = Field(default_factory=Prices)
    """Prices, where they differ from the published ones."""
    allowed_namespaces: Annotated[
        list[ObjectName], Field(max_length=256, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = Field(default_factory=list)
    """Other namespaces whose pools may draw on it; its own always may."""

    def limit_of_creates(self) -> int:
        """Return the sandboxes that may be created in a second."""
        return self.limits.creates_per_second or PUBLISHED[self.plan].creates_per_second or 1

    def limit_of_sandboxes(self) -> int:
        """Return how many sandboxes there may be, those of others and the headroom included."""
        return self.limits.sandboxes or PUBLISHED[self.plan].sandboxes or 1

    def most_of_ours(self) -> int:
        """Return how many sandboxes may be ours: what the headroom leaves, one at least."""
        return max(self.limit_of_sandboxes() * (100 - self.headroom_percent) // 100, 1)


PUBLISHED = {
    Plan.HOBBY: AccountLimits(creates_per_second=1, sandboxes=20),
    Plan.PRO: AccountLimits(creates_per_second=5, sandboxes=100),
    Plan.CUSTOM: AccountLimits(),
}
"""As E2B's pages say (2026): sandboxes at the same time, and their creation rate."""
LONGEST_LIFE_SECONDS = {Plan.HOBBY: 3600, Plan.PRO: 86400, Plan.CUSTOM: 86400}


class SandboxCount(Model):
    """Sandboxes of an account at the last look."""

    ours: Annotated[int, Field(ge=0)] = 0
    """With this cluster's tag."""
    foreign: Annotated[int, Field(ge=0)] = 0
    """All others."""


class LearnedLimits(Model):
    """What refusals have taught, where it is less than what was declared."""

    creates_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Creations per minute that are let through now; absent while the declared limit is."""
    sandboxes: Annotated[int, Field(ge=0)] | None = None
    """Sandboxes at which the account last said that it was full; absent while it has not."""


class Spend(Model):
    """Money in the current window, in millionths of a US dollar."""

    window_start: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = "1970-01-01T00:00:00Z"
    """Begin of the window of one day."""
    settled_micro_usd: Annotated[int, Field(ge=0)] = Field(default=0, alias="settledMicroUSD")
    """Spent for sandboxes, by the time that they ran."""
    reserved_micro_usd: Annotated[int, Field(ge=0)] = Field(default=0, alias="reservedMicroUSD")
    """Reserved for deadlines that have been granted and have not passed."""


class Recent(Model):
    """What was asked of the account in the minute before `at`; written with the next change of anything else."""

    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it was counted."""
    creates: Annotated[int, Field(ge=0)] = 0
    """Sandboxes asked for."""
    too_many: Annotated[int, Field(ge=0)] = 0
    """Calls answered 429."""


class PoolSpend(Model):
    """What one budget of a pool has spent here, as far as no record of a sandbox tells it any more."""

    pool_uid: ShortText = Field(alias="poolUID")
    """UID of the pool."""
    budget: TierName
    """Name of the budget in the pool's spec."""
    pool: ShortText
    """Namespace and name of the pool."""
    tier: TierName | None = None
    """The tier that the budget counts; absent means all of kind e2b."""
    limit_micro_usd: Annotated[int, Field(ge=1)] = Field(alias="limitMicroUSD")
    """Its limit when this was written."""
    window_seconds: Annotated[int, Field(ge=1)]
    """Length of its window."""
    window_start: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """Begin of the window that `settledMicroUSD` is of."""
    settled_micro_usd: Annotated[int, Field(ge=0)] = Field(default=0, alias="settledMicroUSD")
    """Spent in that window for sandboxes that have ended."""


class E2BAccountStatus(Model):
    """Observed state of an account. Written by the operator alone."""

    observed_generation: int = 0
    """The generation that this status speaks about."""
    conditions: ConditionList = Field(default_factory=list)
    """Ready; Stalled while a person is needed."""
    sandboxes: SandboxCount = Field(default_factory=SandboxCount)
    """At the last look."""
    breaker: ShortText = ""
    """Closed, Open or HalfOpen."""
    learned_limits: LearnedLimits = Field(default_factory=LearnedLimits)
    """What refusals have taught."""
    spend: Spend = Field(default_factory=Spend)
    """Money in the current window."""
    recent: Recent | None = None
    """What was asked of it a moment ago."""
    pool_spend: Annotated[list[PoolSpend], Field(max_length=512, json_schema_extra=list_map("poolUID", "budget"))] = (
        Field(default_factory=list)
    )
    """Of each budget of money of each pool that draws on this account: written before the record of a sandbox goes."""


class SandboxPhase(StrEnum):
    """Where a record is in its life."""

    INTENT = "Intent"
    READY = "Ready"
    CLAIMED = "Claimed"
    TERMINATING = "Terminating"
    LOST = "Lost"


class E2BSandboxSpec(Model):
    """What one sandbox is to be. Written by the operator before it asks E2B for anything."""

    pool: ObjectName
    """The pool, in this namespace."""
    tier: TierName
    """Its tier."""
    account: AccountRef
    """The account."""
    template: TemplateName
    """E2B template."""
    template_hash: ShortText
    """Hash of what the tier asked for when this was written."""
    vcpus: Annotated[int, Field(ge=1, le=64, strict=True)] = 2
    """CPUs of the template, for what it costs."""
    memory_mib: Annotated[int, Field(ge=128, le=1 << 20, strict=True)] = 2048
    """Memory of the template in MiB, for the same."""
    attempt: Annotated[int, Field(ge=1)] = 1
    """How often a sandbox has been asked for; E2B is told, so that an answer that was lost is recognised."""
    attempt_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When this attempt was written."""


class SandboxClaim(Model):
    """Who holds a sandbox. Written by a gateway, against the record's resourceVersion."""

    principal: ShortText
    """Opaque digest of tenant and user."""
    gateway: ShortText
    """The gateway replica that runs its executions."""
    epoch: Annotated[int, Field(ge=1)]
    """Raised with each claim."""
    claimed_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    """When it was claimed."""


class E2BSandboxStatus(Model):
    """What has become of it."""

    phase: SandboxPhase = SandboxPhase.INTENT
    """Intent, Ready, Claimed, Terminating or Lost."""
    sandbox_id: ShortText = Field(default="", alias="sandboxID")
    """E2B's id."""
    expires_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """Deadline that E2B last confirmed; absent while there is no sandbox."""
    sealed_tokens: Annotated[str, StringConstraints(max_length=4096)] = ""
    """The sandbox's own tokens, sealed for the gateways. The account's key is never among them."""
    claim: SandboxClaim | None = None
    """Who holds it; absent while nobody does."""
    message: Message = ""
    """Why it is not as wanted; empty when it is."""
