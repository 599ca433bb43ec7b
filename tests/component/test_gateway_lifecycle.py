"""Birth, demand, loss of the API server, drain and end of a gateway."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from tests.component.gateway_world import ROOT_KEY, SOURCE, GatewayWorld, Identity, gateway_world, pool, settings
from tests.component.scripted_executor import ScriptedExecutor, scripted

from execpool.core.proof import KeyRing
from execpool.gateway.service import Service
from execpool.kube.errors import UnreachableError
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import LEASES

BUSY = {"team/agents": {"waiting": {"local": 2}, "claims": 1}}


def executor(name: str, *, slots: int = 1) -> ScriptedExecutor:
    return ScriptedExecutor(Identity(name, slots=slots), held=asyncio.Event())


def start(world: GatewayWorld, user: str, **fields: object) -> "asyncio.Task[object]":
    return asyncio.create_task(world.post({"code": "1", "user": user} | fields))


def lease_writes(kube: FakeKube) -> list[Call]:
    return [call for call in kube.writes() if call.plural == "leases"]


async def test_the_lease_tells_claims_and_waiting_and_is_gone_afterwards() -> None:
    busy = executor("busy")
    async with scripted(busy):
        async with gateway_world(busy.identity, pools=[pool(slots=1)]) as world:
            running = start(world, "ann")
            await world.until(lambda: busy.running == 1)
            waiting = [start(world, user, maxWaitSeconds=1.3) for user in ("bob", "cay")]
            await world.until(lambda: world.demand() == BUSY)
            (lease,) = world.kube.peek(LEASES)
            assert lease["metadata"]["name"] == "execpool-gateway-gw-0"
            assert lease["metadata"]["namespace"] == "execpool-system"
            assert lease["metadata"]["labels"] == {"execpool.dev/component": "gateway"}
            assert lease["spec"]["holderIdentity"] == "local"
            assert lease["spec"]["leaseDurationSeconds"] == 60
            assert busy.held is not None
            busy.held.set()
            await asyncio.gather(running, *waiting)
            await world.until(lambda: world.demand() == {"team/agents": {"waiting": {}, "claims": 1}})
        assert world.kube.peek(LEASES) == ()
        assert {call.plural for call in world.kube.writes()} == {"leases"}


async def test_an_execution_writes_nothing_and_demand_at_most_once_a_second() -> None:
    free = ScriptedExecutor(Identity("free", slots=4))
    async with scripted(free), gateway_world(free.identity) as world:
        begin = time.monotonic()
        while time.monotonic() < begin + 1.5:
            await asyncio.gather(*(start(world, "ann") for _ in range(4)))
        assert len(free.executions) > 50
        assert len(lease_writes(world.kube)) <= 3


async def test_a_lease_left_by_a_predecessor_is_taken_over() -> None:
    kube = FakeKube()
    left = {"metadata": {"name": "execpool-gateway-gw-0"}, "spec": {"holderIdentity": "dead"}}
    kube.put(LEASES, "execpool-system", left)
    async with gateway_world(kube=kube) as world:
        await world.until(lambda: kube.peek(LEASES)[0]["spec"]["holderIdentity"] == "local")
    assert kube.peek(LEASES) == ()


async def test_a_lease_that_somebody_deleted_is_made_again() -> None:
    busy = executor("busy")
    async with scripted(busy), gateway_world(busy.identity) as world:
        await world.until(lambda: len(world.kube.peek(LEASES)) == 1)
        world.kube.drop(LEASES, "execpool-system", "execpool-gateway-gw-0")
        running = start(world, "ann")
        await world.until(lambda: len(world.kube.peek(LEASES)) == 1 and world.demand() != {})
        assert busy.held is not None
        busy.held.set()
        await running


async def test_executions_go_on_while_the_api_server_is_away() -> None:
    away: list[bool] = []

    def refuse(call: Call) -> None:
        if away:
            raise UnreachableError(call.verb)

    free = [ScriptedExecutor(Identity(name)) for name in ("one", "two")]
    kube = FakeKube(before=refuse)
    async with scripted(*free), gateway_world(*(one.identity for one in free), kube=kube) as world:
        assert (await world.run("1", user="ann"))["status"] == "Succeeded"
        away.append(True)
        assert (await world.run("1", user="ann"))["status"] == "Succeeded"
        assert (await world.run("1", user="bob"))["status"] == "Succeeded"
        assert (await world.health("readyz"))[0] == 200
        await asyncio.sleep(1.1)
        assert (await world.run("1", user="ann"))["status"] == "Succeeded"


async def test_a_gateway_is_not_ready_before_it_has_read_everything() -> None:
    blind = [True]

    def refuse(call: Call) -> None:
        if blind and call.plural == "pods":
            raise UnreachableError(call.verb)

    service = Service(settings(), FakeKube(before=refuse), KeyRing((ROOT_KEY,)))
    service.start()
    async with aiohttp.ClientSession() as http:
        while not service.is_listening():  # noqa: ASYNC110 - of two servers
            await asyncio.sleep(0.01)
        async with http.get(f"http://127.0.0.1:{service.health_port}/readyz") as response:
            assert response.status == 503
        blind.clear()
        async with asyncio.timeout(5):
            await service.ready.wait()
        async with http.get(f"http://127.0.0.1:{service.health_port}/readyz") as response:
            assert response.status == 200
    await service.stop()


async def test_a_drain_lets_running_executions_end_and_refuses_the_others() -> None:
    busy = executor("busy")
    assert busy.held is not None
    async with scripted(busy), gateway_world(busy.identity, pools=[pool(slots=1)], drain_seconds=5.0) as world:
        running, waiting = start(world, "ann"), start(world, "bob")
        await world.until(lambda: busy.running == 1 and world.waiting() == 1)
        stopping = asyncio.create_task(world.service.stop())
        refused = await waiting
        assert (refused.status, refused.body["reason"]) == (503, "Draining")
        assert refused.headers["Retry-After"] == "1"
        assert (await world.health("readyz"))[0] == 503
        late = await world.post({"code": "1"})
        assert (late.status, late.body["reason"]) == (503, "Draining")
        assert late.headers["Connection"] == "close"
        assert not stopping.done()
        busy.held.set()
        assert (await running).body["status"] == "Succeeded"
        async with asyncio.timeout(3):
            await stopping


async def test_a_drain_still_serves_while_endpoints_forget_the_gateway() -> None:
    free = ScriptedExecutor(Identity("free"))
    async with scripted(free), gateway_world(free.identity, settle_seconds=0.3) as world:
        stopping = asyncio.create_task(world.service.stop())
        await asyncio.sleep(0.05)
        reply = await world.post({"code": "1"})
        assert (reply.status, reply.headers["Connection"]) == (200, "close")
        await stopping


async def test_a_drain_ends_what_takes_too_long_and_says_so() -> None:
    busy = executor("busy", slots=2)
    async with scripted(busy), gateway_world(busy.identity, drain_seconds=0.2) as world:
        running = start(world, "ann")
        streaming = asyncio.create_task(world.lines("1", user="ann"))
        await world.until(lambda: busy.running == 2)
        await world.service.stop()
        for answer in ((await running).body, (await streaming)[-1]):
            assert (answer["status"], answer["reason"]) == ("Cancelled", "GatewayStopped")


async def test_a_part_that_ends_ends_the_gateway() -> None:
    def crash(call: Call) -> None:
        if call.plural == "executionkeys":
            raise ZeroDivisionError

    service = Service(settings(), FakeKube(before=crash), KeyRing((ROOT_KEY,)))
    async with asyncio.timeout(5):
        assert await service.run(asyncio.Event()) is False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_process_says_what_it_lacks(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "EXECPOOL_ROOT_KEY_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "execpool.gateway.main"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "root-key create" in done.stderr


def test_the_process_ends_cleanly_on_sigterm_even_before_it_is_ready(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("ab" * 32)
    cluster = {"server": f"http://127.0.0.1:{free_port()}"}
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "EXECPOOL_ROOT_KEY_DIR": str(tmp_path),
        "EXECPOOL_KUBECONFIG": str(tmp_path / "kubeconfig"), "EXECPOOL_HOST": "127.0.0.1",
        "EXECPOOL_PORT": "0", "EXECPOOL_HEALTH_PORT": str(port), "EXECPOOL_SETTLE_SECONDS": "0",
    }  # fmt: skip
    command = [sys.executable, "-m", "execpool.gateway.main"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert "watch interrupted" in events
    assert events[-1] == "gateway stopped"


@pytest.mark.parametrize("path", ["healthz", "readyz", "metrics"])
async def test_health_and_metrics_have_a_listener_of_their_own(path: str) -> None:
    async with gateway_world() as world:
        assert (await world.health(path))[0] == 200
        async with world.http.get(f"http://127.0.0.1:{world.service.port}/{path}") as response:
            assert response.status == 404
