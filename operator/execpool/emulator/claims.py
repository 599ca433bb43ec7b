"""Claims an executor for a sandbox, and says what calls to it carry then."""

from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from execpool import protocol
from execpool.e2b_server.errors import InvalidError
from execpool.providers.local_executor import LocalExecutor
from execpool.providers.nursery_link import NotStartedError

_TIMEOUT = aiohttp.ClientTimeout(total=10)
_BAD_REQUEST = (400, 413)


@dataclass(frozen=True)
class Grant:
    """A claimed executor. The claim's token is what clients know as the sandbox's access token: so is what it signs."""

    token: str
    epoch: int


async def claim(
    session: aiohttp.ClientSession, executor: LocalExecutor, sandbox_id: str, env_vars: Mapping[str, str]
) -> Grant:
    """Claim an executor, for life.

    Raises:
        InvalidError: it does not take these variables.
        NotStartedError: it does not answer as it should.
    """
    url = f"http://{executor.address}:{protocol.CONTROL_PORT}/claim"
    request = protocol.ClaimRequest(executor.identity.secret, sandbox_id, dict(env_vars))
    try:
        async with session.post(url, data=request.encode(), timeout=_TIMEOUT) as response:
            body = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise NotStartedError(f"an executor did not answer its claim: {error}") from error
    if response.status in _BAD_REQUEST:
        raise InvalidError(f"envVars: {body.decode(errors='replace')}")
    if response.status != 200:
        raise NotStartedError(f"an executor answered its claim with {response.status}")
    grant = protocol.ClaimGrant.decode(body)
    return Grant(grant.token, grant.epoch)
