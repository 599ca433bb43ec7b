"""E2B's data plane in this process: an edge that looks at headers and tokens, in front of real executors or of a script.

    async with edge() as account:
        sandbox = account.scripted("one")                       # or account.in_front_of(real executor)
        async with gateway_world(kube=kube_with(sandbox), pools=[e2b_pool()]) as world: ...

A record is sealed as the operator does it. Nothing here knows of claims: E2B does not.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from tests.component.gateway_world import POOL_UID, ROOT_KEY, Identity, pool

from execpool import protocol
from execpool.api import names
from execpool.core.proof import RootKey
from execpool.core.sealing import SandboxAccess, seal
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import ACCOUNTS, SANDBOXES

Script = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]

END = {"type": "end_of_execution"}
COUNT = {"type": "number_of_executions", "execution_count": 1}
GONE = {"sandboxId": "x", "message": "The sandbox was not found", "code": 502}


def said(text: str) -> dict[str, Any]:
    return {"type": "stdout", "text": text, "timestamp": "2026-01-01T00:00:00Z"}


def stamp(seconds_from_now: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds_from_now)).strftime("%Y-%m-%dT%H:%M:%SZ")


def answering(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Script:
    """A script that answers so instead."""

    async def script(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(body if body is not None else {}, status=status, headers=headers)

    return script


def streaming(*events: Any, hold: float = 0.0, cut: bool = False) -> Script:
    """A script that streams these events (bytes as they are), then waits, then ends its answer or breaks it."""

    async def script(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write((event if isinstance(event, bytes) else orjson.dumps(event)) + b"\n")
        await asyncio.sleep(hold)
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return script


@dataclass
class Sandbox:
    """One sandbox: what E2B knows of it, and the record that the operator keeps."""

    name: str
    url: str
    uid: str = field(default_factory=lambda: secrets.token_hex(8))
    sandbox_id: str = field(default_factory=lambda: "i" + secrets.token_hex(10))
    envd_token: str = field(default_factory=lambda: secrets.token_hex(16))
    traffic_token: str = field(default_factory=lambda: secrets.token_hex(16))
    upstream: str = ""
    upstream_headers: dict[str, str] = field(default_factory=dict)
    is_there: bool = True
    scripts: list[Script] = field(default_factory=list)
    """Used one by one for /execute, before what it does otherwise."""
    context_scripts: list[Script] = field(default_factory=list)
    """The same for /contexts."""
    calls: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Of /execute."""
    contexts: set[str] = field(default_factory=set)
    running: int = 0

    def access(self, url: str | None = None) -> SandboxAccess:
        return SandboxAccess(self.sandbox_id, url or self.url, self.envd_token, self.traffic_token)

    def sealed(self, key: RootKey = ROOT_KEY, url: str | None = None) -> str:
        return seal(key, self.uid, self.access(url), secrets.token_bytes(12))

    def record(self, *, expires_in: float = 900, account: str = "main", tier: str = "e2b", **status: Any) -> Any:
        return {
            "metadata": {
                "name": self.name,
                "uid": self.uid,
                "labels": {names.LABEL_POOL: "agents", names.LABEL_POOL_UID: POOL_UID, names.LABEL_TIER: tier},
                "finalizers": ["execpool.dev/sandbox"],
            },
            "spec": {
                "pool": "agents",
                "tier": tier,
                "account": {"name": account},
                "template": "code-interpreter-v1",
                "templateHash": "t1",
                "attempt": 1,
                "attemptAt": "2026-01-01T00:00:00Z",
            },
            "status": {
                "phase": "Ready",
                "sandboxID": self.sandbox_id,
                "expiresAt": stamp(expires_in),
                "sealedTokens": self.sealed(),
                **status,
            },
        }


