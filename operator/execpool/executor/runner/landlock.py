"""Landlock by ctypes: domains that keep signals apart, and what files a run may touch.

Two layers, since each can only take away:

1. *The supervisor's*: it may signal, trace and reach by abstract sockets only what it forks itself. It is what makes
   `kill(-1, SIGKILL)` reach exactly one run (`processes`). Files stay as they are; REFER, which any layer denies unless
   it says otherwise, is allowed, or no run could rename a file from one directory to another.
2. *The program's*: the same scopes again, so that it cannot signal its supervisor, and files: the system is read-only,
   its own directory and the shared scratch directories are writable, devices are those that do nothing, and everything
   else (other runs' directories, the socket directory, /dev/termination-log) is out of reach.

Not covered by the kernel: chmod, chown, utime and stat of a path that is known. Run directories have unguessable names,
and no rule lets their parent be listed. Kernels before ABI 6 know no scopes; the caller then falls back (`abi`).
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from struct import pack
from typing import Self

from execpool.executor.runner.sandbox import SandboxError

SCOPES_SINCE = 6

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2
_SINCE = ((1, (1 << 13) - 1), (2, REFER), (3, TRUNCATE), (5, IOCTL_DEV))
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

READ = EXECUTE | READ_FILE | READ_DIR
DEVICE = READ_FILE | WRITE_FILE | READ_DIR | TRUNCATE | IOCTL_DEV
WRITE = ((1 << 15) - 1) & ~(_MAKE_CHAR | _MAKE_BLOCK)
"""Everything in a directory but devices."""

_libc = ctypes.CDLL(None, use_errno=True)


def abi() -> int:
    """Return the kernel's version of Landlock; 0 when it has none."""
    return max(int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG)), 0)


class Ruleset:
    """A layer in the making; closed by `with`, whether it was put on or not."""

    def __init__(self, version: int, *, files: int, scopes: bool) -> None:
        """Begin a layer that denies the rights in `files` (as far as this version knows them) unless allowed."""
        self._handled = files & sum(rights for since, rights in _SINCE if version >= since)
        scoped = _SCOPE_ABSTRACT_UNIX | _SCOPE_SIGNAL if scopes and version >= SCOPES_SINCE else 0
        attributes = pack("QQQ", self._handled, 0, scoped)[: 24 if version >= SCOPES_SINCE else 8]
        self._descriptor = _checked(_libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def allow(self, path: str, rights: int) -> None:
        """Allow rights on a path and what is below it; a path that does not exist is skipped."""
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                if not stat.S_ISDIR(os.fstat(beneath).st_mode):
                    rights &= _OF_FILES
                if rights & self._handled:
                    rule = pack("=Qi", rights & self._handled, beneath)
                    _checked(_libc.syscall(_ADD_RULE, self._descriptor, _PATH_BENEATH, rule, 0))
            finally:
                os.close(beneath)

    def enter(self) -> None:
        """Put the layer on this process, for good. `no_new_privs` must be set."""
        _checked(_libc.syscall(_RESTRICT_SELF, self._descriptor, 0))


def enter_domain(version: int) -> None:
    """Put on the supervisor's layer.

    Raises:
        SandboxError: the kernel refused.
    """
    with Ruleset(version, files=REFER, scopes=True) as layer:
        layer.allow("/", REFER)
        layer.enter()


def enter_files(version: int, grants: Iterable[tuple[str, int]]) -> None:
    """Put on the program's layer: nothing but `grants`, (path, rights).

    Raises:
        SandboxError: the kernel refused.
    """
    with Ruleset(version, files=(1 << 16) - 1, scopes=True) as layer:
        for path, rights in grants:
            layer.allow(path, rights)
        layer.enter()


_SYSTEM = ("/bin", "/data", "/etc", "/lib", "/lib32", "/lib64", "/opt", "/proc", "/sbin", "/srv", "/sys", "/usr")
_READABLE_DEVICES = ("/dev/random", "/dev/urandom")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts")
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - of this container; semaphores and shared memory have no other place


def system_grants(python_paths: Iterable[str], private: Path) -> tuple[tuple[str, int], ...]:
    """Return what every program may read: the system, Python's own directories, and devices that do nothing.

    Nothing that holds `private`, where the directories of all runs are.
    """
    readable = [path for path in (*_SYSTEM, *python_paths) if not private.is_relative_to(path)]
    return (
        *((path, READ) for path in dict.fromkeys(readable)),
        *((path, READ) for path in _READABLE_DEVICES),
        *((path, DEVICE) for path in _DEVICES),
        (_SHARED_MEMORY, WRITE),
    )


def scratch_grant(directory: Path, private: Path) -> tuple[str, int]:
    """Return the grant of a directory that all runs share; one that holds the directories of runs cannot be listed."""
    return str(directory), WRITE & ~READ_DIR if private.is_relative_to(directory) else WRITE


def _checked(result: int) -> int:
    if result < 0:
        raise SandboxError(ctypes.get_errno(), f"Landlock was refused: {os.strerror(ctypes.get_errno())}")
    return result
