"""Pools with an e2b tier, an account and a scripted E2B: all in one process, on one clock, with a crash at any effect."""

import base64
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.component.operator_world import CrashError
from tests.component.scripted_e2b import KEY, ScriptedE2B

from execpool.api.names import LABEL_POOL_UID
from execpool.api.v1alpha1 import TierKind
from execpool.controller.accounts import AccountRounds
from execpool.controller.credentials import CredentialsReader
from execpool.controller.effects import Effects
from execpool.controller.equipping import Equipper
from execpool.controller.events import EventRecorder
from execpool.controller.pools import PoolRef, ref_of
from execpool.controller.reconcile import Reconciler
from execpool.core.model import Demand, Use
from execpool.core.proof import KeyRing, RootKey
from execpool.core.times import format_time
from execpool.kube.errors import KubeError
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import ACCOUNTS, NAMESPACES, POOLS, SANDBOXES, SECRETS
from execpool.kube.resources import ExecutorProfile
from execpool.providers.by_kind import ProviderByKind
from execpool.providers.e2b.client import E2BClient, Timeouts
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.desks import Desks
from execpool.providers.e2b.holds import Watches
from execpool.providers.e2b.provider import E2BProvider
from execpool.providers.e2b.recording import Recorder
from execpool.providers.e2b.records import AccountName, RecordWriter
from execpool.providers.e2b.slot_driver import SlotDriver
from execpool.providers.e2b.sweeping import Sweeper
from execpool.providers.e2b.tags import Tagger
from execpool.providers.fake import FakeExecutors
from execpool.providers.pods import PodsProvider

QUICK = Timeouts(connect=0.5, create=0.15, others=0.15)
KEYS = KeyRing((RootKey(b"k" * 32),))
ACCOUNT = AccountName("agents", "main")
EFFECTS = ("create", "connect", "extend", "kill")


class Tapped:
    """E2B's client with a place to die at before and after each call."""

    def __init__(self, api: Any, world: "AccountWorld") -> None:
        self._api, self._world = api, world

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any) -> Any:
            self._world.on_call(name, after=False)
            result = await getattr(self._api, name)(*arguments)
            self._world.on_call(name, after=True)
            return result

        return call


@dataclass
class Parts:
    """What a test may replace by something with a bug in it."""

    driver: type[SlotDriver] = SlotDriver
    sweeper: type[Sweeper] = Sweeper
    provider: type[E2BProvider] = E2BProvider
    client: type[E2BClient] = E2BClient
    tagger: type[Tagger] = Tagger
    driver_options: dict[str, Any] = field(default_factory=dict)


@dataclass
class AccountWorld:
    e2b: ScriptedE2B
    parts: Parts = field(default_factory=Parts)
    kube: FakeKube = field(default_factory=FakeKube)
    now: float = 1_767_225_700.0
    endpoints: tuple[str, ...] = ()
    crash: Callable[[str, bool], bool] = lambda _effect, _after: False
    crashes: int = 0
    keys: KeyRing = KEYS
    comes_back: bool = True
    """Whether an operator that died is started again."""
    waiting: dict[str, int] = field(default_factory=dict)
    use: Use | None = None
    """What a gateway says of the executions."""
    effects: list[str] = field(default_factory=list)
    unannounced: int = 0
    """Sandboxes of ours that were made although no record stood for them."""
    unrecorded: int = 0
    """Most sandboxes of ours whose id no record had, at a moment when nothing was under way."""
    _dead: bool = False

    def __post_init__(self) -> None:
        self.kube.put(NAMESPACES, "", {"metadata": {"name": "kube-system", "uid": "cluster-uid"}})
        self.kube.before = lambda call: self._on_kube(call, after=False)
        self.kube.after = lambda call: self._on_kube(call, after=True)
        self.fault_before: Callable[[Call], None] = lambda _call: None
        self.fault_after: Callable[[Call], None] = lambda _call: None
        self.e2b.on_make = self._announce
        self.start_operator()

    def _announce(self, tag: dict[str, str]) -> None:
        uids = {one["metadata"]["uid"] for one in self.records()}
        self.unannounced += "execpool-record" in tag and tag["execpool-record"] not in uids

    def start_operator(self) -> None:
        """A process without memory."""
        clock = lambda: self.now  # noqa: E731
        watches = Watches(clock, clock, lambda: 1.0)
        writer = RecordWriter(self.kube)
        tagger = self.parts.tagger("")
        self.rounds = AccountRounds(
            kube=self.kube,
            desks=Desks(watches),
            driver=self.parts.driver(writer, Recorder(writer, self.keys), tagger, clock, **self.parts.driver_options),
            sweeper=self.parts.sweeper(tagger, clock),
            equipper=Equipper(
                CredentialsReader(self.kube, "execpool-system:execpool-operator"),
                lambda url, key: Tapped(self.parts.client(url, key, timeouts=QUICK), self),
                self.endpoints or (self.e2b.url,),
                clock,
            ),
            control_namespace="execpool-system",
        )
        pods = PodsProvider(self.kube, FakeExecutors(), KEYS, ExecutorProfile("image"), "execpool-system")
        self.provider = self.parts.provider(self.kube, self.rounds.desks, self.keys)
        provider = ProviderByKind({TierKind.PODS: pods, TierKind.E2B: self.provider})
        self.reconciler = Reconciler(
            kube=self.kube,
            provider=provider,
            effects=Effects(self.kube, provider, clock),
            recorder=EventRecorder(self.kube, "operator-0"),
            demand_of=lambda _pool: Demand(dict(self.waiting)),
            use_of=lambda _pool: self.use,
            budgets_of=self.rounds.desks.budgets_of,
            backends_of=self.rounds.desks.backends_of,
            clock=clock,
            empty_list_pause=0.0,
        )
        self.rounds.desks.on_relief = self.reconciler.effects.forgive

    # The scene

    def apply_account(self, namespace: str = "agents", name: str = "main", **spec: Any) -> None:
        body = {"credentialsSecret": "e2b", "apiUrl": self.e2b.url, "plan": "Pro"} | spec
        known = next((one for one in self.kube.peek(ACCOUNTS, namespace) if one["metadata"]["name"] == name), None)
        wire = known or {"metadata": {"name": name}}
        self.kube.put(ACCOUNTS, namespace, {**wire, "spec": body})

    def apply_secret(self, key: str = KEY, namespace: str = "agents", type_: str = "execpool.dev/e2b") -> None:
        data = {"apiKey": base64.b64encode(key.encode()).decode()}
        self.kube.put(SECRETS, namespace, {"metadata": {"name": "e2b"}, "type": type_, "data": data})

    def apply_pool(
        self, replicas: int = 3, *, namespace: str = "agents", e2b: dict[str, Any] | None = None, **spec: Any
    ) -> PoolRef:
        tier = {"accountRef": {"name": "main", "namespace": "agents"}, "max": 8} | (e2b or {})
        known = next(iter(self.kube.peek(POOLS, namespace)), {"metadata": {"name": "agents", "generation": 0}})
        metadata = {**known["metadata"], "generation": known["metadata"]["generation"] + 1}
        body = {"replicas": replicas, "tiers": [{"name": "e2b", "e2b": tier}]} | spec
        return ref_of(self.kube.put(POOLS, namespace, {**known, "metadata": metadata, "spec": body}))

    def delete_pool(self, namespace: str = "agents") -> None:
        (pool,) = self.kube.peek(POOLS, namespace)
        pool["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
        self.kube.put(POOLS, namespace, pool)

    def claim(self, name: str, principal: str = "p1", namespace: str = "agents") -> None:
        """What a gateway writes when it takes a sandbox."""
        record = next(one for one in self.records(namespace) if one["metadata"]["name"] == name)
        held = {"principal": principal, "gateway": "gw", "epoch": 1, "claimedAt": format_time(self.now)}
        record["status"] |= {"phase": "Claimed", "claim": held}
        self.kube.put(SANDBOXES, namespace, record)

    # Time

    async def run(self, seconds: float, *pools: PoolRef, step: float = 1.0) -> None:
        """Let the operator work for so long, restarting it whenever it dies."""
        refs = pools or tuple(ref_of(one) for one in self.kube.peek(POOLS))
        end = self.now + seconds
        while self.now < end:
            if self.comes_back or not self.crashes:
                await self.work(refs)
            self.now += step

    async def work(self, refs: tuple[PoolRef, ...] | None = None) -> None:
        """One look at everything, until nothing moves at this moment."""
        refs = tuple(ref_of(one) for one in self.kube.peek(POOLS)) if refs is None else refs
        names = {AccountName(one["metadata"]["namespace"], one["metadata"]["name"]) for one in self.kube.peek(ACCOUNTS)}
        for _ in range(20):
            before = (len(self.kube.writes()), len(self.e2b.requests))
            try:
                await self._pass(refs, names)
            except CrashError:
                await self._restart()
                if not self.comes_back:
                    break
            if before == (len(self.kube.writes()), len(self.e2b.requests)):
                break
        ours = {name for name, one in self.e2b.alive().items() if one.tag.get("execpool-record")}
        self.unrecorded = max(self.unrecorded, len(ours - self.recorded()))

    async def _pass(self, refs: tuple[PoolRef, ...], names: set[AccountName]) -> None:
        for ref in refs:
            await self._quietly(self.reconciler.reconcile(ref))
        for name in sorted(names | {ACCOUNT}):
            await self._quietly(self.rounds.attend(name))
            await self.rounds.settle(name)
        if self._dead:
            raise CrashError

    async def _quietly(self, work: Awaitable[Any]) -> None:
        try:
            await work
        except KubeError:
            return  # as the task around it: it is tried again

    async def replace_operator(self) -> None:
        """Let another process take over."""
        await self.rounds.close()
        self._dead = False
        self.start_operator()

    async def _restart(self) -> None:
        self._dead = True
        self.crashes += 1
        await self.replace_operator()

    def on_call(self, name: str, *, after: bool) -> None:
        if name != "close":
            self._effect(f"e2b {name}", after=after)

    def _on_kube(self, call: Call, *, after: bool) -> None:
        (self.fault_after if after else self.fault_before)(call)
        if call.writes:
            self._effect(f"{call.verb} {call.plural}", after=after)

    def _effect(self, effect: str, *, after: bool) -> None:
        if not after:
            self.effects.append(effect)
        if self._dead:
            raise CrashError
        if self.crash(effect, after):
            self._dead = True
            raise CrashError

    # What there is

    def records(self, namespace: str | None = None) -> list[dict[str, Any]]:
        return list(self.kube.peek(SANDBOXES, namespace))

    def phases(self) -> list[str]:
        return sorted((one.get("status") or {}).get("phase", "Intent") for one in self.records())

    def recorded(self) -> set[str]:
        return {one["status"]["sandboxID"] for one in self.records() if (one.get("status") or {}).get("sandboxID")}

    def desk(self) -> Desk:
        return self.rounds.desks.of(ACCOUNT)

    def account(self) -> dict[str, Any]:
        return dict(next(one for one in self.kube.peek(ACCOUNTS) if one["metadata"]["name"] == "main"))

    def condition(self, type_: str) -> dict[str, Any] | None:
        conditions = self.account().get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == type_), None)

    def pool_condition(self, type_: str, namespace: str = "agents") -> dict[str, Any] | None:
        (pool,) = self.kube.peek(POOLS, namespace)
        return next((one for one in pool["status"]["conditions"] if one["type"] == type_), None)

    def verdict(self, wanted: int) -> tuple[int, int, int]:
        """How many sandboxes are missing, doubled and leaked, by E2B's own ledger."""
        alive = self.e2b.alive()
        ours = {name: one for name, one in alive.items() if one.tag.get("execpool-cluster")}
        ready = {
            one["status"]["sandboxID"] for one in self.records() if (one.get("status") or {}).get("phase") == "Ready"
        }
        records = [one.tag["execpool-record"] for one in ours.values()]
        return (
            wanted - len(ready & set(ours)),
            len(records) - len(set(records)),
            len(set(ours) - self.recorded()),
        )

    def of_pool(self, ref: PoolRef) -> list[dict[str, Any]]:
        return [one for one in self.records() if one["metadata"]["labels"][LABEL_POOL_UID] == ref.uid]


@asynccontextmanager
async def account_world(parts: Parts | None = None, **options: Any):
    """A world with an account and its Secret, closed at the end."""
    holder: list[AccountWorld] = []
    e2b = ScriptedE2B(lambda: holder[0].now if holder else 1_767_225_700.0)
    await e2b.start()
    world = AccountWorld(e2b, parts or Parts(), **options)
    holder.append(world)
    world.apply_account()
    world.apply_secret()
    try:
        yield world
    finally:
        world._dead = False
        await world.rounds.close()
        await e2b.stop()
