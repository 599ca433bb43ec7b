"""What an account may do, and what a template has. The figures are E2B's published ones (pricing and rate-limit pages, 2026)."""

from dataclasses import dataclass
from enum import StrEnum

from execpool.core.budget import Rate

HOUR = 3600


class PlanName(StrEnum):
    """Plans of E2B, and one that settings describe."""

    HOBBY = "hobby"
    PRO = "pro"
    CUSTOM = "custom"


MANAGEMENT = Rate(20_000, 30, 1000)


@dataclass(frozen=True)
class Plan:
    """Limits of an account.

    Attributes:
        sandboxes: running at the same time; paused ones do not count.
        creates: rate of creations. E2B publishes a rate only; here as many may come at once as in a second.
        max_lifetime_seconds: of one sandbox without a pause.
        management: rate of all control-plane calls together.
        executions: rate of code executions; None for no limit, which is what E2B publishes.
    """

    sandboxes: int
    creates: Rate
    max_lifetime_seconds: int
    management: Rate = MANAGEMENT
    executions: Rate | None = None


HOBBY = Plan(sandboxes=20, creates=Rate(1, 1, 1), max_lifetime_seconds=HOUR)
PRO = Plan(sandboxes=100, creates=Rate(5, 1, 5), max_lifetime_seconds=24 * HOUR)


@dataclass(frozen=True)
class Template:
    """What sandboxes of a template have, which is what they cost by."""

    name: str
    cpu_count: int
    memory_mb: int


TEMPLATES = {
    template.name: template
    for template in (
        Template("code-interpreter-v1", 2, 2048),
        Template("base", 2, 512),
        Template("mcp-gateway", 2, 512),
    )
}


@dataclass(frozen=True)
class Prices:
    """Micro-dollars a second, of what is allocated, while a sandbox runs (pricing FAQ)."""

    cpu: float = 14.0
    """One vCPU."""
    gib: float = 4.5
    """One GiB of memory."""

    def of(self, cpu_count: int, memory_mb: int, seconds: float) -> float:
        """Return what so many seconds cost, in micro-dollars."""
        return seconds * (self.cpu * cpu_count + self.gib * memory_mb / 1024)
