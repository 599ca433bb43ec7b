"""The cgroup folder that all pods live under, on cgroup v1 and v2.

It also answers which processes belong to pods: membership is kept by the kernel and,
unlike a name or a pid, cannot belong to somebody else.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from .layout import CGROUP

ROOT = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 10.0


def create() -> None:
    """Make the pods' folder in every controller, with CPUs and memory nodes where cpuset asks for them."""
    if (ROOT / "cgroup.controllers").exists():
        _create_unified()
        return
    for controller in _hierarchies():
        folder = controller / CGROUP
        folder.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            # A new v1 cpuset is empty, and no process can enter it while it is.
            if (controller / name).exists():
                (folder / name).write_text((controller / name).read_text())


def members() -> set[int]:
    """Return the ids of all processes in pods."""
    found: set[int] = set()
    for top in _folders():
        for folder in _bottom_up(top):
            found.update(_processes(folder))
    return found


def remove() -> None:
    """Remove the folders, waiting for processes that were killed to leave them."""
    deadline = time.monotonic() + REMOVE_SECONDS
    for top in _folders():
        for folder in _bottom_up(top):
            _remove_one(folder, deadline)


def leftovers() -> list[Path]:
    """Return the folders that exist."""
    return list(_folders())


def _create_unified() -> None:
    (ROOT / CGROUP).mkdir(exist_ok=True)
    available = (ROOT / "cgroup.controllers").read_text().split()
    for controller in available:
        # A container's root group cannot hand every controller down.
        with contextlib.suppress(OSError):
            (ROOT / "cgroup.subtree_control").write_text(f"+{controller}")


def _hierarchies() -> Iterator[Path]:
    for folder in ROOT.iterdir():
        # Names such as `cpu` can be links to a joint `cpu,cpuacct` hierarchy.
        if folder.is_dir() and not folder.is_symlink() and (folder / "cgroup.procs").exists():
            yield folder


def _folders() -> Iterator[Path]:
    candidates = [ROOT] if (ROOT / "cgroup.controllers").exists() else list(_hierarchies())
    return (folder / CGROUP for folder in candidates if (folder / CGROUP).is_dir())


def _bottom_up(top: Path) -> list[Path]:
    below = [path for path in top.rglob("*") if path.is_dir()]
    return [*sorted(below, key=lambda path: len(path.parts), reverse=True), top]


def _processes(folder: Path) -> set[int]:
    try:
        return {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    except OSError:
        return set()  # it went away, or is a threaded group on v2


def _remove_one(folder: Path, deadline: float) -> None:
    while True:
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
