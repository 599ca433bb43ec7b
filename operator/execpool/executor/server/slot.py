"""The server's end of one slot: a supervisor in the runner, and the process that it has parked for us.

    starting ──Parked──► parked ──hand_over──► busy ──Ended──► starting ──Parked──► ...      (a context: Ended, then gone)
        └──Refused, or the socket's end, at any time──► gone

Whoever takes a slot becomes its `occupant` and learns of the end. A request that could not be handed over was not run, and
the slot is gone then; one that was may have been run, whatever follows.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from execpool.executor import frames
from execpool.executor.server.pipes import RunPipes


class SlotGone(Exception):  # noqa: N818 - says what it is
    """The slot cannot be used: nothing was handed over, for sure."""


class Occupant(Protocol):
    """Who holds a slot."""

    def ended(self, ended: frames.Ended | None) -> None:
        """Take note that the process is over, and all of it; None when its supervisor was lost, and nobody knows."""


@dataclass(frozen=True)
class Watcher:
    """Who keeps the slots: called when one is parked, has ended while nobody held it, or is gone."""

    parked: Callable[["Slot"], None]
    ended: Callable[["Slot", frames.Ended], None]
    gone: Callable[["Slot", str], None]


class Slot:
    """One slot. Make it when its other end is on its way to the runner."""

    def __init__(
        self, name: str, kind: frames.Kind, imports: frames.Imports, ours: socket.socket, watcher: Watcher
    ) -> None:
        self.name = name
        self.kind = kind
        self.imports = imports
        self.occupant: Occupant | None = None
        self.pipes: RunPipes | None = None
        """Of the process that is parked or runs."""
        self._request: socket.socket | None = None
        self._number = 0
        self._calm = asyncio.Event()
        self._calm.set()
        self._interrupts = 0
        self._is_stopping = False
        self._socket: socket.socket | None = ours
        self._watcher = watcher
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear)

    @property
    def is_open(self) -> bool:
        """True until it is gone."""
        return self._socket is not None

    def hand_over(self, request: frames.Request) -> None:
        """Give the parked process a request.

        Raises:
            SlotGone: it did not get it, for sure.
        """
        if self._request is None:
            raise SlotGone
        try:
            _send(self._request, frames.encode_request(request))
        except OSError as error:
            raise SlotGone from error
        if self.kind is frames.Kind.RUN:
            self._request.close()
            self._request = None

    async def calm(self) -> None:
        """Wait until no interrupt or stop is under way: it was meant for what ran, and would hit what comes next."""
        await self._calm.wait()

    def interrupt(self) -> None:
        """Interrupt what runs."""
        self._calm.clear()
        self._interrupts += 1
        self._say(frames.Interrupt(self._number))

    def stop(self) -> None:
        """End what runs."""
        self._calm.clear()
        self._is_stopping = True
        self._say(frames.Stop(self._number))

    def lose(self, why: str = "Dropped") -> None:
        """Close it because it cannot be used any more, and tell whoever has to do with it."""
        if self._socket is None:
            return
        occupant, self.occupant = self.occupant, None
        if occupant is not None:
            occupant.ended(None)
        self.close()
        self._watcher.gone(self, why)

    def close(self) -> None:
        """Give it up: its supervisor sees the end of the socket and ends all of it."""
        self._forget_process()
        self._calm.set()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _say(self, frame: frames.Frame) -> None:
        if self._socket is not None:
            with suppress(OSError):  # lost already, or soon found to be
                self._socket.send(frames.encode(frame))

    def _hear(self) -> None:
        if self._socket is None:
            return
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._socket, frames.MAX_FRAME_BYTES + 1, len(frames.PARKED))
            frame = _decoded(packet)
        except BlockingIOError:
            return
        except OSError:
            frame, descriptors = None, []
        self._learn(frame, descriptors)

    def _learn(self, frame: frames.Frame | None, descriptors: list[int]) -> None:
        match frame:
            case frames.Parked() if len(descriptors) == len(frames.PARKED):
                self._take(frame, descriptors)
                self._watcher.parked(self)
                return
            case frames.Ended():
                self._over(frame)
            case frames.Interrupted():
                self._interrupts -= 1
                if self._interrupts <= 0 and not self._is_stopping:  # a stop is over when the process is
                    self._calm.set()
            case frames.Refused():
                self.lose(frame.message)
            case _:
                self.lose("ConnectionEnded")
        for descriptor in descriptors:
            os.close(descriptor)

    def _take(self, parked: frames.Parked, descriptors: list[int]) -> None:
        request, stdout, stderr, report = descriptors
        self._number = parked.number
        self._request = socket.socket(fileno=request)
        self._request.setblocking(False)
        self.pipes = RunPipes(stdout, stderr, report)

    def _over(self, ended: frames.Ended) -> None:
        self._interrupts, self._is_stopping = 0, False
        self._calm.set()
        occupant, self.occupant = self.occupant, None
        if occupant is not None:
            occupant.ended(ended)
        self._forget_process()
        self._watcher.ended(self, ended)

    def _forget_process(self) -> None:
        if self.pipes is not None:
            self.pipes.close()
            self.pipes = None
        if self._request is not None:
            self._request.close()
            self._request = None


def _decoded(packet: bytes) -> frames.Frame | None:
    """Read a frame; None when it is none, or the connection's end."""
    try:
        return frames.decode(packet) if packet else None
    except frames.FrameError:
        return None


def _send(target: socket.socket, data: bytes) -> None:
    """Send a request as a packet, or in a memory file when it is long."""
    if len(data) <= frames.MAX_INLINE_BYTES:
        target.send(data)
        return
    file = os.memfd_create("request")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        socket.send_fds(target, [b"\0"], [file])
    finally:
        os.close(file)
