"""This side of a nursery: start it, ask it for processes, hear of their ends."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

READY_SECONDS = 60.0
_NURSERY = "execpool.providers.nursery"
_PACKET_BYTES = 64 << 10

OnEnd = Callable[[int], None]
"""Called with the exit status of a process, negative for a signal."""


class NotStartedError(Exception):
    """A process, or an executor made of two, or the nursery itself did not come up; the message says what is known."""


@dataclass(frozen=True)
class Program:
    """A process to be: a module of this package, run as `__main__`."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    directory: str
    log: str
    mounts: dict[str, str] = field(default_factory=dict)
    """Directories that it sees in the place of others: {place: directory}, where the kernel lets it."""


class NurseryLink:
    """One nursery.

    Attributes:
        mounts: whether programs can have mounts of their own here.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._starting: dict[str, asyncio.Future[int]] = {}
        self._on_end: dict[int, OnEnd] = {}
        self._ready: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._keys = 0
        self.mounts = False
        asyncio.get_running_loop().add_reader(connection.fileno(), self._hear)

    @property
    def pid(self) -> int:
        """The nursery's process."""
        return self._process.pid

    @classmethod
    async def start(
        cls, modules: Sequence[str], environment: dict[str, str], log: Path, mounts: dict[str, str]
    ) -> Self:
        """Start a nursery and wait until it has imported the modules, and has tried the mounts.

        Raises:
            NotStartedError: it ended instead.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs, log.open("ab") as output:
            process = subprocess.Popen(  # noqa: ASYNC220 - takes a millisecond; asyncio's own needs a watcher of children
                [sys.executable, "-m", _NURSERY, str(theirs.fileno()), str(os.getpid()), json.dumps(mounts), *modules],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a terminal's Ctrl-C is for its owner, which then ends it
            )
        link = cls(process, ours)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await link._ready
        except TimeoutError:
            await link.close()
            raise NotStartedError(f"the nursery did not begin within {READY_SECONDS:g} s") from None
        return link

    async def spawn(self, program: Program, on_end: OnEnd) -> int:
        """Start a process and return its pid.

        Raises:
            NotStartedError: it could not be forked.
        """
        self._keys += 1
        key = str(self._keys)
        self._starting[key] = asyncio.get_running_loop().create_future()
        try:
            self._connection.send(json.dumps({"start": key, **asdict(program)}).encode())
            pid = await self._starting[key]
        except OSError as error:
            raise NotStartedError(f"the nursery does not listen: {error.strerror}") from error
        finally:
            del self._starting[key]
        self._on_end[pid] = on_end
        return pid

    async def close(self) -> None:
        """End the nursery and with it all that it has forked."""
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self._connection.close()
        self._process.kill()
        await asyncio.to_thread(self._process.wait)

    def _hear(self) -> None:
        with suppress(BlockingIOError):
            while packet := self._recv():
                self._take(json.loads(packet))
            self._lost()

    def _recv(self) -> bytes:
        with suppress(ConnectionError):
            return self._connection.recv(_PACKET_BYTES)
        return b""

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"ready": int(pid), "mounts": bool(works)}:
                self.mounts = works
                self._ready.set_result(pid)
            case {"started": str(key), "pid": int(pid)} if self._waits(key):
                self._starting[key].set_result(pid)
            case {"started": str(), "pid": int(pid)}:  # who asked for it has given up
                os.kill(pid, signal.SIGKILL)
            case {"refused": str(key), "reason": str(reason)} if self._waits(key):
                self._starting[key].set_exception(NotStartedError(f"no process could be forked: {reason}"))
            case {"ended": int(pid), "status": int(status)}:
                if on_end := self._on_end.pop(pid, None):
                    on_end(status)

    def _waits(self, key: str) -> bool:
        waiting = self._starting.get(key)
        return waiting is not None and not waiting.done()

    def _lost(self) -> None:
        """The nursery has ended, and every process with it."""
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        gone = NotStartedError("the nursery ended; its log says why")
        for waiting in (self._ready, *self._starting.values()):
            if not waiting.done():
                waiting.set_exception(gone)
        ended, self._on_end = self._on_end, {}
        for on_end in ended.values():
            on_end(-9)
