"""The operator's account task and the gateway, as they are, on an API server in memory. Run as a process by `e2b_arms.py`.

creates      a worker has a pool: `E2BProvider.create` writes a record, the account's task brings it to Ready within the
             account's limits, the worker has it ended, again and again
executions   a worker is a user with a sandbox of his own: `POST /v1/executions`, one after the other
"""

import asyncio
import base64
import hashlib
import logging
import secrets
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from benchmarks.e2b_arms import CODE, VALUE, Errand, Tally
from execpool.api.e2b import SECRET_KEY, SECRET_TYPE, SandboxPhase
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.controller.account_tasks import AccountTasks
from execpool.controller.composition import make_rounds
from execpool.controller.leadership import Leadership
from execpool.core.model import Pool
from execpool.core.proof import RootKey
from execpool.core.sealing import NONCE_BYTES, SandboxAccess, seal
from execpool.core.times import format_time
from execpool.gateway.service import Service
from execpool.kube.client import EventType, Object
from execpool.kube.fake import FakeKube
from execpool.kube.kinds import ACCOUNTS, KEYS, NAMESPACES, POOLS, SANDBOXES, SECRETS
from execpool.kube.reflector import Reflector
from execpool.providers.base import ProviderError
from execpool.providers.e2b.provider import E2BProvider
from execpool.providers.e2b.records import AccountName, executor_of, make_record, read_record
from execpool.settings import GatewaySettings, OperatorSettings

NAMESPACE = "team"
KEY = "ep_team_" + "s" * 43
TIERS = [{"name": "e2b", "e2b": {"accountRef": {"name": "main"}, "max": 64}}]
SPEC = ExecutionPoolSpec.model_validate({"tiers": TIERS})


async def main() -> None:
    logging.getLogger().setLevel(logging.CRITICAL)
    errand = Errand.read(sys.argv[1])
    with tempfile.TemporaryDirectory(prefix="execpool-bench-") as directory:
        (Path(directory) / "current").write_text(secrets.token_hex(32))
        await serve(errand, Path(directory))


