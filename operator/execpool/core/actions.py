"""What a plan is made of: the writes that can bring a pool closer to its spec, as values."""

from dataclasses import dataclass

from execpool.api.names import Reason
from execpool.core.model import Executor, Finding
from execpool.protocol import Expect

LOOK_AGAIN_SECONDS = 60.0
"""Longest sleep: a lost event costs no more than this."""


@dataclass(frozen=True)
class AddFinalizer:
    """Take the pool's finalizer; always before the first child."""


@dataclass(frozen=True)
class ApplyPolicies:
    """Bring the pool's network policies up to date; always before the first executor."""


@dataclass(frozen=True)
class CreateExecutors:
    """Ask a tier's provider for more executors."""

    tier: str
    count: int


@dataclass(frozen=True)
class RetireExecutor:
    """End an executor if it is still in the state that the plan saw, as `expect` says."""

    executor: Executor
    expect: Expect
    because: Reason


@dataclass(frozen=True)
class RemoveExecutor:
    """Remove an executor that serves nobody, or whose drain has run out; nobody is asked."""

    executor: Executor
    because: Reason


@dataclass(frozen=True)
class RemovePolicies:
    """Remove the pool's network policies, after the last executor."""


@dataclass(frozen=True)
class ReleaseFinalizer:
    """Let the pool go."""


Action = (
    AddFinalizer | ApplyPolicies | CreateExecutors | RetireExecutor | RemoveExecutor | RemovePolicies | ReleaseFinalizer
)


@dataclass(frozen=True)
class Plan:
    """What to do next for one pool.

    Attributes:
        actions: the writes, in an order that is safe to stop anywhere.
        findings: why the pool is not, or will not soon be, as wanted.
        requeue_after: seconds until the pool needs another look without an event.
    """

    actions: tuple[Action, ...] = ()
    findings: tuple[Finding, ...] = ()
    requeue_after: float = LOOK_AGAIN_SECONDS
