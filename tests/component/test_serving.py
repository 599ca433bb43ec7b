"""A port that strangers reach: heads, connections and unread answers are bounded, whoever sends them."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Send
from tests.component.gateway_world import GatewayWorld, gateway_world

from execpool.serving import BoundedProtocol, bounded

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
START = b"POST /v1/executions HTTP/1.1\r\nHost: x\r\n"
OPENAPI = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def connected(world: GatewayWorld) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.service.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def what_comes(reader: asyncio.StreamReader, seconds: float = 3.0) -> bytes:
    """Everything until the connection ends, which it must."""
    received = b""
    async with asyncio.timeout(seconds):
        try:
            while part := await reader.read(1 << 16):
                received += part
        except ConnectionError:
            pass
    return received


async def answered(reader: asyncio.StreamReader) -> bytes:
    """One answer with a Content-Length; its status line is returned."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(int(length.split(b":")[1]))
    return head.split(b"\r\n", 1)[0]


async def write_for_ever(writer: asyncio.StreamWriter, part: bytes) -> None:
    """Write until the other side ends it."""
    for _ in range(400):
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0)


@pytest.mark.parametrize("head", [b"X-A: ", b"X-A: y\r\n" * 8], ids=["one long value", "many headers"])
async def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(head: bytes) -> None:
    async with gateway_world() as world, connected(world) as (_, writer):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer.write(START + head)
        with pytest.raises(ConnectionError):
            await write_for_ever(writer, (b"a" if head.endswith(b" ") else b"X-A: yyyy\r\n") * 20_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 * 1024


@pytest.mark.parametrize("pieces", [1, 10])
async def test_a_head_that_is_too_large_is_told_so_however_it_comes(pieces: int) -> None:
    async with gateway_world() as world, connected(world) as (reader, writer):
        writer.write(START)
        for _ in range(pieces):
            writer.write(b"X-A: " + b"a" * (70_000 // pieces) + b"\r\n")
            await asyncio.sleep(0.02)
        writer.write(b"\r\n")
        assert (await what_comes(reader)).startswith(b"HTTP/1.1 431 ")


async def test_heads_that_never_end_do_not_keep_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.2)
    async with gateway_world() as world, connected(world) as (reader, writer), connected(world) as (silent, _):
        for _ in range(100):
            writer.write(b"X" if reader.at_eof() else b"\r\n")
            if world.service._api.server_state.connections == set():
                break
            await asyncio.sleep(0.02)
        assert await what_comes(reader) == await what_comes(silent) == b""


async def test_what_trickles_in_after_an_answer_does_not_keep_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_seconds", 0.2)
    async with gateway_world() as world, connected(world) as (reader, writer):
        writer.write(START + b"Content-Length: 100000\r\n\r\nx")
        assert await answered(reader) == b"HTTP/1.1 401 Unauthorized"
        for _ in range(30):
            writer.write(b"x")
            await asyncio.sleep(0.02)
        assert await what_comes(reader) == b""


async def test_a_connection_is_used_again_and_one_with_a_body_unread_too() -> None:
    async with gateway_world() as world, connected(world) as (reader, writer):
        for _ in range(3):
            writer.write(START + b"Content-Length: 3\r\n\r\n")
            await asyncio.sleep(0.01)
            writer.write(b"abc")
            assert await answered(reader) == b"HTTP/1.1 401 Unauthorized"
            writer.write(OPENAPI)
            assert await answered(reader) == b"HTTP/1.1 200 OK"


async def test_requests_are_not_piled_up_before_the_first_is_answered() -> None:
    async with gateway_world() as world, connected(world) as (reader, writer):
        writer.write(OPENAPI * 1000)
        assert (await what_comes(reader)).count(b"HTTP/1.1 200") <= 1
        assert world.service._api.server_state.tasks == set()


async def test_connections_are_limited_and_those_there_go_on() -> None:
    async with (
        gateway_world(max_connections=3) as world,
        connected(world) as (reader, writer),
        connected(world),
        connected(world),
    ):
        await world.until(lambda: len(world.service._api.server_state.connections) == 3)
        async with connected(world) as (refused, _):
            assert await what_comes(refused) == b""
        writer.write(OPENAPI)
        assert await answered(reader) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
async def test_a_server_that_refuses_itself_ends_connections_from_its_own_address_and_over_loopback(
    address: str,
) -> None:
    async def application(_scope: object, _receive: object, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    for refuses, answer in ((False, b"HTTP/1.1 200 OK"), (True, b"")):
        config = uvicorn.Config(application, http=bounded(8, refuses_itself=refuses), lifespan="off", log_config=None)
        server = await asyncio.get_running_loop().create_server(
            lambda config=config: config.http_protocol_class(  # type: ignore[misc]
                config=config, server_state=uvicorn.server.ServerState(), app_state={}
            ),
            "127.0.0.1",
            0,
        )
        port = server.sockets[0].getsockname()[1]
        config.load()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await what_comes(reader)).split(b"\r\n")[0] == answer
        writer.close()
        server.close()
