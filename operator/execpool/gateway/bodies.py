"""Reads requests' bodies, within a budget of bytes for all of them together.

A request's bytes count from the first that is read until its answer has been sent: while it waits and runs its code is held
here, and an answer that is not read is held as well. A tenant has a smaller share, so that one cannot use the budget up.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Receive

from execpool.api.names import Refusal
from execpool.gateway.auth import Caller
from execpool.gateway.errors import GatewayError

BODY_SECONDS = 30.0
"""Longest time that a caller may take to send its request."""
RETRY_SECONDS = 1

Headers = dict[bytes, bytes]
Tenant = tuple[str, str]
"""Namespace and tenant."""


class CallerGoneError(Exception):
    """The caller has closed its connection, or does not read."""


class Budget:
    """The bytes held for all requests.

    Args:
        most: of all together.
        most_per_tenant: of those of one tenant.
    """

    def __init__(self, most: int, most_per_tenant: int) -> None:
        self._most = most
        self._most_per_tenant = most_per_tenant
        self._held: Counter[Tenant] = Counter()
        self._total = 0

    @contextmanager
    def share(self, caller: Caller) -> Iterator["Share"]:
        """Yield the share of one request; its bytes are free again afterwards."""
        share = Share(self, (caller.namespace, caller.tenant))
        try:
            yield share
        finally:
            share.close()

    def check(self, tenant: Tenant, more: int) -> None:
        """Refuse bytes for which there is no room.

        Raises:
            GatewayError: NoCapacity.
        """
        held = self._held[tenant]
        if held + more > self._most_per_tenant:
            sentence = f"tenant {tenant[1]} has {held} bytes of requests and answers here"
            sentence += f", asks for {more} more, and may have {self._most_per_tenant}"
        elif self._total + more > self._most:
            sentence = f"this gateway holds {self._total} bytes of requests and answers; {self._most} are allowed"
        else:
            return
        raise GatewayError(Refusal.NO_CAPACITY, sentence, retry_after=RETRY_SECONDS)

    def change(self, tenant: Tenant, by: int) -> None:
        """Note that more or fewer bytes are held."""
        self._total += by
        self._held[tenant] += by
        if not self._held[tenant]:
            del self._held[tenant]


class Share:
    """The bytes of one request."""

    def __init__(self, budget: Budget, tenant: Tenant) -> None:
        self._budget = budget
        self._tenant = tenant
        self._held = 0

    def grow(self, more: int) -> None:
        """Hold more bytes.

        Raises:
            GatewayError: NoCapacity.
        """
        self._budget.check(self._tenant, more)
        self._hold(self._held + more)

    @contextmanager
    def also(self, size: int) -> Iterator[None]:
        """Hold an answer's bytes for as long as they are being sent. They are there; what comes after them is refused."""
        self._hold(self._held + size)
        try:
            yield
        finally:
            self._hold(self._held - size)

    def check(self) -> None:
        """Refuse to make more while more is held than may be: its answer would come on top.

        Raises:
            GatewayError: NoCapacity.
        """
        self._budget.check(self._tenant, 0)

    def close(self) -> None:
        """Hold nothing any more."""
        self._hold(0)

    def _hold(self, size: int) -> None:
        self._budget.change(self._tenant, size - self._held)
        self._held = size


async def read_body(headers: Headers, receive: Receive, most: int, share: Share) -> bytes:
    """Return a request's body.

    Raises:
        GatewayError: RequestTooLarge, NoCapacity, or InvalidRequest when it does not arrive.
        CallerGoneError: the connection ended.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(headers, receive, most, share)
    except TimeoutError:
        sentence = f"the body did not arrive within {BODY_SECONDS:g} s"
        raise GatewayError(Refusal.INVALID_REQUEST, sentence) from None


async def _read(headers: Headers, receive: Receive, most: int, share: Share) -> bytes:
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > most:
        raise _too_large(f"a body of {int(declared)} bytes", most)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        part = message.get("body", b"")
        if len(body) + len(part) > most:
            raise _too_large(f"a body of more than {most} bytes", most)
        share.grow(len(part))
        body += part
        if not message.get("more_body", False):
            return bytes(body)


def _too_large(what: str, most: int) -> GatewayError:
    return GatewayError(Refusal.REQUEST_TOO_LARGE, f"{what}; {most} are allowed")
