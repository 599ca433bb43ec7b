"""pytest fixtures for tests on the real cluster: `cluster` (session) and `namespace`.

A cluster that was up before the run stays up; one that the run started goes down at its
end, unless EXECPOOL_KEEP_CLUSTER=1. Tests isolate themselves by namespace, so a run needs
one cluster only. Without the means to start one (root, Go) the tests fail rather than
skip: whoever asks for them must not be told that they passed.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import binaries, image_build, images
from .cluster import Cluster
from .commands import run
from .errors import ClusterError
from .layout import Layout

KUBECTL_SECONDS = 60.0
ACCOUNT_SECONDS = 10.0


@dataclass(frozen=True)
class RunningCluster:
    """What a test may do with the cluster."""

    layout: Layout
    binaries: Path
    """The folder of the cluster's own programs, kubectl among them."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = KUBECTL_SECONDS) -> str:
        """Run kubectl as administrator and return its output; a failure raises with what it said."""
        env = {**os.environ, **self.layout.kubectl_environment()}
        return run([self.binaries / "kubectl", *arguments], stdin=stdin, timeout=timeout, env=env)

    def apply(self, namespace: str, *manifests: Mapping[str, Any]) -> None:
        """Apply objects to a namespace."""
        bundle = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("--namespace", namespace, "apply", "--filename", "-", stdin=json.dumps(bundle))

    def load_image(self, archive: Path) -> list[str]:
        """Import an image archive unless the node has it; return the names that pods use."""
        return images.load(self.layout, archive)

    def build_image(self, recipe: image_build.Recipe, tag: str) -> str:
        """Build and load an image unless its inputs are unchanged; return the name that pods use."""
        return image_build.build(self.layout, recipe, tag)

    def end(self, component: str) -> None:
        """Kill one component, such as `kube-apiserver`, as a fault."""
        Cluster(self.layout).end(component)

    def restore(self) -> None:
        """Start what was killed and wait until the cluster is whole."""
        Cluster(self.layout).up()


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """Yield the machine's cluster, started for this run if it was not up."""
    layout = Layout.from_environment()
    owner = Cluster(layout)
    was_up = owner.healthy()
    try:
        owner.up()
    except ClusterError as error:
        pytest.fail(f"the test cluster did not come up: {error}", pytrace=False)
    yield RunningCluster(layout, binaries.directory(layout))
    if not was_up and os.environ.get("EXECPOOL_KEEP_CLUSTER") != "1":
        owner.down()


@pytest.fixture
def namespace(cluster: RunningCluster) -> Iterator[str]:
    """Yield a new namespace under the `restricted` Pod Security Standard; it is deleted without waiting."""
    name = f"e2e-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    cluster.kubectl("create", "--filename", "-", stdin=json.dumps(manifest))
    _await_service_account(cluster, name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def _await_service_account(cluster: RunningCluster, namespace: str) -> None:
    """Wait for the ServiceAccount without which the API server refuses pods."""
    deadline = time.monotonic() + ACCOUNT_SECONDS
    while not cluster.kubectl("-n", namespace, "get", "serviceaccount", "default", "--ignore-not-found"):
        if time.monotonic() > deadline:
            pytest.fail(f"namespace {namespace} got no default ServiceAccount within {ACCOUNT_SECONDS:.0f} s")
        time.sleep(0.05)
