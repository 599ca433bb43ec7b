"""The API server in memory on a port: enough of HTTP for our client and for kopf's discovery, lists and watches.

What `kube/fake.py` raises is answered as the real one would: `Refused` by its status, `Unreachable` by breaking the
connection. `Meddling` does to a request what neither of them can: an answer that never comes, or that is none.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson
from aiohttp import web

from execpool.kube import kinds
from execpool.kube.client import Object, WatchEvent
from execpool.kube.errors import GoneError, RefusedError, UnreachableError
from execpool.kube.fake import FakeKube
from execpool.kube.kinds import Kind
from tests.campaigns.tap import effect_of

KINDS = {(one.group, one.plural): one for one in vars(kinds).values() if isinstance(one, Kind)}
_VERBS = ["create", "delete", "get", "list", "patch", "watch"]


class How(StrEnum):
    """What comes instead of an answer."""

    STATUS = "status"
    RESET = "reset"
    HANG = "hang"
    GARBAGE = "garbage"
    EMPTY = "empty"
    """A list that shows nothing."""


@dataclass(frozen=True)
class Meddling:
    """What happens to a request; what it asks for only if it `commits`."""

    how: How
    status: int = 500
    commits: bool = False


Meddler = Callable[[str], Meddling | None]
"""Asked about each request by the name of its effect (`tap.effect_of`)."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def api_server(kube: FakeKube, meddler: Meddler = lambda _effect: None) -> AsyncIterator[str]:
    """Serve an API server in memory; yield its address."""
    application = _application(kube)
    application.middlewares.append(_meddling(meddler))
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _application(kube: FakeKube) -> web.Application:
    served = _Served(kube)
    app = web.Application(client_max_size=4 << 20)
    app.router.add_get("/api", served.versions)
    app.router.add_get("/apis", served.groups)
    app.router.add_get("/api/{version}", served.resources)
    app.router.add_get("/apis/{group}/{version}", served.resources)
    for root in ("/api/{version}", "/apis/{group}/{version}"):
        for scope in ("/namespaces/{namespace}", ""):  # in this order: the second fits all
            app.router.add_route("*", f"{root}{scope}/{{plural}}", served.collection)
            app.router.add_route("*", f"{root}{scope}/{{plural}}/{{name}}", served.item)
            app.router.add_route("*", f"{root}{scope}/{{plural}}/{{name}}/{{subresource}}", served.item)
    return app


def _meddling(meddler: Meddler) -> Any:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        effect = effect_of(request.method, request.path, request.query_string, await request.read()) or _read(request)
        found = meddler(effect) if effect else None
        if found is None:
            return await handler(request)
        if found.commits:
            await handler(request)
        return await _instead(found, request)

    return middleware


def _read(request: web.Request) -> str:
    """Name a read that is meddled with: of all records, which the account's task lists. Pools list theirs by label."""
    is_all = request.method == "GET" and request.path.endswith("/v1alpha1/e2bsandboxes")
    return "records" if is_all and not {"watch", "labelSelector"} & request.query.keys() else ""


async def _instead(found: Meddling, request: web.Request) -> web.StreamResponse:
    match found.how:
        case How.STATUS:
            status = {"kind": "Status", "code": found.status, "reason": "Ordered", "message": "a fault was ordered"}
            return await _json(status, found.status)
        case How.GARBAGE:
            return web.Response(body=b'{"metadata": ', content_type="application/json")
        case How.EMPTY:
            return await _json({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})
        case How.HANG:
            await asyncio.sleep(3600)
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


class _Served:
    def __init__(self, kube: FakeKube) -> None:
        self._kube = kube

    async def versions(self, _request: web.Request) -> web.StreamResponse:
        return await _json({"versions": ["v1"]})

    async def groups(self, _request: web.Request) -> web.StreamResponse:
        return await _json({"groups": _groups()})

    async def resources(self, request: web.Request) -> web.StreamResponse:
        group = request.match_info.get("group", "")
        found = [
            {"name": one.plural, "singularName": one.kind.lower(), "kind": one.kind, "namespaced": one.namespaced}
            | {"verbs": _VERBS}
            for one in KINDS.values()
            if one.group == group
        ]
        return await _json({"resources": found})

    async def collection(self, request: web.Request) -> web.StreamResponse:
        kind, namespace = _kind(request), request.match_info.get("namespace")
        labels = request.query.get("labelSelector", "")
        if request.method == "POST":
            return await _answered(request, self._kube.create(kind, namespace, await request.json()), 201)
        if request.query.get("watch"):
            return await self._watch(request, kind, namespace, labels)
        return await _answered(request, self._listed(kind, namespace, labels))

    async def item(self, request: web.Request) -> web.StreamResponse:
        kind, namespace, name = _kind(request), request.match_info.get("namespace"), request.match_info["name"]
        if request.method == "GET":
            return await _answered(request, self._kube.get(kind, namespace, name))
        body = orjson.loads(await request.read())
        if request.method == "PATCH":
            subresource = request.match_info.get("subresource", "")
            return await _answered(request, self._kube.patch(kind, namespace, name, body, subresource=subresource))
        return await _answered(request, self._delete(kind, namespace, name, body))

    async def _delete(self, kind: Kind, namespace: str | None, name: str, body: Object) -> Object:
        await self._kube.delete(kind, namespace, name, uid=body["preconditions"]["uid"])
        return {"kind": "Status", "status": "Success"}

    async def _listed(self, kind: Kind, namespace: str | None, labels: str) -> Object:
        listing = await self._kube.list(kind, namespace, labels=labels)
        return {
            "apiVersion": kind.api_version,
            "kind": f"{kind.kind}List",
            "metadata": {"resourceVersion": listing.resource_version},
            "items": listing.items,
        }

    async def _watch(self, request: web.Request, kind: Kind, namespace: str | None, labels: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        version = request.query.get("resourceVersion", "0")
        try:
            await response.prepare(request)
            async for event in self._kube.watch(kind, namespace, labels=labels, resource_version=version):
                await response.write(_line(event))
        except GoneError as error:
            await response.write(orjson.dumps({"type": "ERROR", "object": _status(error)}) + b"\n")
        except ConnectionResetError:
            pass  # whoever watched is dead
        return response


def _kind(request: web.Request) -> Kind:
    try:
        return KINDS[request.match_info.get("group", ""), request.match_info["plural"]]
    except KeyError:
        raise web.HTTPNotFound from None


async def _answered(request: web.Request, work: Any, status: int = 200) -> web.StreamResponse:
    try:
        return await _json(await work, status)
    except RefusedError as error:
        return await _json(_status(error), error.status)
    except UnreachableError:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


async def _json(body: Any, status: int = 200) -> web.StreamResponse:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def _line(event: WatchEvent) -> bytes:
    return orjson.dumps({"type": event.type, "object": event.object}) + b"\n"


def _status(error: RefusedError) -> Object:
    return {"kind": "Status", "code": error.status, "reason": error.reason, "message": error.message}


def _groups() -> list[Object]:
    versions: dict[str, str] = defaultdict(str)
    for one in KINDS.values():
        versions[one.group] = one.version
    return [
        {"name": group, "versions": [{"version": version}], "preferredVersion": {"version": version}}
        for group, version in versions.items()
        if group
    ]
