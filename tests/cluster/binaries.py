"""Builds the cluster's programs from Go modules, once for each set of versions and flags.

`go/*/go.mod` pin the versions and hold no Go source; their go.sum files pin the contents
and, with the flags below, make the cache key. A build goes into a folder of its own that
is renamed when everything is there, so a killed build leaves no half cache; Go's own
build cache lets the next try go on where it was.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .commands import note, run
from .errors import BuildError
from .layout import SOURCE, Layout

KUBERNETES_VERSION = "v1.37.2"
COMPONENT_SECONDS = 3600.0
PATIENCE_NOTE = "building the cluster's programs; the first build takes about 10 minutes on 2 cores"

_STRIP = ("-s", "-w")
_MAJOR, _MINOR, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
_VERSION = "k8s.io/component-base/version"
_KUBERNETES_FLAGS = (
    *_STRIP,
    f"-X {_VERSION}.gitVersion={KUBERNETES_VERSION}",
    f"-X {_VERSION}.gitMajor={_MAJOR}",
    f"-X {_VERSION}.gitMinor={_MINOR}",
)


@dataclass(frozen=True)
class Program:
    """One binary: the main package it comes from and how it is built."""

    name: str
    package: str
    module: str = "kubernetes"
    tags: tuple[str, ...] = ()
    linker: tuple[str, ...] = _STRIP
    cgo: bool = field(default=False)

    def command(self, go: str, target: Path) -> list[str]:
        """Return the `go build` command line; VCS stamping would tie the result to our commits."""
        flags = ["-trimpath", "-buildvcs=false", "-ldflags", " ".join(self.linker)]
        if self.tags:
            flags += ["-tags", ",".join(self.tags)]
        return [go, "build", *flags, "-o", str(target / self.name), self.package]


def _kubernetes(name: str) -> Program:
    return Program(name, f"k8s.io/kubernetes/cmd/{name}", linker=_KUBERNETES_FLAGS)


def _containerd(name: str) -> Program:
    # The snapshotters behind these tags need C libraries and are never used here.
    return Program(name, f"github.com/containerd/containerd/v2/cmd/{name}", tags=("no_btrfs", "no_devmapper", "no_zfs"))


PROGRAMS = (
    Program("etcd", "go.etcd.io/etcd/server/v3"),
    _containerd("containerd"),
    _containerd("containerd-shim-runc-v2"),
    _containerd("ctr"),
    # runc enters namespaces in C before the Go runtime has threads.
    Program("runc", "github.com/opencontainers/runc", tags=("seccomp",), cgo=True),
    _kubernetes("kube-apiserver"),
    _kubernetes("kube-controller-manager"),
    _kubernetes("kube-scheduler"),
    _kubernetes("kubelet"),
    _kubernetes("kube-proxy"),
    _kubernetes("kubectl"),
    Program("coredns", "github.com/coredns/coredns", module="coredns"),
)


def cache_key() -> str:
    """Return the name of this set of versions, flags and platform."""
    digest = hashlib.sha256(repr((PROGRAMS, os.uname().machine)).encode())
    for name in sorted(module.name for module in (SOURCE / "go").iterdir()):
        for file in ("go.mod", "go.sum"):
            digest.update((SOURCE / "go" / name / file).read_bytes())
    return digest.hexdigest()[:16]


def directory(layout: Layout) -> Path:
    """Return where this tree's binaries are, or will be."""
    return layout.cache / "binaries" / cache_key()


def go_command() -> str:
    """Find the Go toolchain, which is often installed without being on root's PATH."""
    found = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if found is None:
        raise BuildError("the Go toolchain is needed to build the cluster's programs, and `go` is not on the PATH")
    return found


def module_folder(module: str) -> Path:
    """Return where Go keeps the unpacked sources of a module that the cluster is built from."""
    argv = [go_command(), "list", "-m", "-f", "{{.Dir}}", module]
    return Path(run(argv, cwd=SOURCE / "go" / "kubernetes", timeout=300).strip())


def ensure(layout: Layout) -> Path:
    """Return the folder of built programs, building it first when this set of versions has none."""
    target = directory(layout)
    if not target.is_dir():
        with _only_builder(target.parent):
            if not target.is_dir():
                _build_all(target)
    return target


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    """Hold the build lock, which the kernel drops if we die."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another run is building the cluster's programs; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_all(target: Path) -> None:
    note(PATIENCE_NOTE)
    go, begun = go_command(), time.monotonic()
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for number, program in enumerate(PROGRAMS, 1):
        started = time.monotonic()
        _build(program, go, partial)
        took, total = time.monotonic() - started, time.monotonic() - begun
        note(f"  [{number:2}/{len(PROGRAMS)}] {program.name:<24} {took:6.1f} s   ({total:.0f} s so far)")
    partial.rename(target)


def _build(program: Program, go: str, target: Path) -> None:
    env = {**os.environ, "CGO_ENABLED": "1" if program.cgo else "0", "GOWORK": "off"}
    try:
        done = subprocess.run(
            program.command(go, target),
            cwd=SOURCE / "go" / program.module,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMPONENT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{program.name} did not build within {COMPONENT_SECONDS:.0f} s") from error
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-20:])
        raise BuildError(f"{program.name} did not build:\n{last}")
