"""An executor that follows a script: for faults that a real one cannot be made to have.

It keeps the claim protocol honestly unless told otherwise, and answers /execute with whatever bytes its script says.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.component.gateway_world import Identity

from execpool import protocol

Script = Callable[[asyncio.StreamWriter, dict[str, Any]], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
FINISH = b"0\r\n\r\n"


def chunk(*lines: bytes) -> bytes:
    """Return lines as one chunk of a chunked body."""
    body = b"".join(line + b"\n" for line in lines)
    return b"%x\r\n%s\r\n" % (len(body), body)


def end(status: str = "Succeeded", **fields: Any) -> bytes:
    return json.dumps({"type": "end_of_execution", "status": status, "wall_seconds": 0.01} | fields).encode()


def answering(status: int) -> Script:
    """A script that answers an error."""

    async def script(writer: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        writer.write(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\n{}" % status)

    return script


def sending(*parts: bytes, close: bool = False, before_close: float = 0.0) -> Script:
    """A script that sends these bytes."""

    async def script(writer: asyncio.StreamWriter, _: dict[str, Any]) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if close:
            await asyncio.sleep(before_close)
            writer.close()

    return script


async def succeeding(writer: asyncio.StreamWriter, _: dict[str, Any]) -> None:
    """A script that ends well at once."""
    writer.write(OK + chunk(b'{"type":"stdout","text":"ran"}', end()) + FINISH)


async def hanging(writer: asyncio.StreamWriter, _: dict[str, Any]) -> None:
    """A script that takes the execution and never says how it ended."""
    writer.write(OK + chunk(b'{"type":"number_of_executions","execution_count":1}'))


@dataclass
class ScriptedExecutor:
    """What it has been asked, and how it answers."""

    identity: Identity
    script: Script = succeeding
    scripts: list[Script] = field(default_factory=list)
    """Used one by one before `script`."""
    control_status: dict[str, int] = field(default_factory=dict)
    control_reply: dict[str, bytes] = field(default_factory=dict)
    control_delay: float = 0.0
    principal: str | None = None
    epoch: int = 0
    token: str = "token-1"
    calls: list[str] = field(default_factory=list)
    claimed_for: list[str] = field(default_factory=list)
    executions: list[str] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    connections: list[asyncio.StreamWriter] = field(default_factory=list)
    held: "asyncio.Event | None" = None
    """When set to an event, every run waits for it before it ends well."""

    async def control(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        self.calls.append(path)
        await asyncio.sleep(self.control_delay)
        if path in self.control_status:
            return self.control_status[path], b"{}"
        if path in self.control_reply:
            return 200, self.control_reply[path]
        me = self.identity
        if path == "/challenge":
            if body["pod_uid"] != me.uid:
                return 421, b"{}"
            hashed = protocol.secret_hash(me.secret)
            proof = protocol.prove(hashed, body["nonce"], me.uid, me.executor_id)
            return 200, protocol.Proof(me.executor_id, proof).encode()
        if path == "/claim":
            return self._claim(body)
        if path == "/state":
            return 200, self._state()
        return 200, b"{}"

    def _claim(self, body: dict[str, Any]) -> tuple[int, bytes]:
        if body["secret"] != self.identity.secret:
            return 403, b"{}"
        if self.principal not in (None, body["principal"]):
            return 409, b"{}"
        self.principal = body["principal"]
        self.claimed_for.append(self.principal)
        self.epoch += 1
        return 200, protocol.ClaimGrant(self.token, self.epoch, self.identity.slots).encode()

    def _state(self) -> bytes:
        claim = None
        if self.principal is not None:
            claim = {"principal": self.principal, "epoch": self.epoch, "held_seconds": 1.0, "idle_seconds": 0.0}
            claim |= {"running": self.running, "executions": len(self.executions)}
        me = self.identity
        return protocol.State(me.executor_id, me.uid, "Warm", "Closed", me.slots, 1.0, claim).encode()

    async def execute(self, writer: asyncio.StreamWriter, headers: dict[str, str], body: dict[str, Any]) -> None:
        if headers.get(protocol.HEADER_TOKEN.lower()) != self.token:
            await answering(401)(writer, body)
            return
        if headers.get(protocol.HEADER_EPOCH.lower()) != str(self.epoch):
            await answering(412)(writer, body)
            return
        self.executions.append(headers[protocol.HEADER_EXECUTION.lower()])
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            if self.held is not None:
                writer.write(OK)
                await self.held.wait()
                writer.write(chunk(end()) + FINISH)
            else:
                await (self.scripts.pop(0) if self.scripts else self.script)(writer, body)
        finally:
            self.running -= 1


@asynccontextmanager
async def scripted(*executors: ScriptedExecutor) -> AsyncIterator[None]:
    """Serve these executors at their addresses."""
    servers = [
        await asyncio.start_server(_serving(one), one.identity.address, port)
        for one in executors
        for port in (protocol.DATA_PORT, protocol.CONTROL_PORT)
    ]
    try:
        yield
    finally:
        for server in servers:
            server.close()


def _serving(executor: ScriptedExecutor) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        executor.connections.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = head[0].split(" ")[1]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
                raw = await reader.readexactly(int(headers.get("content-length", "0")))
                body = json.loads(raw) if raw else {}
                if path == "/execute":
                    await executor.execute(writer, headers, body)
                else:
                    status, reply = await executor.control(path, body)
                    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(reply), reply))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    return serve
