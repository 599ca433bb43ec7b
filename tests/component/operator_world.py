"""A reconciler on an API server and executors in memory, with a crash or an error at any request."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from execpool.api.names import LABEL_TIER
from execpool.controller.effects import Effects
from execpool.controller.events import EventRecorder
from execpool.controller.pools import PoolRef, ref_of
from execpool.controller.reconcile import Reconciler
from execpool.core.model import Demand
from execpool.core.proof import KeyRing, RootKey
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import NETWORK_POLICIES, PODS, POOLS
from execpool.kube.resources import ExecutorProfile
from execpool.providers.fake import FakeExecutors, FakeKubelet
from execpool.providers.pods import PodsProvider


class CrashError(BaseException):
    """The operator's process dies here. No `except Exception` may catch it."""


@dataclass
class OperatorWorld:
    kube: FakeKube = field(default_factory=FakeKube)
    executors: FakeExecutors = field(default_factory=FakeExecutors)
    waiting: dict[str, int] = field(default_factory=dict)
    now: float = 1_767_225_700.0
    most_seen: int = 0
    root_key: bytes = b"k" * 32

    def __post_init__(self) -> None:
        self.kubelet = FakeKubelet(self.kube, self.executors)
        self.reconciler = self.new_operator()

    def new_operator(self) -> Reconciler:
        """Return a reconciler without memory, as after a restart."""
        provider = PodsProvider(
            kube=self.kube,
            control=self.executors,
            keys=KeyRing((RootKey(self.root_key),)),
            profile=ExecutorProfile("execpool-executor:test"),
            control_namespace="execpool-system",
        )
        return Reconciler(
            kube=self.kube,
            provider=provider,
            effects=Effects(self.kube, provider, clock=lambda: self.now),
            recorder=EventRecorder(self.kube, "operator-0"),
            demand_of=lambda _pool: Demand(dict(self.waiting)),
            clock=lambda: self.now,
            empty_list_pause=0.0,
        )

    def apply_pool(self, **spec: Any) -> PoolRef:
        known = next(iter(self.kube.peek(POOLS)), None)
        pods = {"max": 6, "maxAgeSeconds": 604800} | spec.pop("pods", {})
        body = {
            "metadata": {"name": "agents"},
            "spec": {"replicas": 3, "tiers": [{"name": "local", "pods": pods}]} | spec,
        }
        if known is not None:
            kept = {**known["metadata"], "generation": known["metadata"]["generation"] + 1}
            body = {**known, "metadata": kept, "spec": body["spec"]}
        return ref_of(self.kube.put(POOLS, "agents", body))

    def delete_pool(self) -> None:
        pool = self.pool()
        pool["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
        self.kube.put(POOLS, "agents", pool)

    async def settle(self, ref: PoolRef, rounds: int = 12) -> float | None:
        """Reconcile and let the node work until nothing moves, restarting the operator whenever it crashes."""
        due: float | None = 0.0
        for _ in range(rounds):
            due = await self.pass_once(ref)
            if due is None:
                return None
            self.most_seen = max(self.most_seen, self.population())
            self.kubelet.step()
            self.now += 2.0
        return due

    async def pass_once(self, ref: PoolRef) -> float | None:
        try:
            return await self.reconciler.reconcile(ref)
        except CrashError:
            self.reconciler = self.new_operator()
            return 0.0

    def crash_at(self, place: Callable[[Call], bool], *, after_effect: bool) -> None:
        """Die once at the first request that fits, before or after its effect."""
        armed = [True]

        def hook(call: Call) -> None:
            if armed[0] and place(call):
                armed[0] = False
                raise CrashError

        if after_effect:
            self.kube.after = hook
        else:
            self.kube.before = hook

    def pods(self) -> list[str]:
        return sorted(pod["metadata"]["name"] for pod in self.kube.peek(PODS))

    def population(self) -> int:
        return sum(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in self.kube.peek(PODS))

    def pool(self) -> dict[str, Any]:
        return dict(self.kube.peek(POOLS)[0])

    def status(self) -> dict[str, Any]:
        return dict(self.pool()["status"])

    def condition(self, type_: str) -> dict[str, Any] | None:
        return next((item for item in self.status()["conditions"] if item["type"] == type_), None)

    def shape(self) -> dict[str, Any]:
        """Return the end state without what differs from run to run: names, versions, times."""
        pools = self.kube.peek(POOLS)
        numbers = (
            {name: value for name, value in (pools[0].get("status") or {}).items() if name != "conditions"}
            if pools
            else {}
        )
        conditions = {
            item["type"]: (item["status"], item["reason"])
            for item in (pools[0]["status"]["conditions"] if pools else [])
        }
        tiers = sorted(pod["metadata"]["labels"][LABEL_TIER] for pod in self.kube.peek(PODS))
        policies = [policy["metadata"]["name"] for policy in self.kube.peek(NETWORK_POLICIES)]
        finalizers = pools[0]["metadata"].get("finalizers") if pools else None
        return {
            "status": numbers,
            "conditions": conditions,
            "pods": tiers,
            "policies": policies,
            "finalizers": finalizers,
        }
