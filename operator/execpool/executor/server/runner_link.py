"""The server's end of the socket to the runner: one runner at a time, found again after it was restarted.

    listen -> a runner connects -> unlink the socket -> Hello -> ready ... connection ends -> lost -> listen

The socket lives in a directory that both containers mount, under a name that is drawn each time. It is unlinked as soon
as the runner has connected; programs of a runner that was lost may still live when the next one is waited for, but they
may not list that directory, so they find nothing to connect to. Packets are frames; descriptors travel with them.
Sending never waits: frames are tiny, and a runner that does not take them is as good as lost.
"""

import array
import asyncio
import json
import logging
import os
import secrets
import socket
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from execpool.executor import frames

log = logging.getLogger("execpool.executor")


class RunnerUnavailable(Exception):  # noqa: N818 - says what it is
    """The frame was not handed over, for sure."""


class Listener(Protocol):
    """Who wants to know about the runner."""

    def runner_ready(self) -> None:
        """Say that slots can be made from now on."""

    def imports_ready(self, imports: frames.Imports) -> None:
        """Say that slots with these imports can be made too."""

    def imports_away(self, imports: frames.Imports) -> None:
        """Say that they cannot, for now."""

    def runner_swept(self) -> None:
        """Say that the shared directories are empty."""

    def runner_lost(self) -> None:
        """Say that the runner is gone, and every slot in it."""


class RunnerLink:
    """Listens for a runner, holds its connection, and says when it comes and goes."""

    def __init__(self, directory: Path, listener: Listener) -> None:
        self._directory = directory
        self._path: Path | None = None
        self._listener = listener
        self._door: socket.socket | None = None
        self._runner: socket.socket | None = None
        self.ready = False
        self.inventory: dict[str, str] = {}
        """Modules of the runner and their versions, as it said when it came."""
        self.agents_started = 0
        self._agents: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        """Our ends of agents' sockets: they end with the runner, even where an agent outlives it (no container)."""

    def listen(self) -> None:
        """Wait for a runner to connect."""
        for left in self._directory.glob(f"*{frames.SOCKET_SUFFIX}"):  # of a server before this one
            left.unlink(missing_ok=True)
        self._path = self._directory / f"{secrets.token_hex(16)}{frames.SOCKET_SUFFIX}"
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._door.bind(str(self._path))
        self._path.chmod(0o666)  # the runner has another uid
        self._door.listen(1)
        asyncio.get_running_loop().add_reader(self._door.fileno(), self._accept)

    def send(self, frame: frames.Frame, descriptors: Sequence[int] = ()) -> None:
        """Hand a frame to the runner.

        Raises:
            RunnerUnavailable: when there is none, or it does not take it.
        """
        if self._runner is None:
            raise RunnerUnavailable
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        try:
            self._runner.sendmsg([frames.encode(frame)], rights)
        except OSError as error:
            raise RunnerUnavailable from error

    def start_agent(self, kind: socket.SocketKind = socket.SOCK_SEQPACKET) -> socket.socket:
        """Have the runner start an agent, `runner.agent.serve(descriptor)`; return our end of its socket, non-blocking.

        The end of the socket means that the agent is gone, with every process that it had started.

        Raises:
            RunnerUnavailable: when there is no runner to do so.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        with theirs:
            try:
                fork = frames.Fork(secrets.token_hex(6), frames.Kind.AGENT, frames.Imports.BASE)
                self.send(fork, [theirs.fileno()])
            except RunnerUnavailable:
                ours.close()
                raise
        ours.setblocking(False)
        self.agents_started += 1
        self._agents.add(ours)
        return ours

    def drop(self, why: str) -> None:
        """Give up on the runner: it sees the end of the connection, ends its runs and exits."""
        if self._runner is None:
            return
        log.warning("runner lost", extra={"why": why})
        self._close_runner()
        self._listener.runner_lost()
        self.listen()

    def goodbye(self) -> None:
        """Tell the runner that the executor has ended for good: by a frame now, by a file should it be restarting."""
        with suppress(OSError):
            (self._directory / frames.GONE_NAME).touch()
        with suppress(RunnerUnavailable):
            self.send(frames.Shutdown())
        self._close_runner()
        self._close_door()

    def _accept(self) -> None:
        if self._door is None:
            return
        try:
            runner, _ = self._door.accept()
        except OSError:
            return
        self._close_door()
        runner.setblocking(False)
        self._runner = runner
        asyncio.get_running_loop().add_reader(runner.fileno(), self._hear)

    def _hear(self) -> None:
        if self._runner is None:
            return
        descriptors: list[int] = []
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._runner, frames.MAX_FRAME_BYTES + 1, 1)
            frame = frames.decode(packet) if packet else None
        except BlockingIOError:
            return
        except OSError:
            frame = None
        except frames.FrameError:
            frame = frames.Refused("not a frame")
        try:
            self._learn(frame, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _learn(self, frame: frames.Frame | None, descriptors: list[int]) -> None:
        match frame:
            case frames.Hello():
                self.ready = True
                self.inventory = _read_inventory(descriptors)
                log.info(
                    "runner ready", extra={"base_bytes": frame.base_bytes, "data_limit_bytes": frame.data_limit_bytes}
                )
                self._listener.runner_ready()
            case frames.Ready(imports=imports) if imports in set(frames.Imports):
                self._listener.imports_ready(frames.Imports(imports))
            case frames.Away(imports=imports) if imports in set(frames.Imports):
                self._listener.imports_away(frames.Imports(imports))
            case frames.Swept():
                self._listener.runner_swept()
            case None:
                self.drop("ConnectionEnded")
            case _:
                self.drop("BadFrame")

    def _close_runner(self) -> None:
        self.ready = False
        self.agents_started = 0
        for agent in list(self._agents):
            with suppress(OSError):  # closed already
                agent.shutdown(socket.SHUT_RDWR)
        if self._runner is not None:
            asyncio.get_running_loop().remove_reader(self._runner.fileno())
            self._runner.close()
            self._runner = None

    def _close_door(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
        if self._door is not None:
            asyncio.get_running_loop().remove_reader(self._door.fileno())
            self._door.close()
            self._door = None


def _read_inventory(descriptors: list[int]) -> dict[str, str]:
    """Read {module: version}; what is not of that form is left out, for nothing depends on it."""
    for descriptor in descriptors:
        with suppress(OSError, ValueError, RecursionError):
            listed = json.loads(os.pread(descriptor, frames.MAX_INVENTORY_BYTES, 0))
            if isinstance(listed, dict):
                return {name: version for name, version in listed.items() if isinstance(version, str)}
    return {}
