"""What a gateway does with an executor of any kind: claim, execute, ask who holds it, retire.

`PodClient` and `SandboxClient` do it; `Executors` picks the one for a target. What matters about an error is whether the code
may have started, so the tree is drawn by that:

    ExecutorError
     +-- NotStartedError     proven: the execution may go elsewhere
     |    +-- StaleError         401, 412: our token or epoch is not the latest; claim again
     |    +-- TakenError         409 to a claim: it serves another principal, or nobody may have it
     |    +-- GoneError          410, 421: it has been retired, or is not the one that was watched
     |    +-- RejectedError      400, 404, 413: the request itself is refused; it would be everywhere
     |    +-- BusyError          429, 503: no free slot, or not able to right now
     |    +-- ImpostorError      it could not prove who it is, or does not accept our proof: no code was sent
     |    +-- UnreachableError   no connection
     |    |    +-- ControlPlaneError  no answer of the API server, where claims of sandboxes are
     |    +-- NotSupportedError  NotSupported as the run's end: Monty lacks what the code needs, and nothing has happened
     +-- LostError           the request was written, its end never came: unknown
     |    +-- UnresponsiveError  silence past every limit; it is retired
     +-- BrokenReplyError    it answers in a form that the protocol does not know: unknown
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

from execpool.api.v1alpha1 import TierKind
from execpool.core.claiming import Target
from execpool.core.sessions import Opening, Session
from execpool.gateway.requests import Order
from execpool.protocol import ClaimGrant


class ExecutorError(Exception):
    """Anything that kept an executor from doing what it was asked to."""


class NotStartedError(ExecutorError):
    """No code has started because of this request."""


class StaleError(NotStartedError):
    """Our token or epoch is not the latest."""


class TakenError(NotStartedError):
    """Another principal holds it."""


class GoneError(NotStartedError):
    """It takes no more work, or it is another pod."""


class RejectedError(NotStartedError):
    """It does not take such a request."""


class BusyError(NotStartedError):
    """It cannot take this now.

    Attributes:
        retry_after: seconds that it wants to be left alone for; 0 when it does not say.
    """

    def __init__(self, sentence: str, retry_after: float = 0.0) -> None:
        super().__init__(sentence)
        self.retry_after = retry_after


class ImpostorError(NotStartedError):
    """It is not the executor that the operator made, or it was made with another key."""


class UnreachableError(NotStartedError):
    """No connection could be made."""


class ControlPlaneError(UnreachableError):
    """The API server did not do what a claim needs."""


class NotSupportedError(NotStartedError):
    """The runtime met what it lacks before anything had happened."""


class LostError(ExecutorError):
    """The request was written and its end never came."""


class UnresponsiveError(LostError):
    """Nothing came for longer than any limit allows."""


class BrokenReplyError(ExecutorError):
    """Its reply breaks the protocol."""


@dataclass(frozen=True)
class Holding:
    """Whom an executor serves."""

    principal: str
    session: Session | None = None


class ExecutorClient(Protocol):
    """Speaks to executors of one kind."""

    async def claim(self, target: Target, principal: str, opening: Opening | None = None) -> ClaimGrant:
        """Claim an executor for a principal, or claim it again; for a session alone, when one is to be opened.

        Raises:
            ExecutorError: not claimed, as far as we know.
        """

    async def holder(self, target: Target) -> Holding | None:
        """Return whom it serves; None while it is warm."""

    async def move_end(self, target: Target, grant: ClaimGrant, session: str, seconds: float) -> None:
        """Have a session end so many seconds from now; 0 ends it at once. Raises ExecutorError: not moved, as far as we know."""

    async def retire(self, target: Target) -> None:
        """End it at once, whatever it does."""

    def execute(self, target: Target, grant: ClaimGrant, run_id: str, order: Order) -> AsyncGenerator[bytes]:
        """Run code: yield an empty line once the executor has taken it, then its lines, unread.

        Raises:
            NotStartedError: before the first line, when it is proven that nothing started.
            LostError, BrokenReplyError: when what became of it is unknown.
        """

    async def close(self) -> None:
        """Close the connections."""


class Executors:
    """Executors of every kind."""

    def __init__(self, clients: Mapping[TierKind, ExecutorClient]) -> None:
        self._clients = clients

    async def claim(self, target: Target, principal: str, opening: Opening | None = None) -> ClaimGrant:
        return await self._clients[target.kind].claim(target, principal, opening)

    async def holder(self, target: Target) -> Holding | None:
        return await self._clients[target.kind].holder(target)

    async def move_end(self, target: Target, grant: ClaimGrant, session: str, seconds: float) -> None:
        await self._clients[target.kind].move_end(target, grant, session, seconds)

    async def retire(self, target: Target) -> None:
        await self._clients[target.kind].retire(target)

    def execute(self, target: Target, grant: ClaimGrant, run_id: str, order: Order) -> AsyncGenerator[bytes]:
        return self._clients[target.kind].execute(target, grant, run_id, order)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()
