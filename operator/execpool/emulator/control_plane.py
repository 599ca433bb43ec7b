"""The control plane: one function for each call, which returns its answer or raises why not."""

import hashlib
import re
from collections.abc import Awaitable, Callable

from execpool.e2b_server import listing, reading, views
from execpool.e2b_server.errors import NotOfferedError, RefusedError, UnauthorizedError
from execpool.e2b_server.exchange import Answer, Exchange
from execpool.e2b_server.routes import Call
from execpool.emulator import bodies
from execpool.emulator.account import DEFAULT_TIMEOUT_SECONDS, Sandbox, State
from execpool.emulator.holding import Asker
from execpool.emulator.idempotency import Keys
from execpool.emulator.metrics import Metrics
from execpool.emulator.sandboxes import Sandboxes
from execpool.emulator.showing import view_of

REFRESH_LEAST_SECONDS = 15
REFRESH_MOST_SECONDS = 3600
_KEY = re.compile(r"e2b_([0-9a-f]{2})+\Z")
_NOTHING = Answer(204)

Handler = Callable[[Exchange, str], Awaitable[Answer]]


class ControlPlane:
    """The management API of one account.

    Args:
        sandboxes: what it manages.
        keys: who may.
        domain: told to clients.
        idempotency: whether a creation that names itself happens once.
    """

    def __init__(self, sandboxes: Sandboxes, *, keys: frozenset[str], domain: str, idempotency: bool) -> None:
        self._sandboxes = sandboxes
        self._keys = keys
        self._domain = domain
        self._created = Keys() if idempotency else None
        self._metrics = Metrics()
        self._handlers: dict[Call, Handler] = {
            Call.HEALTH: self._health,
            Call.CREATE: self._create,
            Call.LIST: self._list,
            Call.GET: self._get,
            Call.TIMEOUT: self._timeout,
            Call.REFRESH: self._refresh,
            Call.CONNECT: self._connect,
            Call.RESUME: self._resume,
            Call.PAUSE: self._pause,
            Call.KILL: self._kill,
            Call.METRICS: self._read_metrics,
            Call.ALL_METRICS: self._read_all_metrics,
            Call.LOGS: self._logs,
            Call.NOT_OFFERED: self._not_offered,
        }

    async def answer(self, call: Call, sandbox_id: str, exchange: Exchange) -> Answer:
        """Answer a call.

        Raises:
            RefusedError: why not.
        """
        if call is not Call.HEALTH:
            self._authenticate(exchange.headers.get("x-api-key", ""))
            self._sandboxes.account.count_call(self._sandboxes.now())
        return await self._handlers[call](exchange, sandbox_id)

    def _authenticate(self, key: str) -> None:
        if not _KEY.match(key):
            raise UnauthorizedError("Invalid API key format")
        if key not in self._keys:
            raise UnauthorizedError("Cannot get the team for the given API key")

    async def _health(self, _exchange: Exchange, _: str) -> Answer:
        return Answer.text(200, "Health check successful")

    async def _create(self, exchange: Exchange, _: str) -> Answer:
        body = await exchange.json()
        order = bodies.read_order(body, version=_version(exchange))
        asker = _asker(Call.CREATE, exchange)
        key, fingerprint = asker.idempotency_key, hashlib.sha256(repr(sorted(body.items())).encode()).hexdigest()
        if not key or self._created is None:
            return self._told(201, await self._sandboxes.create(order, asker), self._rate_headers())
        if made := self._created.begin(key, fingerprint, self._sandboxes.now()):
            return self._told(201, self._known(made))
        try:
            sandbox = await self._sandboxes.create(order, asker)
        except RefusedError:
            self._created.failed(key)
            raise
        self._created.made(key, sandbox.id)
        return self._told(201, sandbox, self._rate_headers())

    async def _list(self, exchange: Exchange, _: str) -> Answer:
        now = self._sandboxes.now()
        query = listing.read_query(exchange.query)
        seen = self._sandboxes.account.seen(now, self._sandboxes.knobs.list_lag_seconds)
        return listing.answer(map(view_of, seen), query, version=_version(exchange))

    async def _get(self, _exchange: Exchange, sandbox_id: str) -> Answer:
        sandbox = self._known(sandbox_id)
        token = self._sandboxes.held(sandbox_id).grant.token
        return Answer.json(200, views.detailed(view_of(sandbox), access_token=token, domain=self._domain))

    async def _timeout(self, exchange: Exchange, sandbox_id: str) -> Answer:
        seconds = reading.read_timeout(await exchange.json())
        self._sandboxes.set_timeout(sandbox_id, seconds, _asker(Call.TIMEOUT, exchange))
        return _NOTHING

    async def _refresh(self, exchange: Exchange, sandbox_id: str) -> Answer:
        body = await exchange.json()
        wanted = reading.read_timeout({"timeout": body.get("duration", 0)})
        seconds = min(max(wanted, REFRESH_LEAST_SECONDS), REFRESH_MOST_SECONDS)
        self._sandboxes.extend(sandbox_id, seconds, _asker(Call.REFRESH, exchange))
        return _NOTHING

    async def _connect(self, exchange: Exchange, sandbox_id: str) -> Answer:
        body = await exchange.json()
        if body.get("memory") is False:
            raise NotOfferedError("a restart on connect (memory: false) is not emulated")
        seconds = reading.read_timeout(body, DEFAULT_TIMEOUT_SECONDS)
        asker = _asker(Call.CONNECT, exchange)
        if self._known(sandbox_id).state is State.PAUSED:
            return self._told(201, await self._sandboxes.resume(sandbox_id, seconds, asker))
        return self._told(200, self._sandboxes.extend(sandbox_id, seconds, asker))

    async def _resume(self, exchange: Exchange, sandbox_id: str) -> Answer:
        seconds = reading.read_timeout(await exchange.json(), DEFAULT_TIMEOUT_SECONDS)
        return self._told(201, await self._sandboxes.resume(sandbox_id, seconds, _asker(Call.RESUME, exchange)))

    async def _pause(self, exchange: Exchange, sandbox_id: str) -> Answer:
        if (await exchange.json()).get("memory") is False:
            raise NotOfferedError("a pause without memory (memory: false) is not emulated")
        await self._sandboxes.pause(sandbox_id, _asker(Call.PAUSE, exchange))
        return _NOTHING

    async def _kill(self, exchange: Exchange, sandbox_id: str) -> Answer:
        await self._sandboxes.kill(sandbox_id, _asker(Call.KILL, exchange))
        return _NOTHING

    async def _read_metrics(self, _exchange: Exchange, sandbox_id: str) -> Answer:
        sandbox = self._known(sandbox_id)
        executor = self._sandboxes.held(sandbox_id).executor
        return Answer.json(200, [self._metrics.read(sandbox, executor, self._sandboxes.now())])

    async def _read_all_metrics(self, exchange: Exchange, _: str) -> Answer:
        now = self._sandboxes.now()
        wanted = {name for value in exchange.query.get("sandbox_ids", []) for name in value.split(",")}
        found = [sandbox for sandbox in self._sandboxes.account.alive(now) if sandbox.id in wanted]
        readings = {each.id: self._metrics.read(each, self._sandboxes.held(each.id).executor, now) for each in found}
        return Answer.json(200, {"sandboxes": readings})

    async def _logs(self, exchange: Exchange, sandbox_id: str) -> Answer:
        self._known(sandbox_id)
        return Answer.json(200, {"logs": []} if _version(exchange) > 1 else {"logs": [], "logEntries": []})

    async def _not_offered(self, exchange: Exchange, _: str) -> Answer:
        raise NotOfferedError(f"{exchange.method} {exchange.path[:100]} is not emulated")

    def _known(self, sandbox_id: str) -> Sandbox:
        return self._sandboxes.account.get(sandbox_id, self._sandboxes.now())

    def _told(self, status: int, sandbox: Sandbox, headers: dict[str, str] | None = None) -> Answer:
        held = self._sandboxes.held(sandbox.id)
        token, traffic = held.grant.token, held.traffic_token
        body = views.created(view_of(sandbox), access_token=token, traffic_token=traffic, domain=self._domain)
        return Answer.json(status, body, headers)

    def _rate_headers(self) -> dict[str, str]:
        limit, remaining, reset = self._sandboxes.account.creates_left(self._sandboxes.now())
        return {
            "RateLimit-Limit": str(limit),
            "RateLimit-Remaining": str(remaining),
            "RateLimit-Reset": f"{reset:.0f}",
        }


def _asker(call: Call, exchange: Exchange) -> Asker:
    return Asker(call.value, exchange.request_id, exchange.headers.get("idempotency-key", ""))


def _version(exchange: Exchange) -> int:
    return 2 if exchange.path.startswith("/v2/") else 1
