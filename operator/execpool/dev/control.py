"""The operator without a cluster: the same reconciler, tasks and demand, nudged by watches of the API server in memory.

No Lease is competed for and no sweep is made: there is one operator, and it lives and ends with all that it could miss.
"""

import asyncio

from execpool.api import names
from execpool.api.v1alpha1 import TierKind
from execpool.controller.demand import GATEWAY_LEASES, DemandBoard
from execpool.controller.effects import Effects
from execpool.controller.events import EventRecorder
from execpool.controller.pools import ref_of
from execpool.controller.reconcile import Reconciler
from execpool.controller.tasks import PoolTasks
from execpool.core.demand import pools_named
from execpool.core.proof import KeyRing
from execpool.kube.client import EventType, Kube, Object
from execpool.kube.kinds import LEASES, PODS, POOLS
from execpool.kube.reflector import OnChange, Reflector
from execpool.kube.resources import ExecutorProfile
from execpool.providers.by_kind import ProviderByKind
from execpool.providers.control import HttpControl
from execpool.providers.pods import PodsProvider

SYSTEM = "execpool-system"
NAME = "execpool-dev"
START_TIMEOUT_SECONDS = 60.0


class ControlPlane:
    """Moves pools towards their spec.

    Args:
        kube: where they are.
        http: speaks to executors.
        keys: what claims come from, as for the gateway.
        on_pool: told of every change of a pool.
    """

    def __init__(self, kube: Kube, http: HttpControl, keys: KeyRing, on_pool: OnChange) -> None:
        self._on_pool = on_pool
        self._board = DemandBoard(self._demand_changed)
        pods = PodsProvider(kube, http, keys, ExecutorProfile(NAME, user_namespaces=False), SYSTEM)
        provider = ProviderByKind({TierKind.PODS: pods})
        reconciler = Reconciler(
            kube=kube,
            provider=provider,
            effects=Effects(kube, provider),
            recorder=EventRecorder(kube, NAME),
            demand_of=self._board.of,
            user_namespaces=False,
            containers=False,
            start_timeout=START_TIMEOUT_SECONDS,
            empty_list_pause=0.0,
        )
        self._tasks = PoolTasks(reconciler, on_fenced=lambda: None)
        self._watches = (
            Reflector(kube, POOLS, namespace=None, on_change=self._pool_changed),
            Reflector(kube, PODS, namespace=None, labels=names.LABEL_POOL_UID, on_change=self._pod_changed),
            Reflector(kube, LEASES, namespace=SYSTEM, labels=GATEWAY_LEASES, on_change=self._board.hear),
        )

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for watch in self._watches:
                    group.create_task(watch.run())
        finally:
            await self._tasks.close()

    def _pool_changed(self, type_: EventType, pool: Object) -> None:
        self._on_pool(type_, pool)
        self._tasks.nudge(ref_of(pool))

    def _pod_changed(self, _: EventType, pod: Object) -> None:
        self._tasks.nudge_uid(pod["metadata"]["labels"][names.LABEL_POOL_UID])

    def _demand_changed(self, before: str, after: str) -> None:
        self._tasks.nudge_key({*pools_named(before), *pools_named(after)})
