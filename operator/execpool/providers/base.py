"""The port through which the operator makes and ends executors, whatever they are.

Semantics that every provider keeps; `tests/contract` runs them against each, fakes included:

- `observe` shows an executor from the moment `create` returned, and its own writes always.
- `create` either made the executor, or raises a ProviderError that says why not; after an answer that never came the
  executor may exist, and the next `observe` shows it.
- `retire` never ends an executor that is not as `expect` says: the executor itself decides, in one step. GONE means that
  nobody has to be told any more.
- `remove` ends an executor whatever it does, and is done already when it does not exist.

    ProviderError
     +-- ExhaustedError     a limit says no (quota); `retry_after` seconds
     +-- RejectedError      the request can never succeed as it is; a person must change something
     +-- UnavailableError   the backend is away or overloaded; later
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from execpool.api.names import Reason
from execpool.api.v1alpha1 import Tier
from execpool.core.model import Executor, Pool
from execpool.protocol import Expect


class ProviderError(Exception):
    """An executor was not created; `reason` and the text go into condition and event as they are."""

    def __init__(self, message: str, *, reason: Reason = Reason.CREATE_FAILED, retry_after: float = 5.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class ExhaustedError(ProviderError):
    """A limit of the backend is reached."""


class RejectedError(ProviderError):
    """The backend will never accept this."""


class UnavailableError(ProviderError):
    """The backend does not answer, or not now."""


class Retirement(StrEnum):
    """What became of a `retire`."""

    RETIRED = "Retired"
    HELD = "Held"
    """It is no longer as expected: somebody claimed it, or uses it."""
    GONE = "Gone"
    UNREACHABLE = "Unreachable"
    """It may be claimed and cannot be asked; it was left alone."""


class Provider(Protocol):
    """Where executors of one kind come from."""

    def template_hash(self, tier: Tier) -> str:
        """Return the hash of what an executor of this tier would be made from now."""

    async def observe(self, pool: Pool) -> tuple[Executor, ...]:
        """Read all executors of a pool, those of tiers it no longer names too."""

    async def create(self, pool: Pool, tier: Tier) -> str:
        """Ask for one executor and return its name. Raises ProviderError."""

    async def retire(self, pool: Pool, executor: Executor, expect: Expect) -> Retirement:
        """End an executor if it is as expected."""

    async def remove(self, executor: Executor, namespace: str) -> None:
        """End an executor in any case."""

    async def policies_current(self, pool: Pool) -> bool:
        """True when the network policies of the pool's tiers are as wanted."""

    async def apply_policies(self, pool: Pool) -> None:
        """Bring the network policies up to date, and remove those of dropped tiers."""

    async def remove_policies(self, pool: Pool) -> None:
        """Remove all network policies of a pool."""

    async def stray_pools(self, known: Sequence[str]) -> tuple[Pool, ...]:
        """Return pools, by what is left of them, whose executors exist although no pool with their UID does."""
