"""The gateway's parts, put together, and their order of birth and death.

    start   watches -> first lists read -> executors asked whom they serve -> ready, demand published
    drain   not ready -> settle (still serving, `Connection: close`) -> refuse new and waiting -> running ones end, or are
            ended -> listeners closed -> Lease deleted

`main.py` gives it a real API server and signals; tests give it a fake one.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from execpool.api import names
from execpool.api.v1alpha1 import TierKind
from execpool.core.claiming import Target
from execpool.core.demand import write_demand
from execpool.core.proof import KeyRing
from execpool.core.use import write_use
from execpool.gateway.accounts import Accounts
from execpool.gateway.auth import Keys
from execpool.gateway.bodies import Budget
from execpool.gateway.demand import DemandPublisher
from execpool.gateway.execute import Gateway
from execpool.gateway.executors import Executors
from execpool.gateway.http import Executions, make_app
from execpool.gateway.monitor import Monitor
from execpool.gateway.pod_client import PodClient
from execpool.gateway.pools import Pools
from execpool.gateway.sandbox_claims import SandboxClaims
from execpool.gateway.sandbox_client import SandboxClient
from execpool.gateway.sandboxes import Records
from execpool.kube.client import Kube
from execpool.kube.kinds import ACCOUNTS, KEYS, PODS, POOLS, SANDBOXES
from execpool.kube.reflector import Reflector
from execpool.serving import Port, bounded
from execpool.settings import GatewaySettings

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
CLOSE_SECONDS = 5
HOLDS_SECONDS = 1.0
"""How often it is looked whether holds of sandboxes should end."""


class Service:
    """One gateway.

    Attributes:
        ready: set once everything has been read and both ports listen.
    """

    def __init__(self, settings: GatewaySettings, kube: Kube, key_ring: KeyRing) -> None:
        self._settings = settings
        records = Records(key_ring)
        claims = SandboxClaims(kube, records, settings.pod_name, now=time.time)
        accounts = Accounts(asyncio.get_running_loop().time, self._on_accounts)
        sandboxes = SandboxClient(claims, on_sight=accounts.saw, on_spent=self._on_spent)
        self._client = Executors({TierKind.PODS: PodClient(key_ring), TierKind.E2B: sandboxes})
        self._pools = Pools(records, self._client, accounts, self._on_change)
        self._keys = Keys(now=time.time)
        self._gateway = Gateway(self._keys, self._pools, self._client, overtime=settings.overtime_seconds)
        self._budget = Budget(settings.max_pending_bytes, settings.max_pending_bytes_per_tenant)
        self._demand = DemandPublisher(kube, settings, self._told, self._used)
        self._reflectors = _reflectors(kube, settings, self._keys, self._pools, accounts)
        self.ready = asyncio.Event()
        self._is_draining = False
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._api = _port(make_app(self._executions()), settings, settings.port)
        self._health = _port(self._health_app(), settings, settings.health_port)

    @property
    def port(self) -> int:
        """Port of the API."""
        return self._api.number

    @property
    def health_port(self) -> int:
        """Port of health and metrics."""
        return self._health.number

    def is_listening(self) -> bool:
        """True once both ports take connections."""
        return self._api.listening.is_set() and self._health.listening.is_set()

    def active(self) -> int:
        """Return how many executions are under way."""
        return self._gateway.active()

    async def run(self, stop: asyncio.Event) -> bool:
        """Serve until told to stop; False when a part that never should has ended."""
        self.start()
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({stopping, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        for name, task in self._tasks.items():
            if task.done():
                log.error("part of the gateway ended", extra={"part": name}, exc_info=task.exception())
        stopping.cancel()
        await self.stop()
        return stop.is_set()

    def start(self) -> None:
        """Start every part; `ready` is set once executions are served."""
        for number, reflector in enumerate(self._reflectors):
            self._spawn(f"watch {number}", reflector.run())
        self._spawn("health", self._health.serve())
        self._spawn("api", self._api.serve())
        self._spawn("demand", self._get_ready())
        self._spawn("holds", self._end_holds())
        self._spawn("monitor", Monitor(self._pools, self._settings.monitor_seconds).run())

    async def stop(self) -> None:
        """Drain, then end everything."""
        await self._drain()
        for server in (self._api, self._health):
            server.close()
        await asyncio.gather(self._tasks["api"], self._tasks["health"], return_exceptions=True)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._demand.close()
        await self._pools.close()
        await self._client.close()
        log.info("gateway stopped")

    async def _end_holds(self) -> None:
        while True:
            await asyncio.sleep(HOLDS_SECONDS)
            self._pools.end_holds()

    async def _get_ready(self) -> None:
        """Learn all there is to know, say that we are ready, and keep the demand told from then on."""
        await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))
        await self._pools.recover()
        await self._api.listening.wait()
        await self._health.listening.wait()
        self.ready.set()
        log.info("gateway ready", extra={"port": self.port, "pools": len(self._pools.all())})
        await self._demand.run()

    async def _drain(self) -> None:
        self._is_draining = True
        log.info("draining", extra={"active": self._gateway.active()})
        await asyncio.sleep(self._settings.settle_seconds)
        self._gateway.close()
        try:
            async with asyncio.timeout(self._settings.drain_seconds):
                await self._gateway.until_idle()
        except TimeoutError:
            log.warning("ending executions", extra={"active": self._gateway.active()})
            self._gateway.cancel_rest()
            await self._gateway.until_idle()

    def _executions(self) -> Executions:
        return Executions(
            self._gateway,
            self._budget,
            max_body_bytes=self._settings.max_body_bytes,
            is_draining=lambda: self._is_draining,
        )

    def _on_accounts(self) -> None:
        self._pools.pump_all()

    def _on_spent(self, target: Target) -> None:
        self._pools.spend(target)

    def _on_change(self) -> None:
        self._demand.notify()

    def _told(self) -> str:
        return write_demand({"/".join(pool.key): pool.demand() for pool in self._pools.all()})

    def _used(self) -> str:
        return write_use({"/".join(pool.key): pool.use() for pool in self._pools.all()})

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[name] = asyncio.create_task(work, name=name)

    def _health_app(self) -> Starlette:
        async def healthz(_: Request) -> Response:
            return PlainTextResponse("ok")

        async def readyz(_: Request) -> Response:
            if self._is_draining:
                return PlainTextResponse("draining", 503)
            return PlainTextResponse("ok") if self.ready.is_set() else PlainTextResponse("reading watches", 503)

        async def metrics(_: Request) -> Response:
            return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

        return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


def _port(app: ASGIApp, settings: GatewaySettings, port: int) -> Port:
    protocol = bounded(settings.max_connections)
    return Port(
        app, protocol, host=settings.host, port=port, keep_alive_seconds=KEEP_ALIVE_SECONDS, close_seconds=CLOSE_SECONDS
    )


def _reflectors(kube: Kube, settings: GatewaySettings, keys: Keys, pools: Pools, accounts: Accounts) -> list[Reflector]:
    namespaces: tuple[str | None, ...] = settings.watched_namespaces() or (None,)
    return [
        reflector
        for namespace in namespaces
        for reflector in (
            Reflector(kube, POOLS, namespace=namespace, on_change=pools.on_pool),
            Reflector(kube, KEYS, namespace=namespace, on_change=keys.on_change),
            Reflector(kube, PODS, namespace=namespace, labels=names.LABEL_POOL, on_change=pools.on_pod),
            Reflector(kube, ACCOUNTS, namespace=namespace, on_change=accounts.on_account),
            Reflector(kube, SANDBOXES, namespace=namespace, on_change=pools.on_sandbox),
        )
    ]
