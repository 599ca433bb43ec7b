"""What a scheduler and a kubelet are to a cluster: pods of executors become processes of this machine, and say so.

    pod, no node     -> bound to this node, marked with the rank of what it really is
    bound            -> two processes (`providers.processes`), told what the pod's containers would have been told
    ready            -> phase Running, its loopback address, and readiness as the server's own probe has it
    server ended     -> phase Succeeded or Failed
    being deleted    -> its processes are ended, then the pod goes
    does not start   -> CrashLoopBackOff with the last words of its log; tried again, ever more rarely

So operator and gateway see pods as in a cluster, and are the same. What a pod asks for and processes cannot give has been
refused before anything started (`fitness`).
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from execpool import protocol
from execpool.api import names
from execpool.api.names import Isolation
from execpool.core.backoff import backoff
from execpool.kube.client import EventType, Kube, Object
from execpool.kube.errors import ConflictError, NotFoundError
from execpool.kube.kinds import PODS
from execpool.kube.reflector import Reflector
from execpool.providers.local_executor import Identity, LocalExecutor
from execpool.providers.nursery_link import NotStartedError
from execpool.providers.processes import Limits, Processes

log = logging.getLogger(__name__)

NODE = "this-machine"
PROBE_SECONDS = 5.0
"""As the readiness probe of a pod."""
STARTS_AT_ONCE = 2
"""Each start takes a processor for a tenth of a second; more at once would only make the first one late."""
LONGEST_BACKOFF = 30.0
_HANDED_ON = (protocol.ENV_RUNTIME, protocol.ENV_SLOTS)


class LocalNode:
    """Keeps the pods of an API server running as processes."""

    def __init__(self, kube: Kube, processes: Processes) -> None:
        self._kube = kube
        self._processes = processes
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._leaving: dict[str, asyncio.Event] = {}
        """By UID of the pods that are kept: set when one has to go."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Keep pods until cancelled; their processes end with `processes`."""
        pods = Reflector(self._kube, PODS, namespace=None, labels=names.LABEL_POOL, on_change=self._hear)
        try:
            await pods.run()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hear(self, type_: EventType, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._leaving and type_ is not EventType.DELETED:
            self._leaving[uid] = asyncio.Event()
            task = asyncio.create_task(self._keep(pod, self._leaving[uid]), name=f"pod {pod['metadata']['name']}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if uid in self._leaving and (type_ is EventType.DELETED or pod["metadata"].get("deletionTimestamp")):
            self._leaving[uid].set()

    async def _keep(self, pod: Object, leaving: asyncio.Event) -> None:
        """One pod, from its binding to its end."""
        with suppress(NotFoundError):  # deleted before it was bound, or by force
            await self._patch(pod, _binding())
            if executor := await self._started(pod, leaving):
                try:
                    await self._watch_over(pod, executor, leaving)
                finally:
                    await executor.end()
            await leaving.wait()
            await self._let_go(pod)
        del self._leaving[pod["metadata"]["uid"]]

    async def _started(self, pod: Object, leaving: asyncio.Event) -> LocalExecutor | None:
        """Return the executor of a pod once it has started; None when the pod has to go first."""
        failures = 0
        while not leaving.is_set():
            try:
                async with self._starts:
                    return await self._start(pod)
            except NotStartedError as error:
                log.warning("executor not started", extra={"executor": pod["metadata"]["name"], "error": str(error)})
                await self._report(pod, _crashing(str(error)))
                await _wait(leaving, backoff(failures, 1.0, LONGEST_BACKOFF))
                failures += 1
        return None

    async def _start(self, pod: Object) -> LocalExecutor:
        told = _told(pod)
        identity = Identity(told[protocol.ENV_EXECUTOR_ID], pod["metadata"]["uid"], told[protocol.ENV_SECRET_HASH])
        limits = Limits(
            memory_bytes=int(told[protocol.ENV_MEMORY_BYTES]),
            idle_seconds=float(told[protocol.ENV_IDLE_SECONDS]),
            max_age_seconds=float(told[protocol.ENV_MAX_AGE_SECONDS]),
        )
        env = {name: told[name] for name in _HANDED_ON}
        return await self._processes.start(identity, limits=limits, env=env)

    async def _watch_over(self, pod: Object, executor: LocalExecutor, leaving: asyncio.Event) -> None:
        """Report what becomes of an executor, until it has ended or its pod has to go."""
        said = None
        while not (executor.died.done() or leaving.is_set()):
            ready = await executor.is_ready()
            if ready is not said:
                await self._report(pod, _running(executor.address, ready=ready))
                said = ready
            await _first_of(executor.died, leaving, PROBE_SECONDS)
        if executor.died.done():
            await self._report(pod, {"phase": "Failed" if executor.died.result() else "Succeeded"})

    async def _let_go(self, pod: Object) -> None:
        metadata = pod["metadata"]
        with suppress(ConflictError):
            await self._kube.delete(PODS, metadata["namespace"], metadata["name"], uid=metadata["uid"], grace_seconds=0)

    async def _report(self, pod: Object, status: Object) -> None:
        await self._patch(pod, {"status": status}, "status")

    async def _patch(self, pod: Object, body: Object, subresource: str = "") -> None:
        metadata = pod["metadata"]
        await self._kube.patch(PODS, metadata["namespace"], metadata["name"], body, subresource=subresource)


def _binding() -> Object:
    annotations = {names.ANNOTATION_ISOLATION: Isolation.INTERPRETER.value}
    return {"metadata": {"annotations": annotations}, "spec": {"nodeName": NODE}}


def _told(pod: Object) -> Mapping[str, str]:
    """Return what the containers of a pod are told, both together."""
    variables = [variable for container in pod["spec"]["containers"] for variable in container["env"]]
    return {variable["name"]: variable["value"] for variable in variables if "value" in variable}


def _running(address: str, *, ready: bool) -> Object:
    container = {"state": {"running": {}}, "started": True, "ready": ready, "restartCount": 0}
    return {
        "phase": "Running",
        "podIP": address,
        "conditions": [{"type": "Ready", "status": str(ready)}],
        "containerStatuses": [{**container, "name": "server"}, {**container, "name": "runner"}],
    }


def _crashing(message: str) -> Object:
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    return {"phase": "Pending", "containerStatuses": [{"name": "server", "state": state, "restartCount": 1}]}


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def _first_of(died: "asyncio.Future[int]", leaving: asyncio.Event, seconds: float) -> None:
    """Wait for the end of an executor, for the word that it has to go, or for so long."""
    told = asyncio.ensure_future(leaving.wait())
    waited: set[asyncio.Future[Any]] = {died, told}
    try:
        await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        told.cancel()
