"""HTTP to executors of every kind: connections, bounds, and what went wrong in terms of what may have started.

Redirects are not followed, cookies are not kept, and the environment's proxies are not used. Idle connections are kept for
less long than executors keep them, so that a request is hardly ever written into a connection that is being closed.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from execpool.core.claiming import Target
from execpool.gateway.events import MisbehavedError
from execpool.gateway.executors import BrokenReplyError, LostError, UnreachableError, UnresponsiveError
from execpool.protocol import KEEPALIVE_SECONDS

SILENCE_SECONDS = 6 * KEEPALIVE_SECONDS
IDLE_CONNECTION_SECONDS = 60.0
MAX_ANSWER_BYTES = 64 << 10
MAX_WHOLE_BYTES = 1 << 20
"""Longer bodies are sent in pieces, so that they do not hold up the loop."""


def make_session() -> aiohttp.ClientSession:
    """Return a client for executors."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_CONNECTION_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        headers={
            "Content-Type": "application/json",
            "User-Agent": "execpool-gateway",
            "Accept-Encoding": "identity",
        },
    )


def execute_timeout(connect_seconds: float) -> aiohttp.ClientTimeout:
    """Return the limits of a run's stream: none altogether, one for silence."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=SILENCE_SECONDS)


def payload(body: bytes) -> bytes | io.BytesIO:
    """Return a body as it is to be sent."""
    return body if len(body) <= MAX_WHOLE_BYTES else io.BytesIO(body)


@contextmanager
def translated(target: Target) -> Iterator[None]:
    """Say what went wrong with a connection in terms of whether code may have started."""
    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
        raise UnreachableError(f"no connection to {target.name}") from error
    except TimeoutError as error:
        raise UnresponsiveError(f"{target.name} has been silent for {SILENCE_SECONDS:.0f} s") from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
        raise LostError(f"the connection to {target.name} was lost") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise BrokenReplyError(f"{target.name} does not speak HTTP as agreed") from error
    except MisbehavedError as error:
        raise BrokenReplyError(f"{target.name} sent {error}") from error


async def bounded(content: aiohttp.StreamReader) -> bytes:
    """Read an answer that is not a stream. Raises ValueError when it is too large."""
    said = b""
    async for chunk in content.iter_any():
        said += chunk
        if len(said) > MAX_ANSWER_BYTES:
            raise ValueError("answer too large")
    return said
