"""The node's own view of the file system: a mount namespace, held open by a bind mount.

Every mount that containerd, runc and kubelet make stays inside and goes with the last of
their processes, so nothing has to be unmounted one by one and no host process can trip
over a pod's volumes. The paths that those programs have built in are covered: /run by a
tmpfs, /var/log and /var/lib/cni by folders of the state folder.

Host mounts made later still appear inside (slave); nothing made inside appears outside.
"""

import contextlib
from pathlib import Path

from .commands import run
from .layout import NETNS_FILE, Layout

CNI_FOLDER = Path("/var/lib/cni")
"""Built into libcni; made as a mount point where the host has none, and removed again."""

_SETUP = f"""
set -e
mount --make-rshared /    # containerd refuses HostToContainer volumes on a private root
mount -t tmpfs -o mode=0755 execpool-run /run
mkdir -p /run/lock
mount --bind "$1/pod-logs" /var/log
mount --bind "$1/cni" {CNI_FOLDER}
"""

KERNEL_TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet would write to the host's kernel; it leaves alone what already reads so."""

# /proc must stay whole for containerd: the kernel lets a user namespace (hostUsers: false)
# mount a new /proc only where nothing covers parts of the old one. Hence a second mount
# namespace around kubelet alone, whose volume mounts still propagate back to containerd.
_HIDE_TUNABLES = """
mount --make-rprivate /proc
cd "$1"
shift
for file in $(find . -type f); do mount --bind "$file" "/proc/sys/$file"; done
exec "$@"
"""


def create(layout: Layout) -> None:
    """Make the namespace and arrange it; needs the state folder."""
    for folder in (layout.state / "pod-logs", layout.state / "cni", layout.mount_namespace.parent, CNI_FOLDER):
        folder.mkdir(parents=True, exist_ok=True)
    holder = layout.mount_namespace.parent
    # The kernel takes the handle of a mount namespace on a private mount only.
    run(["mount", "--bind", holder, holder])
    run(["mount", "--make-private", holder])
    layout.mount_namespace.touch()
    run(["unshare", f"--mount={layout.mount_namespace}", "--propagation", "slave", "true"])
    run([*enter(layout), "sh", "-c", _SETUP, "sh", layout.state])
    _write_tunables(layout)


def enter(layout: Layout) -> list[str]:
    """Return the command prefix that runs a program inside the node's namespaces."""
    return ["nsenter", f"--net={NETNS_FILE}", f"--mount={layout.mount_namespace}", "--"]


def enter_kubelet(layout: Layout) -> list[str]:
    """Return the prefix for kubelet, which sees its kernel settings as already made."""
    private = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", _HIDE_TUNABLES, "sh"]
    return [*enter(layout), *private, str(_tunables(layout))]


def remove(layout: Layout) -> None:
    """Let go of the namespace and of any mount left below the state folder; processes must have ended."""
    for target in sorted(_mounts_below(layout.state), reverse=True):
        run(["umount", "--lazy", target], check=False)
    # It may be absent, or in use by someone else's containers.
    with contextlib.suppress(OSError):
        CNI_FOLDER.rmdir()


def exists(layout: Layout) -> bool:
    """Say whether the namespace handle is in place."""
    return str(layout.mount_namespace) in _mounts_below(layout.state)


def _mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split(" ")[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in points if point.startswith(f"{folder}/")]


def _tunables(layout: Layout) -> Path:
    return layout.state / "tunables"


def _write_tunables(layout: Layout) -> None:
    for name, value in KERNEL_TUNABLES.items():
        file = _tunables(layout) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
