"""A gateway under load, an edge whose sandboxes a script answers for, and an API server in memory: all in one process.

A record that the gateway ends is replaced by a new one, as the operator does. A fault is given to each request at its site
while it is on; once, or as long as it is on.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web

from execpool.kube.errors import KubeError, UnreachableError, refusal
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import SANDBOXES
from tests.component.e2b_sandboxes import COUNT, END, Edge, Sandbox, e2b_pool, edge, kube_with, said, streaming
from tests.component.gateway_world import GatewayWorld, gateway_world

BEFORE_SECONDS, SUSTAINED_SECONDS, AFTER_SECONDS = 3, 20, 35
RUNS_PER_SECOND = 4
USERS = 8
"""Each has a sandbox of its own: fewer open no breaker, whatever their sandboxes answer (docs/decisions.md, 35)."""
SANDBOXES_WARM = 4
WAIT_SECONDS, RUN_SECONDS = 10, 5
DISCONNECTED = "Disconnected"


@dataclass(frozen=True)
class Answered:
    """An answer instead of the sandbox's."""

    status: int = 200
    body: bytes = b'{"message": "ordered"}'
    headers: tuple[tuple[str, str], ...] = ()
    commits: bool = False
    breaks: bool = False
    hangs: bool = False


LOST = b'{"sandboxId": "x", "message": "The sandbox was not found", "code": 502}'
CLOSED = b'{"message": "The sandbox is running but port is not open", "code": 502}'
CALL_FAULTS = {
    **{str(status): Answered(status) for status in (400, 401, 403, 404, 409, 500)},
    "429-paced": Answered(429, headers=(("Retry-After", "2"),)),
    "429-bare": Answered(429),
    "502-lost": Answered(502, LOST),
    "502-closed": Answered(502, CLOSED),
    "503-retry-after": Answered(503, headers=(("Retry-After", "2"),)),
    "504-committed": Answered(504, commits=True),
    "307": Answered(307, headers=(("Location", "http://127.0.0.1:9/"),)),
    "oversize": Answered(500, b"x" * 3_000_000),
    "reset": Answered(breaks=True),
    "reset-committed": Answered(breaks=True, commits=True),
    "hang": Answered(hangs=True),
    "garbage": Answered(200, b'{"id": ', commits=True),
}
WRITE_FAULTS: dict[str, KubeError] = {
    **{
        str(status): refusal(status, {"message": "ordered"}) for status in (400, 401, 403, 404, 409, 422, 429, 500, 503)
    },
    "504-committed": refusal(504, {"message": "ordered"}),
    "reset": UnreachableError("ordered"),
    "reset-committed": UnreachableError("ordered"),
}
SITES = {
    "context": ("POST", "/contexts"),
    "execute": ("POST", "/execute"),
    "end-context": ("DELETE", "/contexts"),
    "claim": ("patch", ""),
    "end-claim": ("delete", ""),
}


@dataclass(frozen=True)
class GatewayCell:
    """One plan."""

    site: str
    fault: str
    is_sustained: bool

    def __str__(self) -> str:
        return f"{self.site}: {self.fault} {'sustained' if self.is_sustained else 'once'}"

    @classmethod
    def read(cls, text: str) -> Self:
        site, _, rest = text.partition(": ")
        fault, duration = rest.split()
        return cls(site, fault, duration == "sustained")


