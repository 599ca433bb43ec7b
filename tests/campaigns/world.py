"""One plan's world: an API server in memory, an emulator and an operator, both processes under one pace.

    async with world(Pace(20), directory) as one:
        one.apply_pool(3)
        await one.until(lambda: one.ready() == 3)
        one.history()                                    # the emulator's ledger

Whoever ends the operator's process, another one is started at once, as the kubelet does.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import aiohttp
from tests.campaigns import tap
from tests.campaigns.apiserver import api_server
from tests.campaigns.lives import EmulatorLife, OperatorLife
from tests.campaigns.pace import Pace
from tests.campaigns.plans import Death, Writes
from tests.campaigns.verdict import Facts, Verdict, verdict

from execpool.core.times import format_time
from execpool.emulator.ledger import History
from execpool.kube.errors import ConflictError, UnreachableError
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import ACCOUNTS, CRDS, KEYS, NAMESPACES, POOLS, SANDBOXES, SECRETS

KEY = "e2b_00"
CREATES_PER_SECOND = 5
MOST = 16
FOREIGN = 2
"""Sandboxes of somebody else on the same account."""
PATIENCE = 600.0
"""Seconds until what is waited for has not come."""
EMULATOR = {"port": 0, "admin_port": 0, "api_keys": KEY, "plan": "pro", "executors": False}


@dataclass(frozen=True)
class Options:
    """What is different about a world."""

    deaths: Sequence[Death] = ()
    writes: Writes = Writes.FINE
    bug: str = ""
    emulator: dict[str, Any] = field(default_factory=dict)


class NotSettledError(AssertionError):
    """What was waited for has not come."""


class World:
    def __init__(self, pace: Pace, directory: Path, options: Options) -> None:
        self.pace = pace
        self.options = options
        self.kube = FakeKube()
        self.lives = 0
        self.died = 0
        self.known: dict[str, float] = {}
        self.uids: set[str] = set()
        self.released: dict[str, float] = {}
        self.account_url = self.admin_url = ""
        self._directory = directory
        self._operator: ForkServerProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._status_writes = 0
        self._pool_uids: dict[tuple[str, str], str] = {}
        self._waking: set[asyncio.Task[None]] = set()
        self.kube.before, self.kube.after = self._before, self._after

    # The scene

    def furnish(self) -> None:
        self.kube.put(NAMESPACES, "", {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
        for kind in (POOLS, KEYS, ACCOUNTS, SANDBOXES):
            self.kube.put(CRDS, "", {"metadata": {"name": f"{kind.plural}.{kind.group}"}})
        self.apply_secret()
        self.apply_account()

    def apply_secret(self, key: str = KEY) -> None:
        data = {"apiKey": base64.b64encode(key.encode()).decode()}
        self.kube.put(SECRETS, "agents", {"metadata": {"name": "e2b"}, "type": "execpool.dev/e2b", "data": data})

    def apply_account(self, **spec: Any) -> None:
        limits = {"createsPerSecond": CREATES_PER_SECOND, "sandboxes": 20}
        body = {"credentialsSecret": "e2b", "apiUrl": self.account_url, "plan": "Pro", "limits": limits} | spec
        self.kube.put(ACCOUNTS, "agents", {"metadata": {"name": "main"}, "spec": body})

    def apply_pool(self, replicas: int, *, namespace: str = "agents", e2b: Any = None, **spec: Any) -> None:
        """Make or change the pool of a namespace, as `kubectl apply` does."""
        tier = {"accountRef": {"name": "main", "namespace": "agents"}, "max": 12} | (e2b or {})
        body = {"replicas": replicas, "tiers": [{"name": "e2b", "e2b": tier}]} | spec
        known = next(iter(self.kube.peek(POOLS, namespace)), {"metadata": {"name": "agents", "generation": 0}})
        metadata = {**known["metadata"], "generation": known["metadata"]["generation"] + 1}
        self._put(POOLS, namespace, {**known, "metadata": metadata, "spec": body})

    def delete_pool(self) -> None:
        (pool,) = self.kube.peek(POOLS)
        pool["metadata"]["deletionTimestamp"] = format_time(self.pace.now())
        self._put(POOLS, pool["metadata"]["namespace"], pool)

    def claim(self) -> None:
        """What a gateway writes when it takes a sandbox."""
        record = next(one for one in self.records() if one["status"].get("phase") == "Ready")
        held = {"principal": "p1", "gateway": "gw", "epoch": 1, "claimedAt": format_time(self.pace.now())}
        record["status"] |= {"phase": "Claimed", "claim": held}
        self._put(SANDBOXES, "agents", record)

    def _put(self, kind: Any, namespace: str, body: dict[str, Any]) -> None:
        self.kube.put(kind, namespace, body)
        waking = asyncio.create_task(self.kube.notify())
        self._waking.add(waking)
        waking.add_done_callback(self._waking.discard)

    # Time

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(self.pace.real(seconds))

    async def until(self, condition: Callable[[], bool], what: str = "", seconds: float = PATIENCE) -> None:
        """Wait until a condition holds. Raises NotSettledError."""
        end = self.pace.now() + seconds
        while not condition():
            if self.pace.now() > end:
                raise NotSettledError(f"{what or 'it'} did not come to pass in {seconds:g} s")
            await self.sleep(1.0)

    # What there is

    def records(self) -> list[dict[str, Any]]:
        return list(self.kube.peek(SANDBOXES))

    def history(self) -> History:
        return History.load(self._directory / "ledger.jsonl")

    def requests(self) -> list[tap.Noted]:
        return tap.read(self._directory / "requests.jsonl")

    def log(self) -> str:
        return (self._directory / "operator.log").read_text()

    def verdict(self, wanted: int) -> Verdict:
        now = self.pace.now()
        facts = Facts(
            wanted, self.records(), self.known, self.uids, self.released, self.requests(), now, CREATES_PER_SECOND, MOST
        )
        return verdict(self.history(), facts)

    def is_settled(self, count: int, template: str = "") -> bool:
        """True when there are so many records, all ready, and the account has their sandboxes and no others of ours."""
        records, lives = self.records(), self.history()
        alive = lives.alive(self.pace.now())
        ours = {name for name in alive if "execpool-cluster" in lives.lives[name].created.metadata}
        ready = {(one.get("status") or {}).get("sandboxID", "") for one in records}
        right = all((one.get("status") or {}).get("phase") in ("Ready", "Claimed") for one in records)
        templates = {lives.lives[name].created.template for name in ours} - {template}
        return right and len(records) == count and ours == ready and not (template and templates)

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        async with aiohttp.ClientSession() as http, http.request(method, self.admin_url + path, json=body) as answer:
            said = await answer.read()
            assert answer.status < 300, said
            return json.loads(said) if said else None

    # The API server as it is told to be

    def _before(self, call: Call) -> None:
        if self._is_disturbed(call, Writes.CONFLICT):
            raise ConflictError(409, "Conflict", "somebody wrote in between")

    def _after(self, call: Call) -> None:
        now = self.pace.now()
        for record in self.kube.peek(SANDBOXES):
            self.uids.add(record["metadata"]["uid"])
            if name := (record.get("status") or {}).get("sandboxID"):
                self.known.setdefault(name, now)
        if call.plural == POOLS.plural and isinstance(call.body, list) and not call.body[-1]["value"]:
            self.released.setdefault(self._pool_uids.get((call.namespace, call.name), ""), now)
        self._pool_uids |= {
            (one["metadata"]["namespace"], one["metadata"]["name"]): one["metadata"]["uid"]
            for one in self.kube.peek(POOLS)
        }
        if self._is_disturbed(call, Writes.LOST):
            raise UnreachableError("the answer is lost")

    def _is_disturbed(self, call: Call, how: Writes) -> bool:
        is_status = call.verb == "patch" and isinstance(call.body, dict) and "status" in call.body
        if not is_status or self.options.writes is not how:
            return False
        self._status_writes += 1
        return self._status_writes % 3 == 0

    # Processes

    async def run_operators(self, url: str) -> None:
        environment = self._environment(url)
        self._keeper = asyncio.create_task(self._keep(environment))
        await asyncio.sleep(0)

    async def stop_operators(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._operator is not None:
            self._operator.kill()
            await asyncio.to_thread(self._operator.join)

    def kill_operator(self) -> None:
        """SIGKILL, from outside."""
        if self._operator is not None:
            self._operator.kill()

    async def _keep(self, environment: dict[str, str]) -> None:
        while True:
            deaths = dict(enumerate(self.options.deaths))
            life = OperatorLife(
                self.lives,
                self.pace,
                self._directory / "operator.log",
                self._directory / "requests.jsonl",
                environment,
                deaths.get(self.lives),
                self.options.bug,
            )
            self._operator = life.start()
            self.lives += 1
            await _ended(self._operator)
            self.died += self._operator.exitcode == -9

    def _environment(self, url: str) -> dict[str, str]:
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster]}
        config |= {"contexts": [context], "users": [{"name": "u", "user": {"token": "none"}}]}
        (self._directory / "kubeconfig").write_text(json.dumps(config))
        (self._directory / "current").write_text("0a" * 32)
        return {
            "EXECPOOL_KUBECONFIG": str(self._directory / "kubeconfig"),
            "EXECPOOL_ROOT_KEY_DIR": str(self._directory),
            "EXECPOOL_E2B_ENDPOINTS": self.account_url,
            "EXECPOOL_HOST": "127.0.0.1",
            "EXECPOOL_HEALTH_PORT": "0",
        }

    async def start_emulator(self) -> ForkServerProcess:
        chosen = {**EMULATOR, "ledger": self._directory / "ledger.jsonl", **self.options.emulator}
        process, ready = EmulatorLife(self.pace, self._directory / "emulator.log", chosen).start()
        port, admin_port = await asyncio.to_thread(ready.recv)
        ready.close()
        self.account_url, self.admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
        return process

    async def occupy(self) -> None:
        """Let somebody else have sandboxes on the account, for an hour."""
        body = {"templateID": "base", "timeout": 3600, "metadata": {"owner": "somebody else"}}
        async with aiohttp.ClientSession(headers={"X-API-Key": KEY}) as http:
            for _ in range(FOREIGN):
                async with http.post(f"{self.account_url}/v2/sandboxes", json=body) as answer:
                    assert answer.status == 201, await answer.text()


async def _ended(process: ForkServerProcess) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()


@asynccontextmanager
async def world(pace: Pace, directory: Path, options: Options = Options()) -> AsyncIterator[World]:
    """A world with an account, its Secret, and an operator that is always started again."""
    async with AsyncExitStack() as stack:
        one = World(pace, directory, options)
        emulator = await one.start_emulator()
        stack.callback(emulator.join)
        stack.callback(emulator.terminate)
        await one.occupy()
        url = await stack.enter_async_context(api_server(one.kube))
        one.furnish()
        stack.push_async_callback(one.stop_operators)
        await one.run_operators(url)
        yield one
