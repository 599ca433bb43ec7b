"""What a user does and sees, in the words of the stories: apply a pool, run code, look at pods and conditions."""

import json
import os
import secrets
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.errors import CommandError
from tests.cluster.pytest_cluster import RunningCluster

from execpool.api.names import LABEL_POOL
from execpool.cli import keys

Json = dict[str, Any]
SYSTEM = "execpool-system"


@dataclass(frozen=True)
class Installed:
    """A cluster with execpool in it."""

    cluster: RunningCluster
    url: str
    images: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """What the gateway answered."""

    code: int
    body: Json
    seconds: float

    @property
    def status(self) -> str:
        return str(self.body.get("status"))

    @property
    def executor(self) -> str:
        return str(self.body["route"]["executor"])


def eventually(check: Callable[[], Any], what: str, seconds: float = 30.0, every: float = 0.1) -> Any:
    """Return the first true value of `check`; fail with its last value when none comes in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen: {value!r}")
        time.sleep(every)


@dataclass
class Story:
    """One namespace, its pools and keys."""

    installed: Installed
    namespace: str
    keys: dict[str, str] = field(default_factory=dict)
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(32))

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.installed.cluster.kubectl("--namespace", self.namespace, *arguments, stdin=stdin)

    def words_of(self, *arguments: str) -> str:
        """Return what kubectl says, also when it fails."""
        try:
            return self.installed.cluster.kubectl(*arguments)
        except CommandError as error:
            return str(error)

    def json(self, *arguments: str) -> Json:
        return dict(json.loads(self.kubectl("get", *arguments, "--output", "json")))

    def apply_pool(self, name: str = "pool", **spec: Any) -> None:
        pods = {"max": 6, "slots": 1, "resources": {"limits": {"cpu": "1", "memory": "512Mi"}}} | spec.pop("pods", {})
        body = {"replicas": 2, "tiers": [{"name": "local", "pods": pods}]} | spec
        pool = {
            "apiVersion": "execpool.dev/v1alpha1",
            "kind": "ExecutionPool",
            "metadata": {"name": name},
            "spec": body,
        }
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(pool))

    def ready_pool(self, name: str = "pool", **spec: Any) -> None:
        """Apply a pool and wait until it is full."""
        self.apply_pool(name, **spec)
        self.kubectl("wait", "--for=condition=Ready", f"executionpool/{name}", "--timeout=60s")
        self.kubectl("wait", "--for=condition=WarmPoolFilled", f"executionpool/{name}", "--timeout=60s")

    def make_key(self, tenant: str, pools: Sequence[str] = ()) -> str:
        secret, manifest = keys.make_key(
            tenant=tenant, namespace=self.namespace, name=f"{tenant}-{secrets.token_hex(3)}", pools=list(pools)
        )
        self.kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
        self.keys[tenant] = secret
        return secret

    def run(self, code: str, *, tenant: str = "tenant-a", timeout: float = 120.0, **request: Any) -> Answer:
        """Execute code and return the answer, whatever it is."""
        return post(self.installed.url, self.keys[tenant], {"code": code, "pool": "pool", **request}, timeout)

    def run_if_reached(self, code: str, **options: Any) -> Answer | None:
        """Execute code, or return None while the gateway cannot be reached: the node forgets an ended one only by and by."""
        try:
            answer = self.run(code, timeout=5.0, **options)
        except OSError:
            return None
        return answer if answer.code == 200 else None

    def start(self, code: str, **options: Any) -> "Future[Answer]":
        """Execute code in the background."""
        return self.threads.submit(self.run, code, **options)

    def pods(self, pool: str = "pool") -> list[Json]:
        """Return the executor pods that may still hold resources, by age."""
        items = self.json("pods", "--selector", f"{LABEL_POOL}={pool}")["items"]
        living = [pod for pod in items if pod["status"].get("phase") not in ("Succeeded", "Failed")]
        return sorted(living, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def pod_names(self, pool: str = "pool") -> set[str]:
        return {pod["metadata"]["name"] for pod in self.pods(pool) if not pod["metadata"].get("deletionTimestamp")}

    def status(self, pool: str = "pool") -> Json:
        return dict(self.json("executionpool", pool).get("status") or {})

    def condition(self, type_: str, pool: str = "pool") -> Json:
        conditions = self.status(pool).get("conditions") or []
        return next((item for item in conditions if item["type"] == type_), {})

    def settled(self, ready: int, pool: str = "pool") -> None:
        """Wait until exactly so many executors are ready, and no others are there."""

        def is_settled() -> bool:
            status = self.status(pool)
            return status.get("readyReplicas") == ready == status.get("replicas") and len(self.pods(pool)) == ready

        eventually(is_settled, f"{ready} executors ready and no others", 60)

    def holder(self) -> str:
        """Return the pod that says in its own log that it was claimed."""
        started = [
            pod
            for pod in self.pods()
            if "running" in pod["status"].get("containerStatuses", [{"state": {}}])[0]["state"]
        ]
        names = [pod["metadata"]["name"] for pod in started]
        return next(
            name for name in names if any(line.get("message") == "claimed" for line in self.executor_logs(name))
        )

    def kill(self, pod: str, container: str) -> None:
        """Kill the main process of a container with SIGKILL, from the node: inside, PID 1 cannot be killed."""
        statuses = self.json("pod", pod)["status"]["containerStatuses"]
        identity = next(status["containerID"] for status in statuses if status["name"] == container).rpartition("/")[2]
        inside = [
            int(process.name)
            for process in Path("/proc").iterdir()
            if process.name.isdigit() and identity in _cgroups(process)
        ]
        os.kill(min(inside), signal.SIGKILL)

    def executor_logs(self, pod: str, container: str = "server") -> list[Json]:
        lines = self.kubectl("logs", pod, "--container", container).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


def _cgroups(process: Path) -> str:
    try:
        return (process / "cgroup").read_text()
    except OSError:
        return ""


def post(url: str, key: str, request: Json, timeout: float = 120.0) -> Answer:
    """POST to /v1/executions."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    call = urllib.request.Request(f"{url}/v1/executions", json.dumps(request).encode(), headers)
    started = time.monotonic()
    try:
        with urllib.request.urlopen(call, timeout=timeout) as response:
            return Answer(response.status, json.load(response), time.monotonic() - started)
    except urllib.error.HTTPError as error:
        return Answer(error.code, json.loads(error.read()), time.monotonic() - started)