@dataclass
class Load:
    """The scene, the fault in it, and what is counted."""

    cell: GatewayCell
    account: Edge
    kube: FakeKube
    gateway: GatewayWorld
    is_on: bool = False
    met: int = 0
    names: int = 0
    lost: int = 0
    started: Counter[str] = field(default_factory=Counter)
    executes: int = 0
    ends: list[tuple[float, float, str]] = field(default_factory=list)
    """Of each run: when it was asked for, how long it took, what came of it."""

    def add_sandbox(self) -> None:
        self.names += 1
        one = self.account.scripted(f"one-{self.names}")
        one.scripts = one.context_scripts = _Meddled(self, one)  # type: ignore[assignment]
        self.kube.put(SANDBOXES, "team", one.record(expires_in=100_000))

    def takes(self) -> bool:
        """True when the fault is to be given to a request at its site."""
        if not self.is_on or (self.met and not self.cell.is_sustained):
            return False
        self.met += 1
        return True

    def ends_one(self) -> bool:
        """True when a sandbox is to be found lost, so that its claim is ended."""
        self.lost += self.is_on and self.cell.site == "end-claim"
        return self.is_on and 0 < self.lost <= USERS

    def before(self, call: Call) -> None:
        if not self.cell.fault.endswith("committed") and self._is_site(call) and self.takes():
            raise WRITE_FAULTS[self.cell.fault]

    def after(self, call: Call) -> None:
        if self.cell.fault.endswith("committed") and self._is_site(call) and self.takes():
            raise WRITE_FAULTS[self.cell.fault]

    def _is_site(self, call: Call) -> bool:
        return "claim" in self.cell.site and (call.verb, call.plural) == (SITES[self.cell.site][0], SANDBOXES.plural)

    async def replenish(self) -> None:
        """What the operator does: end what is to end, and have so many warm."""
        while True:
            records = self.kube.peek(SANDBOXES)
            for record in records:
                if record["metadata"].get("deletionTimestamp"):
                    self.kube.drop(SANDBOXES, "team", record["metadata"]["name"])
            free = [one for one in self.kube.peek(SANDBOXES) if one["status"]["phase"] == "Ready"]
            for _ in range(SANDBOXES_WARM - len(free)):
                self.add_sandbox()
            await self.kube.notify()
            await asyncio.sleep(0.5)

    async def run(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        phase = "during" if self.is_on and self.cell.site == "claim" else "u"  # newcomers, for whom claims are made
        fields = {"user": f"{phase}{number % USERS}", "timeoutSeconds": RUN_SECONDS, "maxWaitSeconds": WAIT_SECONDS}
        try:
            reply = await self.gateway.post({"code": f"run-{number}", **fields}, headers={"Connection": "close"})
        except aiohttp.ClientConnectionError:  # a hurried gateway gives a request a second to come
            end: Any = DISCONNECTED
        else:
            end = reply.body.get("status") if reply.status == 200 else reply.body.get("reason", reply.status)
        self.ends.append((began, loop.time() - began, str(end)))


class _Meddled:
    """In the place of a sandbox's scripts: answers every request, with the fault where it is due."""

    def __init__(self, load: Load, sandbox: Sandbox) -> None:
        self._load, self._sandbox = load, sandbox

    def pop(self, _first: int) -> Any:
        return self._serve

    async def _serve(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        method, path = SITES[self._load.cell.site]
        is_execute = request.path == "/execute"
        self._load.executes += is_execute
        if request.method == method and path and request.path.startswith(path) and self._load.takes():
            return await self._meddle(CALL_FAULTS[self._load.cell.fault], request, body)
        if is_execute and self._load.ends_one():
            return web.Response(status=502, body=LOST)
        if is_execute:
            self._load.started[body["code"]] += 1
            return await streaming(COUNT, said("ran"), END)(request, body)
        return web.json_response({"id": secrets.token_hex(8), "language": "python", "cwd": "/home/user"})

    async def _meddle(self, fault: Answered, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if fault.commits and request.path == "/execute":
            self._load.started[body["code"]] += 1
        if fault.hangs:
            await asyncio.sleep(3600)
        if fault.breaks and request.transport is not None:
            request.transport.abort()
        return web.Response(status=fault.status, body=fault.body, headers=dict(fault.headers))


@asynccontextmanager
async def load(cell: GatewayCell) -> AsyncIterator[Load]:
    async with edge() as account:
        kube = kube_with()
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as gateway:
            one = Load(cell, account, kube, gateway)
            kube.before, kube.after = one.before, one.after
            keeper = asyncio.create_task(one.replenish())
            try:
                yield one
            finally:
                keeper.cancel()
