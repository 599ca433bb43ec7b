"""One term of leadership: from the Lease won to the Lease lost, in this process and perhaps again later.

kopf is run by its root tasks rather than by `kopf.operator()`, which can hang for ever after a fatal error of a watch:
the term ends as soon as *any* of them ends. What we started ourselves is ended first, since kopf treats tasks that it
does not know as hung for five seconds.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import kopf

from execpool.api.v1alpha1 import TierKind
from execpool.controller.account_tasks import AccountTasks
from execpool.controller.composition import make_rounds
from execpool.controller.demand import GATEWAY_LEASES, DemandBoard
from execpool.controller.effects import Effects
from execpool.controller.events import EventRecorder
from execpool.controller.handlers import make_registry, make_settings
from execpool.controller.leadership import Leadership
from execpool.controller.reconcile import Reconciler
from execpool.controller.sweep import Sweep
from execpool.controller.tasks import PoolTasks
from execpool.core.demand import pools_named
from execpool.kube.client import KubeClient
from execpool.kube.kinds import LEASES
from execpool.kube.reflector import Reflector
from execpool.providers.base import Provider
from execpool.providers.by_kind import ProviderByKind
from execpool.providers.e2b.provider import E2BProvider
from execpool.settings import OperatorSettings

log = logging.getLogger(__name__)

KOPF_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Operator:
    """What lives as long as the process: clients, settings, the seat that is competed for."""

    settings: OperatorSettings
    configuration: Any
    kube: KubeClient
    pods: Provider
    leadership: Leadership


class Term:
    """What lives as long as the Lease is held."""

    def __init__(self, operator: Operator) -> None:
        settings = operator.settings
        self._operator = operator
        self._over = asyncio.Event()
        self.board = DemandBoard(self._demand_changed)
        # Made anew for each term: what was known of a record before may be another leader's past.
        rounds = make_rounds(settings, operator.kube, operator.leadership)
        sandboxes = E2BProvider(operator.kube, rounds.desks, settings.key_ring(), settings.watched_namespaces())
        provider = ProviderByKind({TierKind.PODS: operator.pods, TierKind.E2B: sandboxes})
        self._effects = effects = Effects(operator.kube, provider)
        reconciler = Reconciler(
            kube=operator.kube,
            provider=provider,
            effects=effects,
            recorder=EventRecorder(operator.kube, settings.pod_name),
            demand_of=self.board.of,
            use_of=self.board.use_of,
            budgets_of=rounds.desks.budgets_of,
            backends_of=rounds.desks.backends_of,
            user_namespaces=settings.user_namespaces,
            start_timeout=settings.start_timeout_seconds,
        )
        self.tasks = PoolTasks(reconciler, on_fenced=self._over.set)
        self.accounts = AccountTasks(rounds, on_fenced=self._over.set)
        rounds.on_progress = rounds.desks.on_asked = self.accounts.nudge
        rounds.desks.on_trouble = self.tasks.nudge_uid
        rounds.desks.on_relief = self._relieve
        self.sweep = Sweep(operator.kube, effects, self.tasks, settings.watched_namespaces(), settings.resync_seconds)

    async def serve(self, stopping: asyncio.Event) -> None:
        """Work until the Lease is lost, `stopping` is set, or anything that the term stands on ends."""
        leases = Reflector(
            self._operator.kube,
            LEASES,
            namespace=self._operator.settings.namespace,
            labels=GATEWAY_LEASES,
            on_change=self.board.hear,
        )
        ours = [
            _started(self._operator.leadership.hold(), "lease"),
            _started(leases.run(), "gateway leases"),
            _started(self.sweep.run(), "sweep"),
            _started(self._over.wait(), "fence"),
            _started(stopping.wait(), "stopping"),
        ]
        stop_kopf, ready = asyncio.Event(), asyncio.Event()
        roots = await self._spawn_kopf(stop_kopf, ready)
        stop_on_signals(stopping)  # again: kopf has just put its own handlers in their place
        try:
            done, _ = await asyncio.wait({*roots, *ours}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # A term's parts run for ever: whichever ended is the reason, and its error must not be lost.
                error = None if task.cancelled() else task.exception()
                log.log(
                    logging.ERROR if error else logging.INFO,
                    "term ends",
                    exc_info=error,
                    extra={"because": task.get_name()},
                )
        finally:
            await self._end(ours, roots, stop_kopf)

    async def _spawn_kopf(self, stop: asyncio.Event, ready: asyncio.Event) -> list[asyncio.Task[Any]]:
        namespaces = self._operator.settings.watched_namespaces()
        scope: dict[str, Any] = {"namespaces": list(namespaces)} if namespaces else {"clusterwide": True}
        tasks = await kopf.spawn_tasks(
            registry=make_registry(self.tasks, self.accounts, self._operator.configuration),
            settings=make_settings(),
            standalone=True,
            stop_flag=stop,
            ready_flag=ready,
            **scope,
        )
        return list(tasks)

    async def _end(
        self, ours: list[asyncio.Task[Any]], roots: list[asyncio.Task[Any]], stop_kopf: asyncio.Event
    ) -> None:
        await self.tasks.close()
        await self.accounts.close()
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        stop_kopf.set()
        try:
            async with asyncio.timeout(KOPF_STOP_SECONDS):
                await kopf.run_tasks(roots, ignored=asyncio.all_tasks() - set(roots))
        except TimeoutError:
            # A watch that cannot be ended would act in the next term; a new process is the only sure end.
            log.critical("kopf did not stop")
            os._exit(1)

    def _relieve(self, pool_uid: str) -> None:
        self._effects.forgive(pool_uid)
        self.tasks.nudge_uid(pool_uid)

    def _demand_changed(self, before: str, after: str) -> None:
        self.tasks.nudge_key({*pools_named(before), *pools_named(after)})


def stop_on_signals(stopping: asyncio.Event) -> None:
    """Set the event on SIGTERM and SIGINT."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)


def _started(work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
    return asyncio.create_task(work, name=name)
