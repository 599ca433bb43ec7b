"""The ground that counts: the real restricted pod, made by the operator's own builder, seen from its node."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

from execpool import protocol
from execpool.api.v1alpha1 import ExecutionPoolSpec, ExecutionPoolStatus
from execpool.core.model import Pool
from execpool.kube.resources import ExecutorIdentity, ExecutorProfile, make_executor_pod
from tests.cluster.pytest_cluster import RunningCluster
from tests.hostile.client import Holder
from tests.hostile.footprint import Footprint, used
from tests.hostile.model import Targets

LIMITS = {"cpu": "1", "memory": "768Mi"}
SLOTS = 2
_READY_SECONDS = 90.0
_OURS = (".", "run-", "slot-", "monty-", "home", "work")


class Pod:
    """One executor pod without a pool: nobody replaces it, and nobody else claims it."""

    def __init__(self, cluster: RunningCluster, namespace: str, image: str, runtime: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.name = f"hostile-{runtime.lower()}-{secrets.token_hex(3)}"
        self.secret = secrets.token_urlsafe(32)
        self.canary = secrets.token_urlsafe(24)
        """In the environment of the server."""
        self._cluster.apply(namespace, self._manifest(image, runtime))
        self.address = ""

    def wait_ready(self) -> None:
        """Wait until it is ready and learn its address."""
        self.kubectl("wait", "--for=condition=Ready", f"pod/{self.name}", f"--timeout={_READY_SECONDS:.0f}s")
        self.address = str(self.status()["podIP"])

    def wait_for_imports(self, times: int) -> None:
        """Wait until the runner has said as often that imports are done: the scientific ones come in the background."""
        deadline = time.monotonic() + _READY_SECONDS
        while self.logs("runner").count('"imports done"') < times:
            assert time.monotonic() < deadline, self.logs("runner")
            time.sleep(0.5)

    def delete(self) -> None:
        """End it without waiting."""
        self.kubectl("delete", "pod", self.name, "--wait=false", "--grace-period=0", "--force", "--ignore-not-found")

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", "pod", self.name, "--output", "json"))["status"])

    def restarts(self) -> dict[str, int]:
        """Return how often each container was started again."""
        return {str(item["name"]): int(item["restartCount"]) for item in self.status()["containerStatuses"]}

    def logs(self, container: str) -> str:
        return self.kubectl("logs", self.name, "--container", container)

    def kubectl(self, *arguments: str) -> str:
        return self._cluster.kubectl("--namespace", self._namespace, *arguments)

    def url(self, port: int) -> str:
        return f"http://{self.address}:{port}"

    def pids(self, container: str) -> list[int]:
        """Return the processes of a container as the node numbers them."""
        statuses = self.status()["containerStatuses"]
        identity = next(item["containerID"] for item in statuses if item["name"] == container).rpartition("/")[2]
        return sorted(int(path.name) for path in Path("/proc").glob("[0-9]*") if identity in _text(path / "cgroup"))

    def _manifest(self, image: str, runtime: str) -> dict[str, Any]:
        tier = {
            "name": "local",
            "pods": {
                "max": 1,
                "slots": SLOTS,
                "runtime": runtime,
                "resources": {"limits": LIMITS},
                "idleSeconds": 600,
            },
        }
        spec = ExecutionPoolSpec.model_validate({"tiers": [tier]})
        pool = Pool(self._namespace, "hostile", secrets.token_hex(8), 1, "1", spec, ExecutionPoolStatus())
        identity = ExecutorIdentity(self.name, secrets.token_hex(16), protocol.secret_hash(self.secret), "none")
        pod = make_executor_pod(pool, spec.tiers[0], ExecutorProfile(image), identity)
        server = pod["spec"]["containers"][0]
        server["env"].append({"name": "CANARY", "value": self.canary})
        pod["metadata"]["labels"] = {"app": "hostile"}  # a pod of a pool that does not exist would be swept as a stray
        return {"apiVersion": "v1", "kind": "Pod", **pod}


class PodGround:
    """A claimed pod."""

    def __init__(self, pod: Pod, holder: Holder, targets: Targets) -> None:
        self._pod = pod
        self.holder = holder
        self.targets = targets
        self.calm_seconds = 2.0
        self.canaries = (pod.secret, pod.canary, protocol.secret_hash(pod.secret), holder.token)
        self._first, self._server = pod.pids("runner")[0], pod.pids("server")[0]
        lines = _text(Path(f"/proc/{self._first}/cgroup")).splitlines()
        self._groups = {line for line in lines if "kubepods" in line}

    def footprint(self) -> Footprint:
        """Return what is in the runner's container, in which there is nothing of others, and on the pod's file systems."""
        processes = tuple(
            f"{path.name} below {_parent(path)}: {_text(path / 'cmdline').replace(chr(0), ' ')[:50]}"
            for path in Path("/proc").glob("[0-9]*")
            if self._groups & set(_text(path / "cgroup").splitlines())
        )
        root, server = (Path(f"/proc/{pid}/root") for pid in (self._first, self._server))
        places = {"/tmp, /work and /home/user": root / "tmp", "/dev/shm": root / "dev/shm"}
        places |= {"the server's state": server / "var/lib/execpool", "the socket's directory": server / "run/execpool"}
        try:
            return Footprint(processes, _tasks(self._groups), used(places))
        except (LookupError, FileNotFoundError) as error:
            raise AssertionError(f"the container has ended: {self._pod.status()['containerStatuses']}") from error

    def files(self) -> list[str]:
        """Return what runs left in /tmp and /dev/shm of the container."""
        roots = [Path(f"/proc/{self._first}/root{path}") for path in ("/tmp", "/dev/shm")]
        return [f"{root.name}/{name}" for root in roots for name in _names(root) if not name.startswith(_OURS)]


def _tasks(groups: set[str]) -> int:
    """Return what the pids controller counts for a container; both versions of control groups."""
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "pids"):
            counted = Path("/sys/fs/cgroup", controllers, path.lstrip("/"), "pids.current")
            if counted.exists():
                return int(counted.read_text())
    raise LookupError(f"no count of pids for {groups}")


def _names(directory: Path) -> list[str]:
    try:
        return [path.name for path in directory.iterdir()]
    except OSError as error:
        return [f"unreadable: {error}"]


def _parent(process: Path) -> str:
    return _text(process / "status").partition("PPid:")[2].partition("\n")[0].strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def targets(cluster: RunningCluster, pod: Pod, neighbour: Pod) -> Targets:
    """Return whom programs in a pod aim at."""

    def address(*arguments: str) -> str:
        return cluster.kubectl("get", *arguments).strip()

    by_ip = "jsonpath={.spec.clusterIP}"
    node = address("nodes", "--output", "jsonpath={.items[0].status.addresses[0].address}")
    named = ("service", "execpool-gateway", "--namespace", "execpool-system", "--ignore-not-found")
    gateway = address(*named, "--output", by_ip)
    return Targets(
        server_pid=1,
        control=f"{pod.address}:{protocol.CONTROL_PORT}",
        data=f"{pod.address}:{protocol.DATA_PORT}",
        api=address("service", "kubernetes", "--namespace", "default", "--output", by_ip) + ":443",
        gateway=f"{gateway}:80" if gateway else f"{node}:8080",
        envd=f"{pod.address}:{protocol.ENVD_PORT}",
        neighbour=f"{neighbour.address}:{protocol.CONTROL_PORT}",
        neighbour_data=f"{neighbour.address}:{protocol.DATA_PORT}",
        neighbour_envd=f"{neighbour.address}:{protocol.ENVD_PORT}",
        node=node,
        resolver=node,
    )
