"""What one request of envd may cost: of bodies, queries, and output that waits."""

import asyncio
from typing import Any

import pytest

from execpool.executor.server.envd import codec
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.exchange import PIECE_BYTES, Exchange
from execpool.executor.server.envd.process import ROOM_BYTES, Config, Process
from execpool.executor.server.http import ClientGone


class Client:
    """The other side of an exchange: a body in chunks, what was answered, and a hang-up."""

    def __init__(self, *chunks: bytes, query: bytes = b"") -> None:
        self.chunks = list(chunks)
        self.taken = 0
        self.sent: list[Any] = []
        self.gone = asyncio.Event()
        scope = {
            "method": "POST",
            "path": "/",
            "query_string": query,
            "headers": [],
            "extensions": {"execpool.abort": self.gone.set},
        }
        self.exchange = Exchange(scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if self.taken == len(self.chunks):
            await self.gone.wait()
            return {"type": "http.disconnect"}
        self.taken += 1
        more = self.taken < len(self.chunks)
        return {"type": "http.request", "body": self.chunks[self.taken - 1], "more_body": more}

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


async def test_a_second_message_where_one_is_due_is_refused_as_it_comes() -> None:
    client = Client(*[bytes(5) * 1000] * 100)
    with pytest.raises(EnvdError, match="more than one message"):
        await client.exchange.only_message()
    assert client.taken == 1


async def test_the_one_message_of_a_stream_may_be_as_long_as_any_and_no_longer() -> None:
    body = b'{"a":"' + b"x" * (codec.MAX_MESSAGE_BYTES - 8) + b'"}'
    head = b"\0" + len(body).to_bytes(4, "big")
    assert len((await Client(head, body).exchange.only_message())["a"]) == codec.MAX_MESSAGE_BYTES - 8
    with pytest.raises(EnvdError):
        await Client(head, body + b"\0").exchange.only_message()


async def test_a_query_of_too_many_fields_is_refused_when_it_is_read() -> None:
    exchange = Client(query=b"&".join(b"a%d=1" % number for number in range(40))).exchange
    with pytest.raises(EnvdError, match="more than 32 fields"):
        _ = exchange.query


async def test_what_is_done_for_a_client_ends_when_it_goes_after_its_whole_request() -> None:
    client = Client(b"{", b"}")
    asyncio.get_running_loop().call_later(0.01, client.gone.set)

    async def serve() -> None:
        async with client.exchange.while_client_waits():
            assert await client.exchange.message() == {}
            await asyncio.sleep(60)

    with pytest.raises(ClientGone):
        await serve()


async def test_a_long_answer_leaves_in_pieces() -> None:
    client = Client()
    await client.exchange.answer(200, bytes(3 * PIECE_BYTES - 1))
    sizes = [len(message["body"]) for message in client.sent[1:]]
    assert sizes == [PIECE_BYTES, PIECE_BYTES, PIECE_BYTES - 1]
    assert [message["more_body"] for message in client.sent[1:]] == [True, True, False]


def test_output_in_single_bytes_fills_a_listener_by_what_it_takes_to_keep() -> None:
    process = Process(Config("yes", (), {}, "", None), {}, None)
    listener = process.listen()
    for _ in range(ROOM_BYTES // 512):
        process._spread("stdout", b"x")
    assert listener.full