class Edge:
    """All sandboxes of an account behind one address."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self.sandboxes: dict[str, Sandbox] = {}
        self.refused: list[int] = []
        self._http = http

    def scripted(self, name: str, *scripts: Script) -> Sandbox:
        """Return a sandbox that runs nothing: it says `ran` unless its script says otherwise."""
        return self._add(Sandbox(name, self.url, scripts=list(scripts)))

    async def in_front_of(self, identity: Identity) -> Sandbox:
        """Return a sandbox whose code runs in a real executor."""
        grant = await self._claimed(identity)
        headers = {protocol.HEADER_TOKEN: grant.token, protocol.HEADER_EPOCH: str(grant.epoch)}
        upstream = f"http://{identity.address}:{protocol.DATA_PORT}"
        return self._add(Sandbox(identity.name, self.url, upstream=upstream, upstream_headers=headers))

    def _add(self, sandbox: Sandbox) -> Sandbox:
        self.sandboxes[sandbox.sandbox_id] = sandbox
        return sandbox

    async def _claimed(self, identity: Identity) -> protocol.ClaimGrant:
        url = f"http://{identity.address}:{protocol.CONTROL_PORT}/claim"
        body = protocol.ClaimRequest(identity.secret, "the-account").encode()
        async with self._http.post(url, data=body) as response:
            assert response.status == 200, await response.text()
            return protocol.ClaimGrant.decode(await response.read())

    async def serve(self, request: web.Request) -> web.StreamResponse:
        sandbox = self.sandboxes.get(request.headers.get("E2b-Sandbox-Id", ""))
        if sandbox is None or not sandbox.is_there:
            return web.json_response(GONE, status=502)
        status = self._refusal(request, sandbox)
        if status:
            self.refused.append(status)
            return web.json_response({"message": "no"}, status=status)
        sandbox.calls.append(f"{request.method} {request.path}")
        body = orjson.loads(await request.read() or b"{}")
        if request.path == "/execute":
            sandbox.bodies.append(body)
            sandbox.running += 1
            try:
                return await self._execute(request, sandbox, body)
            finally:
                sandbox.running -= 1
        return await self._contexts(request, sandbox, body)

    def _refusal(self, request: web.Request, sandbox: Sandbox) -> int:
        if request.headers.get("E2B-Traffic-Access-Token") != sandbox.traffic_token:
            return 403
        if request.headers.get("E2b-Sandbox-Port") != str(protocol.DATA_PORT):
            return 502
        return 0 if request.headers.get("X-Access-Token") == sandbox.envd_token else 401

    async def _execute(self, request: web.Request, sandbox: Sandbox, body: dict[str, Any]) -> web.StreamResponse:
        if sandbox.scripts:
            return await sandbox.scripts.pop(0)(request, body)
        if sandbox.upstream:
            return await self._forward(request, sandbox, body)
        if body["context_id"] not in sandbox.contexts:
            return web.Response(status=404, text=f"Context {body['context_id']} not found")
        return await streaming(COUNT, said("ran"), END)(request, body)

    async def _contexts(self, request: web.Request, sandbox: Sandbox, body: dict[str, Any]) -> web.StreamResponse:
        if sandbox.context_scripts:
            return await sandbox.context_scripts.pop(0)(request, body)
        if request.method == "DELETE":
            sandbox.contexts.discard(request.path.rsplit("/", 1)[1])
        if sandbox.upstream:
            return await self._forward(request, sandbox, body)
        if request.method == "DELETE":
            return web.json_response(None)
        context = secrets.token_hex(8)
        sandbox.contexts.add(context)
        return web.json_response({"id": context, "language": "python", "cwd": "/home/user"})

    async def _forward(self, request: web.Request, sandbox: Sandbox, body: dict[str, Any]) -> web.StreamResponse:
        headers = {**sandbox.upstream_headers, protocol.HEADER_EXECUTION: secrets.token_hex(8)}
        url = sandbox.upstream + request.path
        async with self._http.request(request.method, url, data=orjson.dumps(body), headers=headers) as upstream:
            response = web.StreamResponse(status=upstream.status)
            await response.prepare(request)
            async for chunk in upstream.content.iter_any():
                if request.method == "POST" and request.path == "/contexts" and upstream.status == 200:
                    sandbox.contexts.add(orjson.loads(chunk)["id"])
                await response.write(chunk)
        return response


@asynccontextmanager
async def edge() -> AsyncIterator[Edge]:
    """Serve an account's data plane on a loopback port."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        account = Edge("", http)
        app = web.Application(client_max_size=4 << 20)
        app.router.add_route("*", "/{path:.*}", account.serve)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        account.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield account
        finally:
            await runner.cleanup()


def e2b_tier(**fields: Any) -> dict[str, Any]:
    return {"name": "e2b", "e2b": {"accountRef": {"name": "main"}, "max": 16, **fields}}


def e2b_pool(*before: dict[str, Any], tier: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a pool whose last tier is `e2b`."""
    return pool(tiers=[*before, tier or e2b_tier()], scaledTier="e2b", **spec)


def account(**limits: Any) -> dict[str, Any]:
    return {"metadata": {"name": "main"}, "spec": {"credentialsSecret": "e2b", "limits": limits}}


def kube_with(*sandboxes: Sandbox, limits: dict[str, Any] | None = None) -> FakeKube:
    """Return an API server with an account and the records of these sandboxes."""
    kube = FakeKube()
    kube.put(ACCOUNTS, "team", account(**limits or {}))
    for number, sandbox in enumerate(sandboxes):
        record = sandbox.record()
        record["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{number:02}Z"  # older ones are claimed first
        kube.put(SANDBOXES, "team", record)
    return kube


def record_writes(kube: FakeKube) -> list[Call]:
    """Return the writes to records."""
    return [call for call in kube.writes() if call.plural == SANDBOXES.plural]
