"""What an admitted execution ends with, as values; `http.py` renders them.

Exactly one answer per admitted execution: a program that raised, a limit, a lost executor are all answers, never errors.
"""

from dataclasses import dataclass
from enum import StrEnum

from execpool.api.names import Outcome
from execpool.core.claiming import Route
from execpool.gateway.events import Transcript


class Cause(StrEnum):
    """Reasons of an outcome that the gateway itself found; all others are the executor's (`protocol.RunReason`)."""

    EXECUTOR_LOST = "ExecutorLost"
    EXECUTOR_UNRESPONSIVE = "ExecutorUnresponsive"
    EXECUTOR_MISBEHAVED = "ExecutorMisbehaved"
    CLIENT_GONE = "ClientGone"
    GATEWAY_STOPPED = "GatewayStopped"


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds: until a slot was taken, of the run by its executor's clock, and altogether."""

    wait: float
    run: float
    total: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of one execution."""

    id: str
    status: Outcome
    reason: str
    message: str
    transcript: Transcript
    route: Route
    tier: str
    executor: str
    timings: Timings


class Feed:
    """Hears what happens to an execution while it happens. This one does not listen; `stream.py` has one that does.

    Calls never block: a caller that reads slowly must not keep a slot from others.
    """

    def accepted(self, execution: str) -> None:
        """It will be run, or wait."""

    def waiting(self, position: int) -> None:
        """It waits; 1 is next."""

    def started(self, executor: str, tier: str) -> None:
        """An executor has taken it. A second time (`retry: Safe`) means that what came before is void."""

    def line(self, line: bytes) -> None:
        """One cleaned line of the executor."""
