"""Removes what runs leave: a file or a tree, whatever its modes, its depth and its names; never follows a link.

Directories inside a tree are moved up to its top before they are emptied, so depth costs neither descriptors nor
recursion nor path length: a program can nest deeper than all three. What cannot be removed is skipped, for the next
sweep. Nobody works in the tree any more, since this runs when every process of its run has ended.
"""

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

RUN_PREFIX = "run-"
"""Names of run directories begin with this; they belong to slots, which remove them."""
FONTS_SUFFIX = "-fonts"
"""Beside a run's directory, so that a program finds its own one empty."""


def name_for_a_run() -> str:
    """Return a name for the directory of a run of this supervisor, which nobody can guess."""
    return f"{RUN_PREFIX}{os.getpid()}-{secrets.token_hex(12)}"


def remove_lost(directory: Path) -> None:
    """Remove the directories of runs whose supervisor was ended by force, and could not."""
    for path in directory.glob(f"{RUN_PREFIX}*"):
        supervisor = path.name.removeprefix(RUN_PREFIX).partition("-")[0]
        if supervisor.isdigit() and not Path(f"/proc/{supervisor}").exists():
            remove(path)


def remove(path: Path) -> None:
    """Remove a file or a tree."""
    with suppress(OSError):
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
            return
        path.rmdir()  # most runs leave nothing
        return
    _empty(str(path))
    with suppress(OSError):
        path.rmdir()


def sweep(directories: Iterable[Path], *, all_of_it: bool = False) -> None:
    """Empty directories of this container; run directories in them stay unless `all_of_it`."""
    for path in list(_left(directories, all_of_it=all_of_it)):
        remove(path)


def anything_left(directories: Iterable[Path]) -> bool:
    """True when `sweep` would find something."""
    return next(_left(directories, all_of_it=False), None) is not None


def _left(directories: Iterable[Path], *, all_of_it: bool) -> Iterator[Path]:
    for directory in directories:
        with suppress(OSError), os.scandir(directory) as found:
            for item in found:
                if all_of_it or not item.name.startswith(RUN_PREFIX):
                    yield Path(item.path)


def _empty(top: str) -> None:
    pending, moved = [top], 0
    while pending:
        directory = pending.pop()
        with suppress(OSError):
            os.chmod(directory, 0o700)  # noqa: PTH101 - text throughout: this may see a million names
        for item in _entries(directory):
            if not item.is_dir(follow_symlinks=False):
                with suppress(OSError):
                    os.unlink(item.path)  # noqa: PTH108 - as above
                continue
            moved += 1
            pending += _lifted(item.path, f"{top}/.{moved}")
        if directory != top:
            with suppress(OSError):
                os.rmdir(directory)  # noqa: PTH106 - as above


def _lifted(path: str, to: str) -> list[str]:
    """Move a directory up and return where it is now; its own mode must allow that, since its parent is noted in it."""
    with suppress(OSError):
        os.chmod(path, 0o700)  # noqa: PTH101 - as above
        os.rename(path, to)  # noqa: PTH104 - as above
        return [to]
    return []


def _entries(directory: str) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(directory) as found:
        return list(found)
    return []
