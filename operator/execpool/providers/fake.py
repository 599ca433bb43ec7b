"""Executors in memory, for tests: the control port of many pods, and the kubelet that starts and ends them.

`FakeExecutors` keeps the rules of ownership that the real executor keeps (`protocol`): retiring is a compare-and-set,
and a claim is for life. `FakeKubelet` plays the node on a `FakeKube`; it does nothing unless told to step.
"""

from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from execpool.kube.client import Object
from execpool.kube.fake import FakeKube
from execpool.kube.kinds import PODS
from execpool.protocol import (
    ENV_EXECUTOR_ID,
    ENV_SECRET_HASH,
    Challenge,
    Egress,
    ExecutorPhase,
    Expect,
    Proof,
    RetireRequest,
    State,
    prove,
)
from execpool.providers.control import Answer


@dataclass
class FakeExecutor:
    """One executor: who holds it, what it runs."""

    pod_uid: str
    secret_hash: str = ""
    executor_id: str = ""
    phase: ExecutorPhase = ExecutorPhase.WARM
    principal: str = ""
    epoch: int = 0
    held: float = 0.0
    idle: float = 0.0
    running: int = 0
    answers: bool = True
    says: dict[str, Any] = field(default_factory=dict)
    """Fields of `/state` that it reports instead of the truth."""

    def claim(self, principal: str, *, running: int = 0, held: float = 60.0, idle: float = 30.0) -> None:
        """Let a principal hold it."""
        self.phase, self.principal, self.epoch = ExecutorPhase.CLAIMED, principal, self.epoch + 1
        self.running, self.held, self.idle = running, held, idle

    def state(self) -> State:
        """Return what `/state` would say."""
        claim = {
            "principal": self.principal,
            "epoch": self.epoch,
            "held_seconds": self.held,
            "idle_seconds": self.idle,
            "running": self.running,
            "executions": 0,
        }
        honest = State(
            executor_id="fake",
            pod_uid=self.pod_uid,
            phase=self.phase,
            egress=Egress.CLOSED,
            slots=1,
            age_seconds=1.0,
            claim=claim if self.phase is ExecutorPhase.CLAIMED else None,
        )
        return replace(honest, **self.says)

    def retire(self, request: RetireRequest) -> Answer:
        """Retire when it is as expected."""
        idle = self.phase is ExecutorPhase.CLAIMED and self.running == 0 and request.epoch == self.epoch
        fits = {Expect.WARM: self.phase is ExecutorPhase.WARM, Expect.IDLE: idle, Expect.ANY: True}
        if not fits[Expect(request.expect)]:
            return Answer.NO
        self.phase = ExecutorPhase.RETIRED
        return Answer.YES


@dataclass
class FakeExecutors:
    """The control ports of all executors, by address."""

    by_address: dict[str, FakeExecutor] = field(default_factory=dict)
    secrets_heard: list[str] = field(default_factory=list)

    async def state(self, address: str) -> State | None:
        found = self.by_address.get(address)
        return found.state() if found is not None and found.answers else None

    async def prove(self, address: str, challenge: Challenge) -> Proof | None:
        found = self.by_address.get(address)
        if found is None or not found.answers or found.pod_uid != challenge.pod_uid:
            return None
        answer = prove(found.secret_hash, challenge.nonce, challenge.pod_uid, found.executor_id)
        return Proof(found.executor_id, answer)

    async def retire(self, address: str, request: RetireRequest) -> Answer:
        self.secrets_heard.append(request.secret)
        found = self.by_address.get(address)
        return found.retire(request) if found is not None and found.answers else Answer.NONE


@dataclass
class FakeKubelet:
    """Starts pods and ends retired ones, one step at a time.

    Attributes:
        broken: images that cannot be pulled.
        crashing: images whose server exits as soon as it starts.
    """

    kube: FakeKube
    executors: FakeExecutors
    broken: set[str] = field(default_factory=set)
    crashing: set[str] = field(default_factory=set)
    _addresses: Any = field(default_factory=lambda: count(1))

    def step(self) -> None:
        """Bring every pod one step on: pending to ready, retired to succeeded."""
        for pod in self.kube.peek(PODS):
            image = pod["spec"]["containers"][0]["image"]
            address = pod.get("status", {}).get("podIP")
            if image in self.broken:
                self._report(pod, _waiting("ErrImagePull"))
            elif image in self.crashing:
                self._report(pod, {**_waiting("CrashLoopBackOff", restarts=3), "phase": "Running", "podIP": "10.9.9.9"})
            elif address is None:
                self._start(pod)
            elif self.executors.by_address[address].phase is ExecutorPhase.RETIRED:
                self._report(pod, {"phase": "Succeeded"})

    def executor_of(self, pod_name: str) -> FakeExecutor:
        """Return the executor in a pod."""
        pod = next(pod for pod in self.kube.peek(PODS) if pod["metadata"]["name"] == pod_name)
        return self.executors.by_address[pod["status"]["podIP"]]

    def _start(self, pod: Object) -> None:
        address = f"10.0.0.{next(self._addresses)}"
        told = {item["name"]: item.get("value", "") for item in pod["spec"]["containers"][0]["env"]}
        self.executors.by_address[address] = FakeExecutor(
            pod_uid=pod["metadata"]["uid"], secret_hash=told[ENV_SECRET_HASH], executor_id=told[ENV_EXECUTOR_ID]
        )
        self._report(pod, {**_ready(), "podIP": address})

    def _report(self, pod: Object, status: Object) -> None:
        self.kube.put(PODS, pod["metadata"]["namespace"], {**pod, "status": status})


def _ready() -> Object:
    container = {"state": {"running": {}}, "started": True, "ready": True, "restartCount": 0}
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{**container, "name": "server"}, {**container, "name": "runner"}],
    }


def _waiting(reason: str, restarts: int = 0) -> Object:
    waiting = {"state": {"waiting": {"reason": reason, "message": "no such image"}}, "restartCount": restarts}
    return {"phase": "Pending", "containerStatuses": [{**waiting, "name": "server"}, {**waiting, "name": "runner"}]}
