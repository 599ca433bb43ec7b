"""What can be done to files and directories in one call: look, list, make, move, remove.

Every function takes the arguments of its call and the home directory. Those that may take long are generators: they
yield to give others a turn, yield a list to send a part of the answer, and return the rest.
"""

import errno
import os
import shutil
import stat
from collections.abc import Generator, Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

from execpool.executor.agent_wire import MAX_ENTRIES, Code
from execpool.executor.runner.agent import removal
from execpool.executor.runner.agent.paths import Entry, entry, expand, readable
from execpool.executor.runner.agent.trouble import Trouble, from_kernel

Arguments = dict[str, Any]
Answer = dict[str, Any]
Turns = Generator[list[Entry] | None, None, Answer]

_PER_TURN = 256
_COPY_BYTES = 1 << 20


def look(arguments: Arguments, home: str) -> Answer:
    """Describe what is at a path."""
    path = expand(arguments.get("path"), home)
    try:
        return {"entry": entry(path)}
    except NotADirectoryError as error:
        raise Trouble(Code.NOT_FOUND, f"path '{readable(path)}' does not exist") from error
    except OSError as error:
        raise from_kernel(error, f"path '{readable(path)}'") from error


def make_directory(arguments: Arguments, home: str) -> Answer:
    """Make a directory and those above it."""
    path = expand(arguments.get("path"), home)
    if os.path.isdir(path):  # noqa: PTH112 - text throughout
        raise Trouble(Code.ALREADY_EXISTS, f"directory already exists: {readable(path)}")
    if os.path.lexists(path):
        raise Trouble(Code.INVALID_ARGUMENT, f"path already exists but it is not a directory: {readable(path)}")
    make_directories(path)
    return {"entry": entry(path)}


def make_directories(path: str) -> None:
    """Make a directory and those above it, unless they exist.

    Raises:
        Trouble: one of them is something else, or may not be made.
    """
    missing = []
    while not os.path.isdir(path) and path != "/":  # noqa: PTH112 - as above
        missing.append(path)
        path = os.path.dirname(path)  # noqa: PTH120 - as above
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o755)  # noqa: PTH102 - as above
        except (FileExistsError, NotADirectoryError) as error:
            if not os.path.isdir(directory):  # noqa: PTH112 - as above
                raise Trouble(
                    Code.INVALID_ARGUMENT, f"a directory on the way is a file: {readable(directory)}"
                ) from error
        except OSError as error:
            raise from_kernel(error, f"error making directory {readable(directory)}") from error


def remove(arguments: Arguments, home: str) -> Turns:
    """Remove a file or a tree."""
    path = expand(arguments.get("path"), home)
    try:
        yield from removal.remove(path)
    except OSError as error:
        raise from_kernel(error, f"error removing {readable(path)}") from error
    return {}


def walk(arguments: Arguments, home: str) -> Turns:
    """List a directory down to a depth, without following links below it."""
    path = expand(arguments.get("path"), home)
    depth = max(int(arguments.get("depth") or 1), 1)
    batch: list[Entry] = []
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - as above
            raise Trouble(Code.INVALID_ARGUMENT, f"path is not a directory: {readable(path)}")
        for described in _below(path, depth):
            batch.append(described)
            if len(batch) == _PER_TURN:
                yield batch
                batch = []
    except OSError as error:
        raise from_kernel(error, f"error reading directory {readable(path)}") from error
    if batch:
        yield batch
    return {}


def _below(path: str, depth: int) -> Iterator[Entry]:
    """Yield the entries of a directory in the order of their names, each before what is below it."""
    levels = [iter(_names(path, MAX_ENTRIES))]
    parents = [path]
    left = MAX_ENTRIES
    while levels:
        name = next(levels[-1], None)
        if name is None:
            levels.pop()
            parents.pop()
            continue
        found = os.path.join(parents[-1], name)  # noqa: PTH118 - as above
        try:
            described = entry(found)
        except FileNotFoundError:
            continue
        yield described
        left -= 1
        if len(levels) < depth and described["type"] == "FILE_TYPE_DIRECTORY" and "isSymlink" not in described:
            with suppress(FileNotFoundError, PermissionError, NotADirectoryError):
                levels.append(iter(_names(found, left)))
                parents.append(found)


def _names(path: str, most: int) -> list[str]:
    with os.scandir(path) as found:
        names = [item.name for item in islice(found, most + 1)]
    if len(names) > most:
        raise Trouble(Code.FAILED_PRECONDITION, f"there are more than {MAX_ENTRIES} entries to list")
    return sorted(names)


def move(arguments: Arguments, home: str) -> Turns:
    """Give a file or a tree another path; between file systems it is copied, then removed."""
    source = expand(arguments.get("source"), home)
    target = expand(arguments.get("destination"), home)
    if not os.path.lexists(source):
        raise Trouble(Code.NOT_FOUND, f"source file not found: {readable(source)}")
    make_directories(os.path.dirname(target))  # noqa: PTH120 - as above
    try:
        try:
            os.rename(source, target)  # noqa: PTH104 - as above
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            yield from _copy(source, target)
            yield from removal.remove(source)
        return {"entry": entry(target)}
    except OSError as error:
        raise from_kernel(error, f"error renaming {readable(source)}") from error


def _copy(source: str, target: str) -> Iterator[None]:
    """Copy a file, a link or a tree in turns; anything else is left out."""
    pending = [(source, target)]
    while pending:
        ours, theirs = pending.pop()
        mode = os.lstat(ours).st_mode
        if stat.S_ISLNK(mode):
            with suppress(FileNotFoundError):
                os.unlink(theirs)  # noqa: PTH108 - as above
            os.symlink(os.readlink(ours), theirs)  # noqa: PTH115, PTH211 - as above
        elif stat.S_ISDIR(mode):
            make_directories(theirs)
            pending += [(f"{ours}/{name}", f"{theirs}/{name}") for name in _names(ours, MAX_ENTRIES)]
        elif stat.S_ISREG(mode):
            yield from _copy_file(ours, theirs)
            shutil.copystat(ours, theirs, follow_symlinks=False)
        yield


def _copy_file(source: str, target: str) -> Iterator[None]:
    with open(source, "rb") as ours, open(target, "wb") as theirs:  # noqa: PTH123 - as above
        while chunk := ours.read(_COPY_BYTES):
            theirs.write(chunk)
            yield
