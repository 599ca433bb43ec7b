"""The operator's side of an executor's control port: ask for its state, and retire it.

Replies come from beside untrusted code: bounded in size and time, typed or discarded.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, Self

import aiohttp

from execpool.kube.errors import FencedError
from execpool.protocol import CONTROL_PORT, Challenge, Expect, Proof, RetireRequest, State, WireError

ANSWER_BYTES = 16 << 10
TIMEOUT = aiohttp.ClientTimeout(total=2.0, connect=1.0)


class Answer(StrEnum):
    """What `/retire` answered."""

    YES = "Yes"
    NO = "No"
    NONE = "None"


class Control(Protocol):
    """What the operator may ask an executor."""

    async def state(self, address: str) -> State | None:
        """Return what the executor at an address says of itself; None when it says nothing sensible."""

    async def prove(self, address: str, challenge: Challenge) -> Proof | None:
        """Let it prove that it is the executor the operator made, before it is told a secret."""

    async def retire(self, address: str, request: RetireRequest) -> Answer:
        """Ask it to take no further work and exit, if it is as expected. Raises FencedError."""


class HttpControl:
    """The real control port. `may_act` is the fence: retiring is an effect like a write to the API server."""

    def __init__(self, port: int = CONTROL_PORT, *, may_act: Callable[[], bool] = lambda: True) -> None:
        self._port = port
        self._may_act = may_act
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def state(self, address: str) -> State | None:
        try:
            async with self._http().get(self._url(address, "state"), allow_redirects=False) as response:
                body = await response.content.read(ANSWER_BYTES)
                return State.decode(body) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ConnectionError, WireError):
            return None

    async def prove(self, address: str, challenge: Challenge) -> Proof | None:
        url = self._url(address, "challenge")
        try:
            async with self._http().post(url, data=challenge.encode(), allow_redirects=False) as response:
                body = await response.content.read(ANSWER_BYTES)
                return Proof.decode(body) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, ConnectionError, WireError):
            return None

    async def retire(self, address: str, request: RetireRequest) -> Answer:
        if not self._may_act():
            raise FencedError("retire: the Lease has run out")
        url = self._url(address, "retire")
        try:
            async with self._http().post(url, data=request.encode(), allow_redirects=False) as response:
                return {200: Answer.YES, 409: Answer.NO}.get(response.status, Answer.NONE)
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return Answer.NONE

    def _url(self, address: str, path: str) -> str:
        host = f"[{address}]" if ":" in address else address
        return f"http://{host}:{self._port}/{path}"

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT, trust_env=False)
        return self._session


def retirement(secret: str, expect: Expect, epoch: int) -> RetireRequest:
    """Build the request to retire an executor that is expected to be in some state."""
    return RetireRequest(secret=secret, expect=expect.value, epoch=epoch)
