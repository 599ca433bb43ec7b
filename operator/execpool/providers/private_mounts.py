"""Gives a process directories of its own in the place of shared ones: /home/user, /tmp, as in a sandbox of E2B.

In a mount namespace: nothing changes for any other process, and it is gone with the last one in it. Root does it as it is;
everybody else in a user namespace, where the kernel allows those. A place that does not exist is made inside the
namespace, by covering its parent with an empty file system in which all that was there is mounted again.

Standard library only; runs in forks of the nursery, which have one thread.
"""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

_CLONE_NEWNS, _CLONE_NEWUSER = 0x00020000, 0x10000000
_MS_REC, _MS_PRIVATE, _MS_BIND = 16384, 1 << 18, 4096

_libc = ctypes.CDLL(None, use_errno=True)


class RefusedError(OSError):
    """The kernel does not allow it, or a place cannot be covered."""


def enter(mounts: Mapping[str, str]) -> None:
    """Put directories in the place of others, for this process and its children.

    Args:
        mounts: {place: directory}.

    Raises:
        OSError: it could not be done; the process is of no use then, for part of it may have been.
    """
    _leave_namespaces()
    # Held open, since one place may cover another's directory; opened in here, for those of elsewhere cannot be mounted.
    sources = {place: os.open(directory, os.O_PATH) for place, directory in mounts.items()}
    _mount("none", "/", _MS_REC | _MS_PRIVATE)
    for place, source in sources.items():
        if not Path(place).is_dir():
            _make(Path(place))
        _mount(f"/proc/self/fd/{source}", place, _MS_BIND | _MS_REC)
        os.close(source)


def _leave_namespaces() -> None:
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        _check(_libc.unshare(_CLONE_NEWNS), "unshare")
        return
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")


def _make(place: Path) -> None:
    """Make a directory that exists in this namespace only."""
    parent = place.parent
    if parent == Path("/"):
        raise RefusedError(f"{place} does not exist and / cannot be covered")
    if not parent.is_dir():
        _make(parent)
    held = {path.name: os.open(path, os.O_PATH) for path in parent.iterdir() if path.is_dir()}
    _mount("none", str(parent), 0, kind="tmpfs")
    for name, directory in held.items():
        (parent / name).mkdir()
        _mount(f"/proc/self/fd/{directory}", str(parent / name), _MS_BIND | _MS_REC)
        os.close(directory)
    place.mkdir(mode=0o700)


def _mount(source: str, target: str, flags: int, kind: str = "none") -> None:
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _check(_libc.mount(*arguments), f"mount {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise RefusedError(number, f"{what}: {os.strerror(number)}")
