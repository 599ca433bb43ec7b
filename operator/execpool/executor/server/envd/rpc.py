"""Connect's two kinds of calls on the HTTP edge: one message for one, or a stream; and how each tells an error."""

from collections.abc import Awaitable, Callable

from execpool.executor.agent_wire import Code
from execpool.executor.server.envd import codec
from execpool.executor.server.envd.codec import Message
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.exchange import Exchange, deadline

Unary = Callable[[Message], Awaitable[Message]]
Stream = Callable[[Exchange, Message], Awaitable[None]]
Upstream = Callable[[Exchange], Awaitable[Message]]

_JSON = "application/json"
_STREAM = "application/connect+json"


async def unary(exchange: Exchange, method: Unary) -> None:
    """Answer a call of one message by one message."""
    if not await _of_type(exchange, _JSON):
        return
    try:
        _not_packed(exchange.header("Content-Encoding"))
        async with deadline(exchange.milliseconds("Connect-Timeout-Ms")):
            answer = await method(await exchange.message())
    except EnvdError as error:
        await exchange.answer_json(error.connect(), error.connect_status)
    else:
        await exchange.answer_json(answer)


async def downstream(exchange: Exchange, method: Stream) -> None:
    """Answer a call of one message by a stream, which `method` begins and ends."""
    if not await _of_type(exchange, _STREAM):
        return
    try:
        _not_packed(exchange.header("Connect-Content-Encoding"))
        await method(exchange, await exchange.only_message())
    except EnvdError as error:
        await _end(exchange, error)


async def upstream(exchange: Exchange, method: Upstream) -> None:
    """Answer a stream by one message."""
    if not await _of_type(exchange, _STREAM):
        return
    try:
        _not_packed(exchange.header("Connect-Content-Encoding"))
        async with deadline(exchange.milliseconds("Connect-Timeout-Ms")):
            answer = await method(exchange)
    except EnvdError as error:
        await _end(exchange, error)
    else:
        await exchange.begin_messages()
        await exchange.send(codec.envelope(answer) + codec.end(), last=True)


async def _end(exchange: Exchange, error: EnvdError) -> None:
    """End a stream with an error, beginning it if it has not begun."""
    if not exchange.answering:
        await exchange.begin_messages()
    await exchange.send(codec.end(error), last=True)


async def _of_type(exchange: Exchange, wanted: str) -> bool:
    """True for a request of the type that is spoken here; another has been answered as Connect says."""
    if exchange.header("Content-Type").partition(";")[0].strip().lower() == wanted:
        return True
    await exchange.answer(415, b"", [(b"accept-post", wanted.encode())])
    return False


def _not_packed(encoding: str) -> None:
    if encoding.strip().lower() not in ("", "identity"):
        raise EnvdError(Code.UNIMPLEMENTED, f'unknown compression "{encoding[:64]}": supported encodings are identity')
