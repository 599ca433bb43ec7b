"""What requests and answers may hold of the gateway's memory, and for how long."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from tests.component.gateway_world import OTHER_SECRET, SECRET, GatewayWorld, Identity, gateway_world, key, pool
from tests.component.scripted_executor import FINISH, OK, ScriptedExecutor, chunk, end, scripted, sending

from execpool.gateway import replies

RESULT = chunk(json.dumps({"type": "result", "png": "r" * 1_300_000}).encode())
BIG = sending(OK, RESULT, RESULT, RESULT, chunk(end()) + FINISH)
MIB = 1 << 20


def request(*headers: bytes, body: bytes = b'{"code":"1"}', secret: str = SECRET, lacking: int = 0) -> bytes:
    """A request; `lacking` bytes of its body are left out."""
    length = b"Content-Length: %d" % (len(body) + lacking)
    lines = (b"POST /v1/executions HTTP/1.1", b"Host: x", b"Authorization: Bearer " + secret.encode(), length, *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@asynccontextmanager
async def sent(world: GatewayWorld, what: bytes) -> AsyncIterator[socket.socket]:
    """A caller that sends and does not read."""
    loop = asyncio.get_running_loop()
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.setblocking(False)
        await loop.sock_connect(caller, ("127.0.0.1", world.service.port))
        await loop.sock_sendall(caller, what)
        yield caller


def unsent(world: GatewayWorld) -> int:
    """Bytes that wait in transports."""
    return sum(one.transport.get_write_buffer_size() for one in world.service._api.server_state.connections)


def held(world: GatewayWorld) -> int:
    """Bytes that count against the budget."""
    return world.service._budget._total


@pytest.mark.parametrize("header", [b"X: y", b"Accept: application/x-ndjson", b"Connection: close"])
async def test_an_answer_that_nobody_reads_is_not_kept(monkeypatch: pytest.MonkeyPatch, header: bytes) -> None:
    monkeypatch.setattr(replies, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(replies, "SLOWEST_BYTES_PER_SECOND", 100 << 20)
    big = ScriptedExecutor(Identity("big"), script=BIG)
    async with scripted(big), gateway_world(big.identity) as world:
        async with sent(world, request(header)), sent(world, request(header)):
            await world.until(lambda: len(big.executions) == 2 and world.service.active() == 0)
            assert unsent(world) < 2 * 200_000
            await world.until(lambda: not world.service._api.server_state.connections, 3)
        assert held(world) == 0


async def test_an_answer_that_is_read_slowly_comes_whole() -> None:
    big = ScriptedExecutor(Identity("big"), script=BIG)
    async with (
        scripted(big),
        gateway_world(big.identity) as world,
        sent(world, request(b"Connection: close")) as caller,
    ):
        received = 0
        async with asyncio.timeout(10):
            while part := await asyncio.get_running_loop().sock_recv(caller, 1 << 17):
                received += len(part)
        assert received > 3_900_000


async def test_bodies_have_a_budget_and_are_refused_beyond_it() -> None:
    part = request(body=b"x" * MIB, lacking=1)
    limits: dict[str, Any] = {"max_pending_bytes": 5 * MIB // 2, "max_pending_bytes_per_tenant": 4 * MIB}
    async with gateway_world(**limits) as world:
        async with sent(world, part), sent(world, part):
            await world.until(lambda: held(world) == 2 * MIB)
            refused = await world.post({"code": "#" * MIB})
            assert (refused.status, refused.body["reason"]) == (503, "NoCapacity")
            assert refused.headers["Retry-After"] == "1"
            assert (await world.post({"code": "1", "maxWaitSeconds": 0})).body["reason"] == "WaitTooLong"
        await world.until(lambda: held(world) == 0)
        assert (await world.post({"code": "#" * MIB, "maxWaitSeconds": 0})).body["reason"] == "WaitTooLong"
        assert held(world) == 0


async def test_a_tenant_cannot_use_up_the_budget_and_those_who_wait_count() -> None:
    keys = [key(), key(OTHER_SECRET, name="other", tenant="other")]
    async with gateway_world(keys=keys, max_pending_bytes_per_tenant=3 * MIB // 2) as world:
        waiting = asyncio.create_task(world.post({"code": "#" * (MIB - 100)}))
        await world.until(lambda: world.waiting() == 1)
        refused = await world.post({"code": "#" * (MIB - 100)})
        assert (refused.status, refused.body["reason"]) == (503, "NoCapacity")
        assert "tenant acme has" in refused.body["detail"]
        other = await world.post({"code": "#" * (MIB - 100), "maxWaitSeconds": 0}, secret=OTHER_SECRET)
        assert other.body["reason"] == "WaitTooLong"
        waiting.cancel()
        await world.until(lambda: held(world) == 0)


async def test_those_who_wait_do_not_start_while_their_tenants_answers_are_not_read() -> None:
    big = ScriptedExecutor(Identity("big", slots=1), script=BIG)
    callers = 12
    async with (
        scripted(big),
        gateway_world(big.identity, pools=[pool(slots=1)], max_pending_bytes_per_tenant=6 * MIB) as world,
        AsyncExitStack() as stack,
    ):
        for _ in range(callers):
            await stack.enter_async_context(sent(world, request()))
        await world.until(lambda: world.service.active() == 0)
        assert len(big.executions) <= 3
        assert held(world) < 13 * MIB
        refused = await world.post({"code": "1"})
        assert (refused.status, refused.body["reason"]) == (503, "NoCapacity")
