"""Uploads and downloads: between a file and a pipe that the server made, as fast as the pipe takes or gives.

Only regular files, opened without waiting: a FIFO or a device would let its other side stop the agent, or never end. A
download is exactly as long as was promised when it began; if the file became shorter meanwhile, the pipe ends early and
the server breaks the answer off.
"""

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from execpool.executor.agent_wire import METADATA_PREFIX, Code
from execpool.executor.runner.agent.files import Answer, Arguments, make_directories
from execpool.executor.runner.agent.loop import Loop
from execpool.executor.runner.agent.paths import expand, readable
from execpool.executor.runner.agent.trouble import Trouble, from_kernel

_CHUNK = 1 << 16
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

Finish = Callable[[Answer | Trouble], None]


class Upload:
    """From a pipe into a file; `finish` gets the answer at the end of the pipe, or what went wrong."""

    def __init__(self, loop: Loop, source: int, arguments: Arguments, home: str, finish: Finish) -> None:
        self._loop = loop
        self._finish = finish
        self._path = expand(arguments.get("path"), home)
        make_directories(os.path.dirname(self._path))  # noqa: PTH120 - text throughout
        self._file = _open(self._path, _WRITE)
        try:
            self._metadata = _mark(self._file, arguments.get("metadata") or {})
        except OSError as error:
            os.close(self._file)
            raise from_kernel(error, "metadata cannot be stored here") from error
        self._source = os.dup(source)
        os.set_blocking(self._source, False)
        loop.on_readable(self._source, self._pump)

    def _pump(self) -> None:
        try:
            chunk = os.read(self._source, _CHUNK)
            _write(self._file, chunk)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(from_kernel(error, f"error writing {readable(self._path)}"))
            return
        if not chunk:
            name = os.path.basename(self._path)  # noqa: PTH119 - as above
            written: Answer = {"path": readable(self._path), "name": readable(name), "type": "file"}
            self._end(written | ({"metadata": self._metadata} if self._metadata else {}))

    def _end(self, outcome: Answer | Trouble) -> None:
        self._loop.forget(self._source)
        os.close(self._source)
        os.close(self._file)
        self._finish(outcome)


class Download:
    """From a file into a pipe; `answer` says what will come."""

    def __init__(self, loop: Loop, target: int, arguments: Arguments, home: str) -> None:
        self._loop = loop
        path = expand(arguments.get("path"), home)
        self._file = _open(path, _READ)
        found = os.fstat(self._file)
        try:
            self._at, self._left = _span(arguments, found.st_size)
        except Trouble:
            os.close(self._file)
            raise
        self.answer: Answer = {
            "path": readable(path),
            "size": found.st_size,
            "start": self._at,
            "length": self._left,
            "modified": int(found.st_mtime),
        }
        self._target = os.dup(target)
        os.set_blocking(self._target, False)
        loop.on_writable(self._target, self._pump)

    def _pump(self) -> None:
        try:
            chunk = os.pread(self._file, min(self._left, _CHUNK), self._at)
            sent = os.write(self._target, chunk) if chunk else 0
        except BlockingIOError:
            return
        except OSError:
            sent = 0
        self._at += sent
        self._left -= sent
        if not sent or not self._left:
            self._loop.forget(self._target)
            os.close(self._target)
            os.close(self._file)


def _open(path: str, flags: int) -> int:
    """Open a regular file.

    Raises:
        Trouble: it is none, or may not be opened.
    """
    try:
        descriptor = os.open(path, flags, 0o666)
    except IsADirectoryError as error:
        raise Trouble(Code.INVALID_ARGUMENT, f"path is a directory: {readable(path)}") from error
    except OSError as error:
        raise _not_opened(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
    raise Trouble(Code.INVALID_ARGUMENT, f"path '{readable(path)}' is {what}")


def _not_opened(path: str, error: OSError) -> Trouble:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Trouble(Code.NOT_FOUND, f"path '{readable(path)}' does not exist")
    with suppress(OSError):
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - text throughout
            return Trouble(Code.INVALID_ARGUMENT, f"path '{readable(path)}' is not a regular file")
    return from_kernel(error, f"error opening {readable(path)}")


def _span(arguments: Arguments, size: int) -> tuple[int, int]:
    """Return where to begin and how much to send: all, from `first` to `last`, or the `last` bytes."""
    first, last = arguments.get("first"), arguments.get("last")
    if first is None and last is None:
        return 0, size
    if first is None:
        start, end = max(size - int(last or 0), 0), size
    else:
        start, end = int(first), size if last is None else min(int(last) + 1, size)
    if start >= end:
        raise Trouble(Code.OUT_OF_RANGE, f"{size}")
    return start, end - start


def _mark(descriptor: int, metadata: dict[str, Any]) -> dict[str, str]:
    """Store metadata as extended attributes; return what was stored."""
    stored = {str(name).lower(): str(value) for name, value in metadata.items()}
    for name, value in stored.items():
        os.setxattr(descriptor, METADATA_PREFIX + name, value.encode())
    return stored


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
