"""`execpool-operator`: the composition root. Settings, clients, health, then terms of leadership until told to stop."""

import asyncio
import logging
import sys

from execpool import __version__
from execpool.controller.leadership import Leadership
from execpool.controller.term import Operator, Term, stop_on_signals
from execpool.kube.client import KubeClient, load_configuration
from execpool.kube.errors import KubeError, NotFoundError
from execpool.kube.kinds import ACCOUNTS, CRDS, KEYS, POOLS, SANDBOXES
from execpool.kube.resources import ExecutorProfile
from execpool.providers.control import HttpControl
from execpool.providers.pods import PodsProvider
from execpool.settings import OperatorSettings, RootKeyError
from execpool.telemetry import logs, metrics
from execpool.telemetry.health import HealthServer

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class Health:
    """What the probes see."""

    def __init__(self) -> None:
        self.term: Term | None = None
        self.started = False

    def alive(self) -> str:
        """Name what a restart would mend: a watch that has gone silent."""
        return "a watch is dead" if self.term is not None and self.term.sweep.watch_is_dead else ""

    def ready(self) -> str:
        """Name what is not there yet."""
        return "" if self.started else "starting"


def run() -> None:
    """Run the operator until SIGTERM or SIGINT."""
    settings = OperatorSettings()
    logs.configure(settings.log_level)
    try:
        asyncio.run(serve(settings))
    except RootKeyError as error:
        sys.exit(f"execpool-operator: {error}")


async def serve(settings: OperatorSettings) -> None:
    """Compete for the Lease and act while it is held, until a signal comes."""
    stopping = asyncio.Event()
    health = Health()
    configuration = await load_configuration(
        str(settings.kubeconfig) if settings.kubeconfig else None, settings.context
    )
    # The Lease has a client of its own: every other one is fenced by it.
    async with KubeClient(configuration, on_request=metrics.count_request) as lease_kube:
        leadership = Leadership(
            lease_kube, settings.namespace, settings.pod_uid, settings.lease_seconds, settings.renew_seconds
        )
        async with (
            KubeClient(configuration, may_write=leadership.may_write, on_request=metrics.count_request) as kube,
            HttpControl(may_act=leadership.may_write) as control,
        ):
            pods = PodsProvider(
                kube=kube,
                control=control,
                keys=settings.key_ring(),
                profile=ExecutorProfile(
                    settings.executor_image, settings.user_namespaces, tuple(settings.egress_resolvers.split())
                ),
                control_namespace=settings.namespace,
                namespaces=settings.watched_namespaces(),
            )
            operator = Operator(settings, configuration, kube, pods, leadership)
            probes = await HealthServer(settings.host, settings.health_port, health.alive, health.ready).start()
            try:
                await _await_crds(lease_kube, stopping)
                health.started = True
                log.info("operator started", extra={"version": __version__, "identity": settings.pod_uid})
                await _serve_terms(operator, health, stopping)
            finally:
                await leadership.release()
                await probes.cleanup()


async def _serve_terms(operator: Operator, health: Health, stopping: asyncio.Event) -> None:
    stop_on_signals(stopping)
    while not stopping.is_set():
        if not await _acquired(operator.leadership, stopping):
            return
        term = Term(operator)
        health.term = term
        metrics.LEADER.set(1)
        try:
            await term.serve(stopping)
        finally:
            metrics.LEADER.set(0)
            health.term = None
        # Whatever ended the term may end the next one too; the Lease waits that long for nobody else.
        await asyncio.sleep(RETRY_SECONDS)


async def _acquired(leadership: Leadership, stopping: asyncio.Event) -> bool:
    """Wait for the Lease or for the end; True when the Lease was won."""
    acquiring = asyncio.create_task(leadership.acquire(), name="acquire")
    ending = asyncio.create_task(stopping.wait(), name="stopping")
    done, pending = await asyncio.wait({acquiring, ending}, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return acquiring in done and acquiring.exception() is None and not stopping.is_set()


async def _await_crds(kube: KubeClient, stopping: asyncio.Event) -> None:
    """Wait until our CRDs are there: a missing one is only a warning to kopf, which then watches nothing."""
    for kind in (POOLS, KEYS, ACCOUNTS, SANDBOXES):
        while not stopping.is_set():
            try:
                await kube.get(CRDS, None, f"{kind.plural}.{kind.group}")
                break
            except NotFoundError:
                log.warning(
                    "CRD is missing; apply the manifests in crds/", extra={"crd": f"{kind.plural}.{kind.group}"}
                )
            except KubeError as error:
                log.warning("CRDs cannot be read", extra={"error": str(error)})
            await asyncio.sleep(RETRY_SECONDS)
