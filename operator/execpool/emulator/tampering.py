"""Sends answers, as they are or with an ordered fault."""

import asyncio
from collections.abc import AsyncIterator

from execpool.e2b_server.errors import RefusedError
from execpool.e2b_server.exchange import Answer, CallerGoneError, Exchange, RawHeaders
from execpool.emulator.faults import Fault, Kind

Pieces = AsyncIterator[bytes]

_MALFORMED = b'{"sandboxID": "i0123456789'
_LENGTH = b"content-length"
_STREAMS = (b"application/x-ndjson", b"application/connect+json")
_LEAVES_SECONDS = 0.05
"""So that what was sent leaves before the connection is reset."""


class OrderedError(RefusedError):
    """An error that was ordered."""

    def __init__(self, fault: Fault) -> None:
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        if fault.should_retry is not None:
            headers["Should-Retry"] = str(fault.should_retry).lower()
        super().__init__(fault.message, headers)
        self.status = fault.status


async def send(exchange: Exchange, status: int, headers: RawHeaders, pieces: Pieces) -> None:
    """Send an answer as it comes."""
    await exchange.begin(status, headers)
    async for piece in pieces:
        await exchange.part(piece)
    await exchange.part(b"", last=True)


async def send_instead(fault: Fault, exchange: Exchange, status: int) -> None:
    """Give a fault in the place of an answer that would have had this status: nothing else has happened."""
    await send_with(fault, exchange, status, [(b"content-type", b"application/json")], _of(b""))


async def send_with(fault: Fault, exchange: Exchange, status: int, headers: RawHeaders, pieces: Pieces) -> None:
    """Send an answer with a fault.

    Raises:
        CallerGoneError: the fault is that the connection breaks.
    """
    open_ended = [header for header in headers if header[0] != _LENGTH]
    match fault.kind:
        case Kind.STATUS:
            await _drain(pieces)
            await exchange.answer(Answer.refusal(OrderedError(fault)))
        case Kind.MALFORMED:
            await _drain(pieces)
            await send(exchange, status, open_ended, _of(_MALFORMED))
        case Kind.HANG:
            await _drain(pieces)
            await _hang(exchange, fault.seconds)
        case Kind.RESET:
            await _begin_and_reset(exchange, status, open_ended, pieces)
        case Kind.DRIP:
            await send(exchange, status, open_ended, _dripping(pieces, fault))
        case Kind.TRUNCATE:
            await send(exchange, status, open_ended, _truncated(pieces, fault.bytes))
        case Kind.DELAY:
            await asyncio.sleep(fault.seconds)
            await send(exchange, status, headers, pieces)


async def _begin_and_reset(exchange: Exchange, status: int, headers: RawHeaders, pieces: Pieces) -> None:
    """Reset the connection; of an answer that is a stream, once its first piece has been sent."""
    first = await anext(pieces, b"")
    if _is_stream(headers):
        await exchange.begin(status, headers)
        await exchange.part(first)
        await asyncio.sleep(_LEAVES_SECONDS)
    raise CallerGoneError


def _is_stream(headers: RawHeaders) -> bool:
    return dict(headers).get(b"content-type", b"").startswith(_STREAMS)


async def _hang(exchange: Exchange, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await exchange.until_gone()
    except TimeoutError:
        raise CallerGoneError from None


async def _dripping(pieces: Pieces, fault: Fault) -> Pieces:
    async for piece in pieces:
        for start in range(0, len(piece), fault.bytes):
            yield piece[start : start + fault.bytes]
            await asyncio.sleep(fault.seconds)


async def _truncated(pieces: Pieces, most: int) -> Pieces:
    left = most
    async for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


async def _drain(pieces: Pieces) -> None:
    async for _ in pieces:
        pass


async def _of(body: bytes) -> Pieces:
    yield body