async def serve(errand: Errand, root_key_dir: Path) -> None:
    common: dict[str, Any] = {"host": "127.0.0.1", "health_port": 0, "root_key_dir": root_key_dir}
    operator = OperatorSettings(e2b_endpoints=errand.url, cluster_id="bench", **common)
    gateway = GatewaySettings(port=0, settle_seconds=0, drain_seconds=1, **common)
    service = Service(gateway, _gateways_cluster(errand, gateway.key_ring().current), gateway.key_ring())
    service.start()
    await service.ready.wait()
    kube = _operators_cluster(errand)
    leadership = Leadership(kube, operator.namespace, "bench")
    await leadership.acquire()
    creator = Creator(kube, operator, leadership)
    await creator.start()
    tally, tasks = Tally.empty(errand), [asyncio.create_task(leadership.hold())]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as http:
        for worker in range(len(errand.sandboxes)):
            create, execute = creator.worker(worker), _user(http, worker)
            tasks.append(asyncio.create_task(_keep(create, tally.creates, worker)))
            tasks.append(asyncio.create_task(_keep(execute, tally.executions, worker)))
        await _until_closed(tasks)
        print(tally.written(), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await creator.close()
    await service.stop()


async def _until_closed(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the end of standard input. Raises what ended a worker."""
    closed = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    done, _ = await asyncio.wait({closed, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _keep(work: Callable[[], Awaitable[bool]], counts: list[int], worker: int) -> None:
    while True:
        counts[worker] += await work()


def _user(http: aiohttp.ClientSession, worker: int) -> Callable[[], Awaitable[bool]]:
    body = {"code": CODE, "pool": "running", "user": f"user-{worker}", "maxWaitSeconds": 60}
    headers = {"Authorization": f"Bearer {KEY}"}

    async def execute() -> bool:
        async with http.post("/v1/executions", json=body, headers=headers) as response:
            answer = await response.json(content_type=None)
        if response.status == 200 and [result["text"] for result in answer["results"]] == [VALUE]:
            return True
        logging.getLogger(__name__).critical("not executed: %s", answer)
        await asyncio.sleep(1)
        return False

    return execute


class Creator:
    """The operator's part that attends to accounts, and workers that want sandboxes of it."""

    def __init__(self, kube: FakeKube, settings: OperatorSettings, leadership: Leadership) -> None:
        rounds = make_rounds(settings, kube, leadership)
        self._tasks = AccountTasks(rounds, on_fenced=lambda: None)
        rounds.on_progress = rounds.desks.on_asked = self._tasks.nudge
        self._provider = E2BProvider(kube, rounds.desks, settings.key_ring())
        self._changed: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._records = Reflector(kube, SANDBOXES, namespace=None, on_change=self._on_record)
        self._following: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Follow records, and let the account's task read the account."""
        self._following = asyncio.create_task(self._records.run())
        await self._records.synced.wait()
        self._tasks.nudge(AccountName(NAMESPACE, "main"))

    async def close(self) -> None:
        await self._tasks.close()
        if self._following is not None:
            self._following.cancel()

    def worker(self, number: int) -> Callable[[], Awaitable[bool]]:
        """Return the work of one worker, with a pool of its own."""
        pool = Pool(NAMESPACE, f"pool-{number}", f"pool-uid-{number}", 1, "1", SPEC, ExecutionPoolStatus())

        async def create() -> bool:
            try:
                name = await self._provider.create(pool, SPEC.tiers[0])
            except ProviderError:
                await asyncio.sleep(0.1)  # the account has not been looked at yet
                return False
            record = await self._until(name, lambda record: record["status"].get("phase") == "Ready")
            await self._provider.remove(executor_of(read_record(record), time.time()), NAMESPACE)
            return True

        return create

    async def _until(self, name: str, condition: Callable[[Object], bool]) -> Object:
        while True:
            changed = self._changed[name]
            changed.clear()
            known = {one["metadata"]["name"]: one for one in self._records.objects.values()}
            if name in known and condition({"status": {}} | known[name]):
                del self._changed[name]
                return known[name]
            await changed.wait()

    def _on_record(self, _event: EventType, record: Object) -> None:
        self._tasks.nudge_account_of(record)
        self._changed[record["metadata"]["name"]].set()


def _account(errand: Errand) -> Object:
    limits: dict[str, Any] = {"createsPerSecond": errand.creates_per_second, "sandboxes": 100}
    if errand.executions_per_minute is not None:
        limits["executionsPerMinute"] = errand.executions_per_minute
    spec = {"credentialsSecret": "e2b", "apiUrl": errand.url, "plan": "Custom", "limits": limits}
    return {"metadata": {"name": "main", "generation": 1}, "spec": spec}


def _operators_cluster(errand: Errand) -> FakeKube:
    """Return an API server with an account and its Secret."""
    kube = FakeKube()
    kube.put(NAMESPACES, "", {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
    kube.put(ACCOUNTS, NAMESPACE, _account(errand))
    data = {SECRET_KEY: base64.b64encode(errand.connection["api_key"].encode()).decode()}
    kube.put(SECRETS, NAMESPACE, {"metadata": {"name": "e2b"}, "type": SECRET_TYPE, "data": data})
    return kube


def _gateways_cluster(errand: Errand, root_key: RootKey) -> FakeKube:
    """Return one with an account, a pool, a key, and a record for each sandbox in which code runs."""
    kube = FakeKube()
    kube.put(ACCOUNTS, NAMESPACE, _account(errand))
    kube.put(POOLS, NAMESPACE, {"metadata": {"name": "running", "uid": "running-uid"}, "spec": {"tiers": TIERS}})
    key = {"keyHash": hashlib.sha256(KEY.encode()).hexdigest(), "tenant": "acme"}
    kube.put(KEYS, NAMESPACE, {"metadata": {"name": "agent"}, "spec": key})
    for number, sandbox in enumerate(errand.sandboxes):
        kube.put(SANDBOXES, NAMESPACE, _record(errand, root_key, number, sandbox))
    return kube


def _record(errand: Errand, root_key: RootKey, number: int, sandbox: dict[str, Any]) -> Object:
    uid, sandbox_id = f"record-uid-{number}", sandbox["sandboxID"]
    tokens = SandboxAccess(sandbox_id, errand.url, sandbox["envdAccessToken"], sandbox["trafficAccessToken"])
    pool = Pool(NAMESPACE, "running", "running-uid", 1, "1", SPEC, ExecutionPoolStatus())
    record = make_record(pool, SPEC.tiers[0], f"box-{number}", time.time())
    record["metadata"] |= {"uid": uid, "creationTimestamp": format_time(time.time())}
    record["status"] = {
        "phase": SandboxPhase.READY,
        "sandboxID": sandbox_id,
        "expiresAt": format_time(time.time() + 3600),
        "sealedTokens": seal(root_key, uid, tokens, secrets.token_bytes(NONCE_BYTES)),
    }
    return record


if __name__ == "__main__":
    uvloop.run(main())
