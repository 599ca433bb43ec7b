"""The health listener of operator and gateway: `/healthz`, `/readyz`, `/metrics`, on a port of its own."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str]
"""Returns an empty string while all is well, else what is wrong."""


@dataclass(frozen=True)
class HealthServer:
    """Answers probes and scrapes.

    Attributes:
        alive: what would be mended by a restart.
        ready: what will pass by itself.
    """

    host: str
    port: int
    alive: Check
    ready: Check

    async def start(self) -> web.AppRunner:
        """Listen until the runner that is returned is cleaned up."""
        app = web.Application()
        app.router.add_get("/healthz", self._alive)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", _metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.host, self.port).start()
        return runner

    async def _alive(self, _request: web.Request) -> web.Response:
        return _answer(self.alive())

    async def _ready(self, _request: web.Request) -> web.Response:
        return _answer(self.ready())


def _answer(wrong: str) -> web.Response:
    return web.Response(text=wrong or "ok", status=503 if wrong else 200)


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
