"""E2B's data plane on the wire: requests to one sandbox, and what went wrong with them in terms of what may have started.

Headers and address come from the sealed part of the record alone. Redirects are not followed, certificates are checked, and
the environment's proxies are not used.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import aiohttp

from execpool.core.claiming import Target
from execpool.gateway.e2b_answers import FailingError, error_before
from execpool.gateway.executors import UnreachableError, UnresponsiveError
from execpool.gateway.wire import bounded, execute_timeout, make_session, payload, translated
from execpool.protocol import DATA_PORT

CONNECT_SECONDS = 5.0
CONTEXT_TIMEOUT = aiohttp.ClientTimeout(total=20, sock_connect=CONNECT_SECONDS)
"""A context is a new process: a second or two in a microVM whose memory is not there yet."""
EXECUTE_TIMEOUT = execute_timeout(CONNECT_SECONDS)

Result = TypeVar("Result")


class OverLimitError(Exception):
    """The run's time is up."""


class DataPlane:
    """Requests over kept-alive connections."""

    def __init__(self) -> None:
        self._session = make_session()

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def execute(self, target: Target, body: bytes) -> aiohttp.ClientResponse:
        """Ask to run code; return the answer once its head is there."""
        return await self._session.post(
            _url(target, "execute"), data=payload(body), **_options(target, EXECUTE_TIMEOUT)
        )

    async def control(self, method: str, target: Target, path: str, body: bytes | None) -> bytes:
        """Ask for something that runs no code."""
        with translated(target):
            try:
                async with self._session.request(
                    method, _url(target, path), data=body, **_options(target, CONTEXT_TIMEOUT)
                ) as response:
                    said = await bounded(response.content)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                raise UnreachableError(f"/contexts of {target.name} was not answered") from error
            except (aiohttp.ClientError, ValueError) as error:  # it runs no code, so nothing has started
                raise FailingError(f"/contexts of {target.name} was not answered as agreed") from error
            if response.status != 200:
                raise error_before(target.name, response.status, said, response.headers.get("Retry-After", ""))
        return said


async def until(deadline: float, target: Target, work: "Coroutine[Any, Any, Result]") -> Result:
    """Wait for a step of a run. Raises OverLimitError once the run's time is up."""
    limit = asyncio.timeout_at(deadline)
    try:
        with translated(target):
            async with limit:
                return await work
    except UnresponsiveError:
        if limit.expired():
            raise OverLimitError from None
        raise


def _url(target: Target, path: str) -> str:
    return f"{target.as_sandbox().access.url.replace('{port}', str(DATA_PORT)).rstrip('/')}/{path}"


def _options(target: Target, timeout: aiohttp.ClientTimeout) -> dict[str, Any]:
    access = target.as_sandbox().access
    headers = {"E2b-Sandbox-Id": access.sandbox_id, "E2b-Sandbox-Port": str(DATA_PORT)}
    if access.envd_token:
        headers["X-Access-Token"] = access.envd_token
    if access.traffic_token:
        headers["E2B-Traffic-Access-Token"] = access.traffic_token
    return {"headers": headers, "timeout": timeout, "allow_redirects": False}
