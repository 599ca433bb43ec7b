"""Which cluster `execpool up` works on, and how it says so before it touches anything.

A context that the user names comes first, never the current one by itself; then, on Linux as root, the real cluster
without Docker in `tests/cluster`. Everything that differs between the two is here: where kubectl is, how images get into
the cluster, how this machine reaches the gateway.

    UpError          one sentence for the user, with what to do
     +-- NoDoorError  no cluster can be had here
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

IMAGES = {target: f"localhost/execpool-{target}" for target in ("controlplane", "executor", "emulator")}
"""Image names as written in the manifests, by the Dockerfile's target."""
PLACEHOLDER_TAG = "dev"
_EXECUTOR = (
    "requirements/executor.txt",
    "operator/execpool/__init__.py",
    "operator/execpool/protocol.py",
    "operator/execpool/serving.py",
    "operator/execpool/executor",
)
COPIED = {
    "controlplane": ("pyproject.toml", "requirements/controlplane.txt", "operator"),
    "executor": _EXECUTOR,
    "emulator": (
        *_EXECUTOR,
        "requirements/emulator.txt",
        *(f"operator/execpool/{part}" for part in ("core", "providers", "telemetry", "emulator")),
    ),
}
"""What each target of the Dockerfile copies: nothing else makes a new image."""
GATEWAY = ("execpool-system", "execpool-gateway")
FORWARD_PORT = 8080


class UpError(Exception):
    """What keeps `up` or `down` from going on."""


class NoDoorError(UpError):
    """No cluster can be had here."""


class Door(Protocol):
    """One way to a cluster."""

    def describe(self) -> str:
        """Say in a sentence what will be done, before it is done."""

    def open(self) -> None:
        """Make sure that the cluster is there."""

    def images(self) -> dict[str, str]:
        """Return the image to use for each Dockerfile target, built and loaded if that is ours to do."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return its output. Raises UpError with kubectl's words."""

    def close(self) -> bool:
        """Take down what `open` made; False when the cluster is not ours to end."""


@dataclass(frozen=True)
class ContextDoor:
    """A cluster of the user's, by the context they name."""

    context: str
    registry: str = ""
    tag: str = PLACEHOLDER_TAG

    def describe(self) -> str:
        where = (
            f"images from {self.registry}"
            if self.registry
            else "images named localhost/execpool-*:dev, as the nodes have them"
        )
        return f"door: your cluster, context {self.context}; {where}"

    def open(self) -> None:
        if shutil.which("kubectl") is None:
            raise UpError("kubectl is not on the PATH; install it, or leave CONTEXT out on a Linux machine as root")
        self.kubectl("version", "--output", "json")

    def images(self) -> dict[str, str]:
        if not self.registry:
            return {target: f"{name}:{PLACEHOLDER_TAG}" for target, name in IMAGES.items()}
        return {target: f"{self.registry}/{name.rpartition('/')[2]}:{self.tag}" for target, name in IMAGES.items()}

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return _run(["kubectl", "--context", self.context, *arguments], stdin=stdin)

    def close(self) -> bool:
        return False


@dataclass(frozen=True)
class LocalClusterDoor:
    """The real one-node cluster of `tests/cluster`: root on Linux, no Docker."""

    root: Path

    def describe(self) -> str:
        return "door: a real Kubernetes node on this machine, without Docker (tests/cluster); the first build takes about 15 minutes, later starts seconds"

    def open(self) -> None:
        self._cluster("up")

    def images(self) -> dict[str, str]:
        return {target: self._built(target, name) for target, name in IMAGES.items()}

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return _run([*self._command(), "kubectl", *arguments], stdin=stdin)

    def close(self) -> bool:
        self._cluster("down")
        return True

    def _built(self, target: str, name: str) -> str:
        only = [word for path in COPIED[target] for word in ("--only", path)]
        answer = self._cluster("build-image", "--target", target, "--tag", name, *only, str(self.root))
        return answer.strip().splitlines()[-1]

    def _cluster(self, *arguments: str) -> str:
        # Its progress goes to stderr and so to the user; what it answers comes on stdout.
        done = subprocess.run([*self._command(), *arguments], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode != 0:
            raise UpError(f"tests/cluster {arguments[0]} failed (exit {done.returncode}); its words are above")
        return done.stdout

    def _command(self) -> list[str]:
        return [sys.executable, str(self.root / "tests" / "cluster")]


def choose_door(root: Path, context: str, registry: str, tag: str) -> Door:
    """Return the door for this machine. Raises NoDoorError with what would open one."""
    if context:
        return ContextDoor(context, registry, tag)
    if sys.platform == "linux" and os.geteuid() == 0 and (root / "tests" / "cluster").is_dir():
        return LocalClusterDoor(root)
    raise NoDoorError(
        "no cluster can be had here: name one with CONTEXT=<kubectl context> (after `make images REGISTRY=...`),"
        " or run as root on Linux for a real node without Docker"
    )


@contextmanager
def gateway_url(door: Door) -> Iterator[str]:
    """Yield an address at which this machine reaches the gateway for the while.

    On the local cluster that is the Service's own address, which lasts; elsewhere a port-forward, which does not.
    """
    if isinstance(door, LocalClusterDoor):
        namespace, name = GATEWAY
        service = json.loads(door.kubectl("--namespace", namespace, "get", "service", name, "--output", "json"))
        yield f"http://{service['spec']['clusterIP']}"
        return
    assert isinstance(door, ContextDoor)  # noqa: S101 - the only other one
    command = [
        "kubectl",
        "--context",
        door.context,
        "--namespace",
        GATEWAY[0],
        "port-forward",
        f"service/{GATEWAY[1]}",
        f"{FORWARD_PORT}:80",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
        try:
            if forward.stdout is None or not forward.stdout.readline():
                raise UpError("kubectl port-forward to the gateway failed")
            yield f"http://127.0.0.1:{FORWARD_PORT}"
        finally:
            forward.terminate()


def _run(command: list[str], *, stdin: str | None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UpError(
            f"kubectl {' '.join(command[command.index('kubectl') + 1 :][:6])}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout
