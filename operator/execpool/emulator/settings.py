"""Settings of the emulator: read once from the environment, frozen, passed down. Every variable starts with `EXECPOOL_EMULATOR_`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from execpool.core.budget import Rate
from execpool.emulator.latency import Latency
from execpool.emulator.plans import HOBBY, PRO, Plan, PlanName


class EmulatorSettings(BaseSettings):
    """One account, where it listens, what it may do."""

    model_config = SettingsConfigDict(env_prefix="EXECPOOL_EMULATOR_", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address of the API and of the data plane."""
    port: int = 3000
    """Port of both; 0 takes a free one and logs it."""
    admin_host: str = "127.0.0.1"
    """Address of the admin API, which has no authentication: whoever reaches it may do anything to this account."""
    admin_port: int = 3001
    """Port of the admin API; 0 as above."""
    api_keys: str = "e2b_00"
    """Comma-separated keys of the account: `e2b_` and hexadecimal digits."""
    domain: str = ""
    """Told to clients as the domain of sandboxes, whose hosts are `<port>-<id>.<domain>`; empty for none."""
    ledger: Path = Path("execpool-emulator.jsonl")
    """File of the ledger; lines are added to what is there."""
    directory: Path | None = None
    """Where sandboxes have their directories; the system's place for temporary files unless set."""

    plan: PlanName = PlanName.HOBBY
    """`hobby`, `pro` or `custom`; the six settings that follow describe a custom plan, and executions any."""
    sandboxes: int = Field(default=20, ge=1)
    """Custom plan: sandboxes at the same time."""
    creates: int = Field(default=1, ge=1)
    """Custom plan: creations in a window."""
    creates_window_seconds: int = Field(default=1, ge=1)
    """Custom plan: that window."""
    creates_burst: int = Field(default=1, ge=1)
    """Custom plan: how many of them may come at once."""
    max_lifetime_seconds: int = Field(default=3600, ge=1)
    """Custom plan: longest life of a sandbox without a pause."""
    executions_per_minute: int = Field(default=0, ge=0)
    """Executions in a minute on any plan; 0 for no limit."""
    executions_burst: int = Field(default=1, ge=1)
    """How many of them may come at once."""

    latency: Latency = Latency.PUBLISHED
    """How long creations take: as `published`, or `none`: as fast as this machine can."""
    seed: int = 0
    """Of everything that is drawn: latencies, losses."""
    warm: int = Field(default=2, ge=0)
    """Processes that wait, started, for the next creations, as a real service has them."""
    executors: bool = True
    """Whether sandboxes run anything. False for an account that is only managed: no processes, no data plane."""
    egress: bool = False
    """Whether programs reach the network of this machine, which they do on E2B. It includes every loopback address."""
    always_traffic_token: bool = False
    """Whether every sandbox has a traffic token, as those with `allow_public_traffic=False` do on E2B."""
    idempotency: bool = True
    """Whether a creation that is repeated with its `Idempotency-Key` makes nothing new."""
    max_connections: int = Field(default=4096, ge=1)
    """Most connections to the port."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    def keys(self) -> frozenset[str]:
        """Return the API keys."""
        return frozenset(key.strip() for key in self.api_keys.split(",") if key.strip())

    def limits(self) -> Plan:
        """Return the limits of the account."""
        named = {PlanName.HOBBY: HOBBY, PlanName.PRO: PRO}.get(self.plan)
        plan = named or Plan(
            self.sandboxes,
            Rate(self.creates, self.creates_window_seconds, self.creates_burst),
            self.max_lifetime_seconds,
        )
        return with_executions(plan, self.executions_per_minute, self.executions_burst)


def with_executions(plan: Plan, per_minute: int, burst: int) -> Plan:
    """Return a plan with a limit of executions; 0 for none."""
    rate = Rate(per_minute, 60, burst) if per_minute else None
    return Plan(plan.sandboxes, plan.creates, plan.max_lifetime_seconds, plan.management, rate)
