"""Paths as E2B reads them, and what is told about an entry of the file system.

Relative paths and `~` are in the home directory; absolute ones are taken as they are. An entry has the fields of E2B's
`EntryInfo` in proto-JSON. A link has the type of what it leads to and `isSymlink`, which current clients show as a link
and older ones as the file or directory that they can use.
"""

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from execpool.executor.agent_wire import MAX_METADATA_BYTES, METADATA_PREFIX, Code
from execpool.executor.runner.agent.trouble import Trouble

USER = "user"
"""The name under which everything here runs, whatever its number."""

Entry = dict[str, Any]

_MOST_CHARACTERS = 4095
"""The kernel takes no more."""


def expand(path: object, home: str) -> str:
    """Return the absolute path that a client means.

    Raises:
        Trouble: when it is not a path.
    """
    if not isinstance(path, str) or "\0" in path:
        raise Trouble(Code.INVALID_ARGUMENT, "the path is not a text without zero bytes")
    if len(path) > _MOST_CHARACTERS:
        raise Trouble(Code.INVALID_ARGUMENT, f"the path has more than {_MOST_CHARACTERS} characters")
    if path.startswith("~"):
        if len(path) > 1 and path[1] != "/":
            raise Trouble(Code.INVALID_ARGUMENT, "cannot expand user-specific home dir")
        path = home + path[1:]
    return path if path.startswith("/") else os.path.normpath(os.path.join(home, path))  # noqa: PTH118 - text throughout


def entry(path: str, *, metadata: bool = True) -> Entry:
    """Describe what is at a path, a link itself and not what it leads to.

    Raises:
        OSError: when there is nothing, or it may not be seen.
    """
    found = os.lstat(path)
    mode = found.st_mode
    described: Entry = {
        "name": readable(os.path.basename(path.rstrip("/")) or "/"),  # noqa: PTH119 - as above
        "path": readable(path),
        "size": str(found.st_size),
        "permissions": stat.filemode(mode),
        "owner": _user(found.st_uid, os.getuid()),
        "group": _user(found.st_gid, os.getgid()),
    }
    modified = timestamp(found.st_mtime_ns)
    if modified:
        described["modifiedTime"] = modified
    if stat.S_ISLNK(mode):
        mode = _follow(path, described)
    described |= {"type": _type(mode), "mode": stat.S_IMODE(mode)}
    known = _metadata(path) if metadata else {}
    return {**described, "metadata": known} if known else described


def timestamp(nanoseconds: int) -> str:
    """Return a moment in RFC 3339; empty when a calendar does not have it."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    with suppress(OverflowError, ValueError, OSError):
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"
    return ""


def readable(name: str) -> str:
    """Return a file's name as text; bytes that are none are shown as replacement characters."""
    return os.fsencode(name).decode("utf-8", "replace")


def _follow(path: str, described: Entry) -> int:
    """Add where a link leads; return the mode of what is there, or the link's own when it leads nowhere."""
    described["isSymlink"] = True
    described["permissions"] = "L" + described["permissions"][1:]
    try:
        followed = Path(path).stat()
        described["symlinkTarget"] = readable(os.path.realpath(path))
    except (OSError, RuntimeError):
        with suppress(OSError):
            described["symlinkTarget"] = readable(os.readlink(path))  # noqa: PTH115 - as above
        return stat.S_IFLNK | 0o777
    return followed.st_mode


def _type(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "FILE_TYPE_FILE"
    if stat.S_ISDIR(mode):
        return "FILE_TYPE_DIRECTORY"
    return "FILE_TYPE_SYMLINK" if stat.S_ISLNK(mode) else "FILE_TYPE_UNSPECIFIED"


def _user(number: int, ours: int) -> str:
    if number == ours:
        return USER
    return str(number) if number else "root"


def _metadata(path: str) -> dict[str, str]:
    """Return a file's metadata; empty when it has none, or more than can be told."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for name in os.listxattr(path, follow_symlinks=False):
            if name.startswith(METADATA_PREFIX):
                value = os.getxattr(path, name, follow_symlinks=False)
                found[name.removeprefix(METADATA_PREFIX)] = value.decode("utf-8", "replace")
    return found if sum(len(name) + len(value) for name, value in found.items()) <= MAX_METADATA_BYTES else {}
