"""Brings the cluster up, restores it, describes it and takes it down.

    up     nothing there, or a killed `up`'s remains   clear, then start everything
           started before, something has died since    start what is missing, keep all data
           healthy                                     return at once
    down   end processes, drop namespaces and cgroups, delete the state folder

Order on the way up: etcd, containerd and the API server at once; the rest when the API
server is ready, since on two cores clients that retry only slow its start. Order on the
way down: kubelet before containerd, or it would start again what is being ended.

Errors: see errors.py; each that concerns a component names it and ends with its log.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import binaries, cgroups, control_plane, credentials, images, mounts, network, node, packages, processes
from .api import Api, dns_answers
from .commands import note
from .component import Component
from .errors import AnotherClusterError, ClusterError, ComponentError
from .layout import OWNER_LINK, Layout
from .record import Record

READY_SECONDS = 90.0
LOCK_SECONDS = 180.0
POLL_SECONDS = 0.05
ROLES = "/apis/rbac.authorization.k8s.io/v1"

FIRST = (control_plane.etcd, node.containerd, control_plane.apiserver)
AFTER_API = (
    node.kubelet,
    control_plane.controller_manager,
    control_plane.scheduler,
    control_plane.coredns,
    node.kube_proxy,
)


class Cluster:
    """The machine's one cluster."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or Layout.from_environment()

    def up(self) -> None:
        """Make the cluster run and be ready; see the module's table."""
        if self.healthy():
            return
        _need_root()
        packages.ensure(packages.RUNNING)
        if not binaries.directory(self.layout).is_dir():
            packages.ensure(packages.BUILDING)
        programs = binaries.ensure(self.layout)
        pause = images.pause_archive(self.layout)
        with _machine_lock():
            self._refuse_another()
            begun = time.monotonic()
            record = self._restorable() or self._prepare()
            self._start(record, programs, pause)
            note(f"cluster ready after {time.monotonic() - begun:.1f} s")

    def down(self) -> bool:
        """Remove the cluster and all traces of it; say whether there was anything."""
        _need_root()
        with _machine_lock():
            self._refuse_another()
            return self._clear()

    def healthy(self) -> bool:
        """Say whether every component runs and the node takes pods."""
        record = Record.load(self.layout.record)
        if record is None or not record.complete or self._dead(record):
            return False
        return self._api().node_ready() and dns_answers()

    def end(self, component: str) -> None:
        """Kill one component, as a fault; `up` starts it again."""
        record = Record.load(self.layout.record) or Record()
        if component not in record.processes:
            raise ClusterError(f"no component {component!r}; there are: {', '.join(record.processes) or 'none'}")
        processes.end(record.processes[component])

    def _restorable(self) -> Record | None:
        """Return the record of a cluster whose namespaces and data are all in place."""
        record = Record.load(self.layout.record)
        if record and record.complete and network.exists() and mounts.exists(self.layout):
            return record
        return None

    def _prepare(self) -> Record:
        """Clear what an earlier run left and make everything that processes need."""
        if self._clear():
            note("cleared what an earlier run left")
        layout = self.layout
        layout.state.mkdir(mode=0o700, parents=True)
        OWNER_LINK.symlink_to(layout.state)
        record = Record()
        record.save(layout.record)
        for folder in (layout.config, layout.logs):
            folder.mkdir()
        with ThreadPoolExecutor() as pool:
            secrets = pool.submit(credentials.create, layout)
            network.create()
            mounts.create(layout)
            cgroups.create()
            secrets.result()
        return record

    def _start(self, record: Record, programs: Path, pause: Path) -> None:
        """Start what does not run, in order, and wait until pods can be served."""
        for dead in self._dead(record):
            del record.processes[dead]
        for build in FIRST:
            self._ensure_running(build(self.layout, programs), record)
        self._wait(record, "containerd", "is not answering", self._containerd_answers)
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(images.load, self.layout, pause)
            api = self._api()
            self._wait(record, "kube-apiserver", "is not ready", api.ready)
            api.create(f"{ROLES}/clusterroles", control_plane.COREDNS_ROLE)
            api.create(f"{ROLES}/clusterrolebindings", control_plane.COREDNS_BINDING)
            for build in AFTER_API:
                self._ensure_running(build(self.layout, programs), record)
            loading.result()
        self._wait(record, "kubelet", "has not made the node Ready", lambda: api.node_ready() and api.node_synced())
        self._wait(record, "kube-controller-manager", "has made no ServiceAccount", api.service_account_exists)
        self._wait(record, "coredns", "is not answering", dns_answers)
        record.complete = True
        record.save(self.layout.record)

    def _ensure_running(self, component: Component, record: Record) -> None:
        known = record.processes.get(component.name)
        if known and processes.alive(known):
            return
        for file, text in component.files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        prefix = mounts.enter_kubelet(self.layout) if component.own_mounts else mounts.enter(self.layout)
        log = self.layout.log(component.name)
        command = [*prefix, *component.command]
        record.processes[component.name] = processes.start(
            command, log, self._environment(component), self.layout.state
        )
        record.save(self.layout.record)

    def _environment(self, component: Component) -> dict[str, str]:
        """Return a clean environment: proxies, credentials and locale of ours are not the cluster's."""
        folder = Path(component.command[0]).parent
        system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": f"{folder}:{system}", "HOME": str(self.layout.state)}

    def _wait(self, record: Record, name: str, problem: str, done: Callable[[], bool]) -> None:
        """Poll until done; fail early, with its log, when any component has died."""
        deadline = time.monotonic() + READY_SECONDS
        while not done():
            for dead in self._dead(record):
                raise ComponentError(dead, "ended", self.layout.log(dead))
            if time.monotonic() > deadline:
                raise ComponentError(name, f"{problem} after {READY_SECONDS:.0f} s", self.layout.log(name))
            time.sleep(POLL_SECONDS)

    def _containerd_answers(self) -> bool:
        try:
            images.loaded(self.layout)
        except ClusterError:
            return False
        return True

    def _dead(self, record: Record) -> list[str]:
        return [name for name, process in record.processes.items() if not processes.alive(process)]

    def _api(self) -> Api:
        return Api(self.layout.kubeconfig, self.layout.pki / "ca.crt")

    def _clear(self) -> bool:
        """End and remove everything with our fixed names; say whether there was anything."""
        self._refuse_foreign_folder()
        found = network.exists() or self.layout.state.exists() or bool(cgroups.leftovers()) or OWNER_LINK.is_symlink()
        record = Record.load(self.layout.record) or Record()
        for name in sorted(record.processes, key=lambda name: name != "kubelet"):
            processes.end(record.processes[name])
        processes.sweep()
        cgroups.remove()
        mounts.remove(self.layout)
        network.remove()
        if self.layout.state.exists():
            shutil.rmtree(self.layout.state)
        OWNER_LINK.unlink(missing_ok=True)
        return found

    def _refuse_another(self) -> None:
        """Refuse to touch a cluster that lives in another state folder; a dead one's remains are fair game."""
        if not OWNER_LINK.is_symlink() or (owner := OWNER_LINK.readlink()) == self.layout.state:
            return
        record = Record.load(owner / "state.json")
        if record and len(self._dead(record)) < len(record.processes):
            raise AnotherClusterError(
                f"this machine's cluster is up in {owner}; end it with\n"
                f"  EXECPOOL_STATE={owner} python3 tests/cluster down"
            )

    def _refuse_foreign_folder(self) -> None:
        """Refuse to delete a folder that we did not make: EXECPOOL_STATE may name anything."""
        state = self.layout.state
        ours = self.layout.record.exists() or (OWNER_LINK.is_symlink() and OWNER_LINK.readlink() == state)
        if not ours and state.exists() and any(state.iterdir()):
            raise ClusterError(f"{state} is not empty and not a cluster's state folder; it would be deleted")


def _need_root() -> None:
    if os.geteuid() != 0:
        raise ClusterError("the cluster makes namespaces, cgroups and mounts: run it as root")


@contextmanager
def _machine_lock() -> Iterator[None]:
    """Let one `up` or `down` work on this machine at a time.

    An abstract socket name is held by one process and freed by the kernel when it ends; a
    lock file would either stay behind after `down` or be open to a race when deleted.
    """
    deadline, told = time.monotonic() + LOCK_SECONDS, False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while True:
            try:
                lock.bind("\0execpool-cluster")
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"another run has been busy for {LOCK_SECONDS:.0f} s") from error
                if not told:
                    note("another run is busy with the cluster; waiting for it")
                    told = True
                time.sleep(0.2)
        yield
