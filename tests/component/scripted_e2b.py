"""E2B's control plane over real HTTP, on a clock of the test's: a ledger that is the truth, and faults on demand.

It speaks create (v2), list (v2), connect, timeout and kill as `e2b-protocol` has them. `fault` is asked about each request:

    Status(code, retry_after, commits)   answer with it; what was asked for happens only if `commits`
    Reset(commits)                       end the connection without an answer
    Hang(commits)                        never answer
    Late(seconds)                        never answer, and do it only then
"""

import asyncio
import itertools
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

KEY = "e2b_00"


@dataclass(frozen=True)
class Status:
    code: int
    retry_after: str | None = None
    commits: bool = False
    body: str = '{"code": 0, "message": "scripted"}'


@dataclass(frozen=True)
class Reset:
    commits: bool = False


@dataclass(frozen=True)
class Hang:
    commits: bool = False


@dataclass(frozen=True)
class Late:
    seconds: float


Fault = Status | Reset | Hang | Late


@dataclass
class Sandbox:
    id: str
    template: str
    tag: dict[str, str]
    started_at: float
    deadline: float
    shown_at: float
    killed_at: float | None = None


@dataclass
class ScriptedE2B:
    clock: Callable[[], float]
    key: str = KEY
    cap: int = 1000
    lag: float = 0.0
    page: int = 100
    ignores_filter: bool = False
    fault: Callable[[str], Fault | None] = lambda _operation: None
    on_make: Callable[[dict[str, str]], None] = lambda _tag: None
    sandboxes: dict[str, Sandbox] = field(default_factory=dict)
    requests: list[tuple[float, str]] = field(default_factory=list)
    idempotency_keys: list[str] = field(default_factory=list)
    most_of_one_record: int = 0
    url: str = ""
    _late: list[tuple[float, Callable[[], Any]]] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: itertools.count(1))
    _runner: web.AppRunner | None = None
    _port: int = 0

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v2/sandboxes", self._create)
        app.router.add_get("/v2/sandboxes", self._list)
        app.router.add_post("/v2/sandboxes/{id}/connect", self._connect)
        app.router.add_post("/sandboxes/{id}/timeout", self._timeout)
        app.router.add_delete("/sandboxes/{id}", self._kill)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # The truth

    def alive(self) -> dict[str, Sandbox]:
        self._catch_up()
        now = self.clock()
        return {one.id: one for one in self.sandboxes.values() if one.killed_at is None and one.deadline > now}

    def count(self, operation: str) -> int:
        return sum(name == operation for _, name in self.requests)

    def make(self, template: str = "base", tag: dict[str, str] | None = None, seconds: float = 300.0) -> Sandbox:
        """Let somebody have a sandbox."""
        now, name = self.clock(), f"i{next(self._ids):020d}"
        self.on_make(dict(tag or {}))
        made = Sandbox(name, template, dict(tag or {}), now, now + seconds, now + self.lag)
        self.sandboxes[name] = made
        alive = [one.tag.get("execpool-record") for one in self.alive().values()]
        self.most_of_one_record = max([self.most_of_one_record, *(alive.count(one) for one in set(alive) - {None})])
        return made

    def lose(self, sandbox_id: str) -> None:
        """Let a sandbox end before its time."""
        self.sandboxes[sandbox_id].killed_at = self.clock()

    def _catch_up(self) -> None:
        due = [work for at, work in self._late if at <= self.clock()]
        self._late = [(at, work) for at, work in self._late if at > self.clock()]
        for work in due:
            work()

    # The protocol

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.idempotency_keys.append(request.headers.get("Idempotency-Key", ""))

        def work() -> web.Response:
            if len(self.alive()) >= self.cap:
                return _problem(429, f"you have reached the maximum number of concurrent E2B sandboxes ({self.cap}).")
            made = self.make(body["templateID"], body["metadata"], body.get("timeout", 300))
            return web.json_response(_described(made), status=201)

        return await self._served("create", request, work)

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        seconds = (await request.json())["timeout"]

        def work() -> web.Response:
            found = self.alive().get(request.match_info["id"])
            if found is None:
                return _problem(404, "Paused sandbox not found")
            found.deadline = max(found.deadline, self.clock() + seconds)
            return web.json_response(_described(found))

        return await self._served("connect", request, work)

    async def _timeout(self, request: web.Request) -> web.StreamResponse:
        seconds = (await request.json())["timeout"]

        def work() -> web.Response:
            found = self.alive().get(request.match_info["id"])
            if found is None:
                return _problem(404, "Sandbox doesn't exist or you don't have access to it")
            found.deadline = self.clock() + seconds
            return web.Response(status=204)

        return await self._served("extend", request, work)

    async def _kill(self, request: web.Request) -> web.StreamResponse:
        def work() -> web.Response:
            found = self.alive().get(request.match_info["id"])
            if found is None:
                return _problem(404, "Sandbox doesn't exist or you don't have access to it")
            found.killed_at = self.clock()
            return web.Response(status=204)

        return await self._served("kill", request, work)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        def work() -> web.Response:
            wanted = {} if self.ignores_filter else _filter(request.query.get("metadata", ""))
            states = request.query.get("state", "").split(",")
            now = self.clock()
            shown = [one for one in self.alive().values() if one.shown_at <= now and wanted.items() <= one.tag.items()]
            start = int(request.query.get("nextToken", "0"))
            page = shown[start : start + self.page] if "running" in states else []
            more = {"X-Next-Token": str(start + self.page)} if start + self.page < len(shown) else {}
            return web.json_response([_listed(one) for one in page], headers=more)

        return await self._served("list", request, work)

    async def _served(
        self, operation: str, request: web.Request, work: Callable[[], web.Response]
    ) -> web.StreamResponse:
        self._catch_up()
        self.requests.append((self.clock(), operation))
        if request.headers.get("X-API-Key") != self.key:
            return _problem(401, "Cannot get the team for the given API key")
        fault = self.fault(operation)
        if fault is None:
            return work()
        if isinstance(fault, Late):
            self._late.append((self.clock() + fault.seconds, work))
        elif fault.commits:
            work()
        if isinstance(fault, Status):
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            return web.Response(status=fault.code, text=fault.body, headers=headers, content_type="application/json")
        if isinstance(fault, Reset):
            request.transport.abort()
        await asyncio.sleep(3600)
        return web.Response()


def _described(one: Sandbox) -> dict[str, Any]:
    return {
        "templateID": one.template,
        "sandboxID": one.id,
        "clientID": "6532622b",
        "envdVersion": "0.6.8",
        "envdAccessToken": f"envd-{one.id}",
        "trafficAccessToken": f"traffic-{one.id}",
        "domain": None,
    }


def _listed(one: Sandbox) -> dict[str, Any]:
    times = {
        "startedAt": datetime.fromtimestamp(one.started_at, UTC).isoformat(),
        "endAt": datetime.fromtimestamp(one.deadline, UTC).isoformat(),
    }
    sizes = {"cpuCount": 2, "memoryMB": 2048, "diskSizeMB": 512, "state": "running"}
    return (
        {"templateID": one.template, "sandboxID": one.id, "clientID": "6532622b", "metadata": one.tag} | times | sizes
    )


def _filter(text: str) -> dict[str, str]:
    """Read a metadata filter as the real service does: after the query itself, unescape the whole, then each part."""
    pairs = (pair.partition("=") for pair in urllib.parse.unquote(text).split("&") if pair)
    return {urllib.parse.unquote(key): urllib.parse.unquote(value) for key, _, value in pairs}


def _problem(status: int, message: str) -> web.Response:
    return web.json_response({"code": status, "message": message}, status=status)
