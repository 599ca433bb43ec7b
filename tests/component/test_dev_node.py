"""A node whose pods are processes: what it reports of one that does not start, loses its runner, or is deleted."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.builders import pool
from tests.nodes import running_node

from execpool import protocol
from execpool.api.names import Reason
from execpool.core.model import Phase
from execpool.kube.kinds import PODS
from execpool.kube.memory import MemoryKube
from execpool.kube.resources import ExecutorIdentity, ExecutorProfile, make_executor_pod
from execpool.providers.local_executor import LocalExecutor
from execpool.providers.nursery_link import NotStartedError
from execpool.providers.pod_phase import translate
from execpool.providers.processes import Processes

POOL = pool()
PROFILE = ExecutorProfile("execpool-dev", user_namespaces=False)


class Unwilling(Processes):
    """Refuses the first start."""

    refused = 0

    async def start(self, *arguments: Any, **options: Any) -> LocalExecutor:
        if not self.refused:
            self.refused += 1
            raise NotStartedError("no process could be forked: Resource temporarily unavailable")
        return await super().start(*arguments, **options)


@asynccontextmanager
async def node(processes: Processes) -> AsyncIterator[MemoryKube]:
    kube = MemoryKube()
    async with processes, running_node(kube, processes):
        yield kube


async def created(kube: MemoryKube) -> dict[str, Any]:
    identity = ExecutorIdentity("p", "executor-1", protocol.secret_hash("secret"), "key-1")
    return await kube.create(PODS, POOL.namespace, make_executor_pod(POOL, POOL.spec.tiers[0], PROFILE, identity))


async def seen(kube: MemoryKube, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the pod once it is so."""
    async with asyncio.timeout(30):
        while True:
            for pod in kube.peek(PODS):
                if fits(pod):
                    return pod
            await asyncio.sleep(0.01)


def is_ready(pod: dict[str, Any]) -> bool:
    return any(one["status"] == "True" for one in pod.get("status", {}).get("conditions", []))


async def test_a_pod_that_does_not_start_says_why_and_is_tried_again():
    async with node(Unwilling()) as kube:
        await created(kube)
        failing = translate(await seen(kube, lambda pod: "status" in pod), None)
        assert (failing.phase, failing.trouble) == (Phase.STARTING, Reason.CRASHING)
        assert "Resource temporarily unavailable" in failing.message
        started = await seen(kube, is_ready)
        assert started["status"]["podIP"].startswith("127.")


async def test_a_pod_is_marked_with_what_it_really_is():
    async with node(Processes()) as kube:
        await created(kube)
        bound = await seen(kube, lambda pod: "nodeName" in pod["spec"])
        assert bound["metadata"]["annotations"]["execpool.dev/isolation"] == "Interpreter"


async def test_a_pod_whose_server_is_killed_has_failed_and_stays_until_it_is_deleted():
    async with node(processes := Processes()) as kube:
        pod = await created(kube)
        await seen(kube, is_ready)
        os.kill(processes.running()[0].pids()[0], signal.SIGKILL)
        failed = await seen(kube, lambda pod: pod["status"]["phase"] == "Failed")
        assert translate(failed, None).phase is Phase.ENDED
        await kube.delete(PODS, POOL.namespace, "p", uid=pod["metadata"]["uid"])
        await until_gone(kube)


async def test_a_pod_that_is_deleted_goes_once_its_processes_have_ended():
    async with node(processes := Processes()) as kube:
        pod = await created(kube)
        await seen(kube, is_ready)
        (executor,) = processes.running()
        await kube.delete(PODS, POOL.namespace, "p", uid=pod["metadata"]["uid"])
        assert kube.peek(PODS), "it is only marked"
        await until_gone(kube)
        assert executor.died.done()
        assert not executor.places.root.exists()


async def until_gone(kube: MemoryKube) -> None:
    async with asyncio.timeout(30):
        while kube.peek(PODS):  # noqa: ASYNC110 - the node's work
            await asyncio.sleep(0.01)
