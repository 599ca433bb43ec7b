"""What a process may ask of the kernel for itself: the measures of hardening by name, and the prctl calls among them.

A run is held by independent measures; each can be left out here, by tests alone, to show that a test fails without it.
Nothing outside the code of a test can do so: neither a setting nor a variable.
"""

import ctypes
import errno
import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 36, 38

_CAPABILITY_VERSION = 0x20080522
_MADV_DONTNEED = 4

_libc = ctypes.CDLL(None, use_errno=True)


class SandboxError(OSError):
    """The kernel did not accept a measure: no code may run."""


@dataclass(frozen=True)
class Measures:
    """Which measures hold a run. All of them, but in a test."""

    seccomp: bool = True
    landlock: bool = True
    limits: bool = True
    undumpable: bool = True
    end_group: bool = True
    """Everything that a run has started ends with it."""
    newest_landlock: int = 1 << 10
    """No later version of Landlock is used than this one."""

    def without(self, name: str) -> Self:
        """Return all measures but one."""
        return replace(self, **{name: False})


def prctl(option: int, value: int, third: int = 0) -> None:
    """Call prctl.

    Raises:
        SandboxError: the kernel refused.
    """
    arguments = (ctypes.c_ulong(number) for number in (value, third, 0, 0))
    if _libc.prctl(option, *arguments) != 0:
        raise SandboxError(ctypes.get_errno(), f"prctl {option} was refused")


def no_new_privileges() -> None:
    """Let no program that is started gain rights; needed by seccomp and Landlock."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def drop_capabilities() -> None:
    """Give up every capability, which in a pod there are none of: root of a development machine is to have no more.

    Raises:
        SandboxError: the kernel refused.
    """
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    if _libc.capset(header, bytes(24)) != 0:
        raise SandboxError(ctypes.get_errno(), "capabilities could not be given up")


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process, so that none escapes those that end them."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(number: int) -> None:
    """Get this signal when the process that forked this one ends."""
    prctl(PR_SET_PDEATHSIG, number)


def set_dumpable(dumpable: bool) -> None:
    """Say whether processes of this user may look into this one through /proc and ptrace."""
    prctl(PR_SET_DUMPABLE, int(dumpable))


def prefer_as_victim() -> None:
    """Have the kernel end this process first when memory runs out. Its file belongs to others while undumpable."""
    set_dumpable(True)
    try:
        score = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(score, b"1000")
        finally:
            os.close(score)
    except OSError:
        pass  # a kernel that does not allow it chooses by size
    finally:
        set_dumpable(False)


def drop_code_pages() -> None:
    """Unmap the pages of libraries' code from this process, which reads them again from the page cache when it needs them.

    Whoever weighs processes by their size, the kernel when memory runs out, then finds this one no larger than its forks:
    they hold what was written, and only the code that they used. Code is never written to, so nothing can be lost.
    """
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        bounds, access, _, _, inode, *_ = line.split(maxsplit=5)
        if access == "r-xp" and inode != "0":
            first, end = (int(bound, 16) for bound in bounds.split("-"))
            _libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), _MADV_DONTNEED)


def may_signal(pid: int) -> bool:
    """True when this process may send signals to another one of its user."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError as error:
        raise SandboxError(errno.ESRCH, "the process to compare with is gone") from error
    return True
