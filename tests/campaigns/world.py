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
from pathlib import Path
from typing import Any

import aiohttp

from execpool.core.times import format_time
from execpool.emulator.ledger import History
from execpool.kube.errors import ConflictError, UnreachableError
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import ACCOUNTS, CRDS, KEYS, NAMESPACES, POOLS, SANDBOXES, SECRETS
from execpool.providers.e2b.tags import CLUSTER
from tests.campaigns import tap
from tests.campaigns.apiserver import Meddler, Meddling, api_server
from tests.campaigns.keeping import Operators, emulator
from tests.campaigns.pace import Pace
from tests.campaigns.plans import Death, Writes
from tests.campaigns.verdict import Facts, Verdict, verdict

KEY = "e2b_00"
CREATES_PER_SECOND = 5
MOST = 16
FOREIGN = 2
"""Sandboxes of somebody else on the same account."""
TEMPLATE = "code-interpreter-v1"
PATIENCE = 900.0
"""Seconds until what is waited for has not come."""
ATTEMPTS = 5
LOOK_SECONDS = 0.1
"""Between two looks, real ones."""
EMULATOR = {"port": 0, "admin_port": 0, "api_keys": KEY, "plan": "pro", "executors": False}


@dataclass(frozen=True)
class Options:
    """What is different about a world."""

    deaths: Sequence[Death] = ()
    writes: Writes = Writes.FINE
    bug: str = ""
    key: str = KEY
    """In the account's Secret, at first."""
    foreign: int = FOREIGN
    patience: float = PATIENCE
    account: dict[str, Any] = field(default_factory=dict)
    emulator: dict[str, Any] = field(default_factory=dict)


class NotSettledError(AssertionError):
    """What was waited for has not come."""


class World:
    def __init__(self, pace: Pace, directory: Path, options: Options) -> None:
        self.pace = pace
        self.options = options
        self.kube = FakeKube()
        self.operators: Operators
        self.meddler: Meddler = lambda _effect: None
        self.known: dict[str, float] = {}
        self.let_go: dict[str, float] = {}
        self.uids: set[str] = set()
        self.released: dict[str, float] = {}
        self.account_url = self.admin_url = self.stranger = ""
        self._directory = directory
        self._status_writes = 0
        self._pool_uids: dict[str, str] = {}
        self._waking: set[asyncio.Task[None]] = set()
        self.kube.before, self.kube.after = self._before, self._after

    # The scene

    def furnish(self) -> None:
        self.kube.put(NAMESPACES, "", {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
        for kind in (POOLS, KEYS, ACCOUNTS, SANDBOXES):
            self.kube.put(CRDS, "", {"metadata": {"name": f"{kind.plural}.{kind.group}"}})
        self.apply_secret(self.options.key)
        self.apply_account(**self.options.account)

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
        (made,) = self.kube.peek(POOLS, namespace)
        self._pool_uids[namespace] = made["metadata"]["uid"]

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

    async def until(self, condition: Callable[[], bool], what: str, seconds: float = 0.0) -> None:
        """Wait until a condition holds. Raises NotSettledError."""
        seconds = seconds or self.options.patience
        end = self.pace.now() + seconds
        while not condition():
            if self.pace.now() > end:
                raise NotSettledError(f"{what} did not come to pass in {seconds:g} s")
            await asyncio.sleep(max(self.pace.real(2.0), LOOK_SECONDS))

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
            wanted=wanted,
            records=self.records(),
            known=self.known,
            let_go=self.let_go,
            uids=self.uids,
            planted={self.stranger},
            released=self.released,
            requests=self.requests(),
            now=now,
            creates_per_second=CREATES_PER_SECOND,
            most=MOST,
        )
        return verdict(self.history(), facts)

    def is_settled(self, count: int, template: str = "") -> bool:
        """True when there are so many records, all ready, and the account has their sandboxes and no others of ours."""
        states = [one.get("status") or {} for one in self.records()]
        if len(states) != count or any(one.get("phase") not in ("Ready", "Claimed") for one in states):
            return False
        history = self.history()
        alive = {name: history.lives[name].created for name in history.alive(self.pace.now())}
        ours = {name: created.template for name, created in alive.items() if CLUSTER in created.metadata}
        return ours.keys() == {one["sandboxID"] for one in states} and set(ours.values()) <= {
            template or "base",
            TEMPLATE,
        }

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        return await self._ask(method, self.admin_url + path, body)

    async def _ask(self, method: str, url: str, body: Any) -> Any:
        headers = {"X-API-Key": KEY}
        for _ in range(ATTEMPTS):
            try:
                async with (
                    aiohttp.ClientSession() as http,
                    http.request(method, url, json=body, headers=headers) as answer,
                ):
                    said = await answer.read()
                    assert answer.status < 300, said
                    return json.loads(said) if said else None
            except aiohttp.ClientConnectionError:
                continue  # a hurried emulator gives a request half a second to come; a busy machine may need longer
        raise NotSettledError(f"{method} {url} was not answered")

    # The API server as it is told to be

    def meddle(self, effect: str) -> Meddling | None:
        return self.meddler(effect)

    def _before(self, call: Call) -> None:
        if self._is_disturbed(call, Writes.CONFLICT):
            raise ConflictError(409, "Conflict", "somebody wrote in between")

    def _after(self, call: Call) -> None:
        now = self.pace.now()
        if call.writes and call.plural == SANDBOXES.plural:
            self._follow_records(now)
        if call.plural == POOLS.plural and isinstance(call.body, list) and not call.body[-1]["value"]:
            self.released.setdefault(self._pool_uids[call.namespace], now)
        if self._is_disturbed(call, Writes.LOST):
            raise UnreachableError("the answer is lost")

    def _follow_records(self, now: float) -> None:
        keep = set()
        for record in self.records():
            self.uids.add(record["metadata"]["uid"])
            status = record.get("status") or {}
            if name := status.get("sandboxID"):
                self.known.setdefault(name, now)
                keep |= {name} if status["phase"] in ("Ready", "Claimed") and not _is_deleted(record) else set()
        for name in self.known.keys() - keep:
            self.let_go.setdefault(name, now)

    def _is_disturbed(self, call: Call, how: Writes) -> bool:
        is_status = call.verb == "patch" and isinstance(call.body, dict) and "status" in call.body
        if not is_status or self.options.writes is not how:
            return False
        self._status_writes += 1
        return self._status_writes % 3 == 0

    async def make(self, seconds: int = 3600, **metadata: str) -> str:
        """Create a sandbox behind the operator's back; return its id."""
        body = {"templateID": "base", "timeout": seconds, "metadata": metadata}
        made = await self._ask("POST", f"{self.account_url}/v2/sandboxes", body)
        return str(made["sandboxID"])


def _is_deleted(record: dict[str, Any]) -> bool:
    return bool(record["metadata"].get("deletionTimestamp"))


@asynccontextmanager
async def world(pace: Pace, directory: Path, options: Options = Options()) -> AsyncIterator[World]:
    """A world with an account, its Secret, and an operator that is always started again."""
    async with AsyncExitStack() as stack:
        one = World(pace, directory, options)
        emulated = await stack.enter_async_context(emulator(pace, directory, {**EMULATOR, **options.emulator}))
        one.account_url, one.admin_url = emulated
        for _ in range(options.foreign):
            await one.make(owner="somebody else")
        url = await stack.enter_async_context(api_server(one.kube, one.meddle))
        one.furnish()
        one.operators = Operators(pace, directory, options.deaths, options.bug, one.account_url)
        await stack.enter_async_context(one.operators.kept(url))
        yield one
