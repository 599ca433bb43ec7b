"""Runs a command where hostile programs can do no harm even if every measure of the executor fails.

`python -m tests.hostile.contain SCRATCH COMMAND...`: new namespaces for processes, mounts, network and IPC; every file
system read-only but SCRATCH (a tmpfs), /dev/shm and /tmp's stand-in; no capability; the end of this process ends all of
them. Nobody runs a hostile program on a machine of theirs without it: `kill(-1, SIGKILL)` as root, tried once outside,
ended every process there. `must_be_contained` is what a campaign asks first.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REC, _MS_PRIVATE = 1, 2, 4, 16384, 1 << 18
_MOUNT_SETATTR, _AT_RECURSIVE, _ATTR_RDONLY = 442, 0x8000, 1
_PDEATHSIG, _CAPBSET_DROP, _NO_NEW_PRIVS = 1, 24, 38
_LAST_CAPABILITY = 63
_OUTSIDE = "EXECPOOL_HOSTILE_OUTSIDE"

_libc = ctypes.CDLL(None, use_errno=True)


class NotContainedError(RuntimeError):
    """Hostile programs were about to run where they could reach something."""


def must_be_contained() -> None:
    """Raise unless this process is in a process namespace of its own, on a read-only root, without capabilities."""
    outside = os.environ.get(_OUTSIDE, "")
    apart = bool(outside) and outside != str(Path("/proc/self/ns/pid").readlink())
    read_only = bool(os.statvfs("/").f_flag & os.ST_RDONLY) and bool(os.statvfs("/proc/sys").f_flag & os.ST_RDONLY)
    capabilities = int(Path("/proc/self/status").read_text().partition("CapEff:\t")[2].split()[0], 16)
    if not (apart and read_only and capabilities == 0):
        raise NotContainedError("run it by `python -m tests.hostile.contain`")


def main(scratch: Path, command: list[str]) -> int:
    """Contain and run; return the command's exit status."""
    os.environ[_OUTSIDE] = str(Path("/proc/self/ns/pid").readlink())
    if os.geteuid() != 0:
        _become_root_of_a_namespace()
    _done(_libc.unshare(_NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS), "unshare")
    first = os.fork()
    if first == 0:
        _die_with_parent()
        os._exit(_be_first(scratch, command))
    return os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])


def _be_first(scratch: Path, command: list[str]) -> int:
    """Be the namespace's first process: prepare, start the command, reap whatever is left to it."""
    _mounts(scratch)
    _loopback()
    _drop_capabilities()
    os.environ["TMPDIR"] = str(scratch)
    child = os.fork()
    if child == 0:
        os.execvp(command[0], command)  # noqa: S606 - a test's own command
    while True:
        with suppress(InterruptedError):
            pid, status = os.wait()
            if pid == child:
                return os.waitstatus_to_exitcode(status) & 0xFF


def _mounts(scratch: Path) -> None:
    _done(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "private mounts")
    attributes = struct.pack("QQQQ", _ATTR_RDONLY, 0, 0, 0)
    _done(_libc.syscall(_MOUNT_SETATTR, -100, b"/", _AT_RECURSIVE, attributes, len(attributes)), "read-only")
    flags = _MS_NOSUID | _MS_NODEV
    _done(_libc.mount(b"tmpfs", bytes(scratch), b"tmpfs", flags, b"size=512m,mode=1777"), "scratch")
    _done(_libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", flags, b"size=64m,mode=1777"), "/dev/shm")
    _done(_libc.mount(b"proc", b"/proc", b"proc", flags | _MS_RDONLY, None), "/proc")


def _loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up, running


def _drop_capabilities() -> None:
    for capability in range(_LAST_CAPABILITY + 1):
        _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0)
    _done(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    header, none = struct.pack("Ii", 0x20080522, 0), bytes(24)
    _done(_libc.capset(header, none), "capset")


def _become_root_of_a_namespace() -> None:
    user, group = os.getuid(), os.getgid()
    _done(_libc.unshare(_NEWUSER), "unshare of users")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _die_with_parent() -> None:
    _libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _done(result: int, what: str) -> None:
    if result != 0:
        raise NotContainedError(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
