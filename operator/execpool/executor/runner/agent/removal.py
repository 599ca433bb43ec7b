"""Removes a tree, however deep, however its modes were set, and without ever leaving it through a link.

One descriptor is open at a time: down through `openat(name, NOFOLLOW)`, up through `..`, which must be the directory
that we came from. So a tree that is deeper than a path may be long, or than Python may recurse, is removed too, and one
that is moved about while it is removed only makes us stop.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

_PER_TURN = 256
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass
class _Level:
    """A directory that we are in or below: which it is, its name above, and those in it still to be entered."""

    identity: tuple[int, int]
    name: str
    below: list[str] = field(default_factory=list)


def remove(path: str) -> Iterator[None]:
    """Remove what is at a path, in turns; nothing there is success.

    Raises:
        OSError: when something may not be removed, or the tree was moved meanwhile.
    """
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)  # noqa: PTH108 - text throughout
            return
        current = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return
    except PermissionError:
        os.chmod(path, 0o700)  # noqa: PTH101 - as above
        current = os.open(path, _DIRECTORY)
    yield from _empty(current)
    with suppress(FileNotFoundError):
        os.rmdir(path)  # noqa: PTH106 - as above


def _empty(current: int) -> Iterator[None]:
    """Remove everything below an open directory, and close it."""
    levels = [_Level(_identity(current), "")]
    try:
        yield from _clear(current, levels[-1])
        while True:
            level = levels[-1]
            if level.below:
                name = level.below.pop()
                current = _down(current, name)
                levels.append(_Level(_identity(current), name))
                yield from _clear(current, levels[-1])
            elif len(levels) > 1:
                levels.pop()
                current = _up(current, levels[-1].identity)
                with suppress(FileNotFoundError):
                    os.rmdir(level.name, dir_fd=current)
                yield
            else:
                return
    finally:
        os.close(current)


def _clear(current: int, level: _Level) -> Iterator[None]:
    """Unlink what is no directory, and note the directories."""
    with suppress(OSError):
        os.fchmod(current, 0o700)
    with os.scandir(current) as found:
        for count, item in enumerate(found, 1):
            if item.is_dir(follow_symlinks=False):
                level.below.append(item.name)
            else:
                with suppress(FileNotFoundError):
                    os.unlink(item.name, dir_fd=current)
            if count % _PER_TURN == 0:
                yield


def _down(current: int, name: str) -> int:
    try:
        below = os.open(name, _DIRECTORY, dir_fd=current)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=current)
        below = os.open(name, _DIRECTORY, dir_fd=current)
    os.close(current)
    return below


def _up(current: int, expected: tuple[int, int]) -> int:
    above = os.open("..", _DIRECTORY, dir_fd=current)
    if _identity(above) != expected:
        os.close(above)
        raise OSError(errno.EBUSY, "it was moved while it was removed")
    os.close(current)
    return above


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
