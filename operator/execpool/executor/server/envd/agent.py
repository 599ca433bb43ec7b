"""The server's end of the socket to the agent: started by the first call, started again by the next after it was lost.

A call is a frame out and its answer in, matched by number. What the agent says is hostile: a frame of another form, or
an answer to nothing, ends the connection. When it ends, every call that waits fails as *aborted* (it may have been done),
and `on_lost` says that no command is left.

Commands can stop the agent, since they share its signal domain. So an agent is given up that leaves a short call without
an answer for `SILENT_SECONDS`, or, while a long one waits, says nothing for so long, though it is pinged: its keeper sees
the hang-up and ends it with all that it has.
"""

import array
import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from execpool.executor import agent_wire as wire
from execpool.executor.agent_wire import Code, Op
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.pipes import settle
from execpool.executor.server.runner_link import RunnerUnavailable

log = logging.getLogger("execpool.executor")

Answer = dict[str, Any]
Start = Callable[[], socket.socket]

SILENT_SECONDS = 10.0
"""Far more than an agent takes that has its share of the processor, however small."""

_LONG = frozenset({Op.LIST, Op.MOVE, Op.REMOVE, Op.UPLOAD, Op.EVENTS})
"""Calls that take as long as it takes; the agent answers the others at once, one after the other."""
_PING_SECONDS = 2.0
_PING = 0
"""The number of a call whose answer nobody waits for."""
_FRAMES_AT_ONCE = 64
_MAX_LISTED_BYTES = 4 * wire.MAX_LISTING_BYTES
"""Of all listings that wait to be complete."""


@dataclass
class _Call:
    """A call that waits: its parts so far, and what to do with its answer at the very moment it comes."""

    answer: asyncio.Future[Answer]
    landed: Callable[[Answer], None] | None
    parts: list[Any] = field(default_factory=list)
    size: int = 0
    """Bytes of the frames that the parts came in."""

    def fail(self, error: EnvdError) -> None:
        """End the call with an error, whether somebody still waits for it or not."""
        self.parts.clear()
        self.size = 0
        self.answer.set_exception(error)
        self.answer.exception()  # seen: nobody needs to be told that it was not


class Agent:
    """Calls to the agent; made anew for nobody, lives as long as the server."""

    def __init__(self, start: Start, on_ended: Callable[[int, int], None], on_lost: Callable[[], None]) -> None:
        self._start = start
        self._on_ended = on_ended
        self._on_lost = on_lost
        self._socket: socket.socket | None = None
        self._numbers = count(1)
        self._calls: dict[int, _Call] = {}
        self._sending = asyncio.Lock()
        self._heard_at = 0.0
        self._looking: asyncio.TimerHandle | None = None

    async def call(
        self,
        op: Op,
        arguments: dict[str, Any],
        descriptors: Sequence[int] = (),
        *,
        landed: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """Ask for something; a listing has its parts under "parts".

        Args:
            op: what to do.
            arguments: with what.
            descriptors: to hand over; the caller keeps its own and closes them afterwards.
            landed: called with the answer before any later frame is looked at. A call with it that has been sent is
                waited for even when the caller is cancelled: what it began would be nobody's otherwise.

        Raises:
            EnvdError: it was not done, or nobody knows.
        """
        if len(self._calls) >= wire.MAX_CALLS:
            raise EnvdError(Code.RESOURCE_EXHAUSTED, f"{wire.MAX_CALLS} calls are in progress, no more are allowed")
        number = next(self._numbers)
        try:
            packet = wire.encode({"call": number, "op": op, "args": arguments})
        except wire.FrameError as error:
            raise EnvdError(Code.INVALID_ARGUMENT, f"the request has more than {wire.MAX_FRAME_BYTES} bytes") from error
        call = _Call(asyncio.get_running_loop().create_future(), landed)
        self._calls[number] = call
        limit = self._limit(op, call)
        try:
            await self._send(call, packet, descriptors)
            return await (call.answer if landed is None else _to_its_end(call.answer))
        finally:
            if limit is not None:
                limit.cancel()
            del self._calls[number]
            call.answer.cancel()

    def close(self) -> None:
        """End the agent and all its commands."""
        if self._socket is not None:
            self._lose("Closed")

    async def _send(self, call: _Call, packet: bytes, descriptors: Sequence[int]) -> None:
        """Send a call, unless it comes to its end before that."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        async with self._sending:
            while not call.answer.done():
                connection = self._connected()
                try:
                    connection.sendmsg([packet], rights)
                except BlockingIOError:
                    await _writable(connection)
                except OSError as error:
                    self._lose("SendFailed")
                    raise EnvdError(Code.UNAVAILABLE, "the runner of this executor has restarted") from error
                else:
                    return

    def _connected(self) -> socket.socket:
        if self._socket is None:
            try:
                self._socket = self._start()
            except (OSError, RunnerUnavailable) as error:
                raise EnvdError(Code.UNAVAILABLE, "the runner of this executor is not ready") from error
            self._socket.setblocking(False)
            asyncio.get_running_loop().add_reader(self._socket.fileno(), self._hear)
        return self._socket

    def _hear(self) -> None:
        for _ in range(_FRAMES_AT_ONCE):
            if self._socket is None:
                return
            try:
                packet = self._socket.recv(wire.MAX_FRAME_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                packet = b""
            if not packet:
                self._lose("ConnectionEnded")
                return
            self._heard_at = asyncio.get_running_loop().time()
            try:
                self._take(wire.decode(packet), len(packet))
            except (wire.FrameError, KeyError, TypeError, ValueError):
                self._lose("BadFrame")

    def _take(self, frame: dict[str, Any], size: int) -> None:
        if "ended" in frame:
            self._on_ended(int(frame["ended"]), int(frame["status"]))
            return
        call = self._calls.get(frame["reply"])
        if call is None or call.answer.done():
            return  # whoever asked went away
        if "part" in frame:
            self._take_part(call, list(frame["part"]), size)
        elif "error" in frame:
            code, message = frame["error"]
            call.fail(EnvdError(Code(code), str(message)))
        else:
            answer = dict(frame["ok"])
            if call.landed is not None:
                call.landed(answer)
            call.answer.set_result({**answer, "parts": call.parts} if call.parts else answer)

    def _take_part(self, call: _Call, part: list[Any], size: int) -> None:
        """Keep a part of an answer, unless there is too much of it, or of all."""
        call.parts += part
        call.size += size
        if len(call.parts) > wire.MAX_ENTRIES:
            raise ValueError
        if call.size > wire.MAX_LISTING_BYTES:
            call.fail(EnvdError(Code.RESOURCE_EXHAUSTED, wire.LISTING_TOO_LONG))
        elif sum(other.size for other in self._calls.values()) > _MAX_LISTED_BYTES:
            call.fail(EnvdError(Code.RESOURCE_EXHAUSTED, "too many long listings are in progress"))

    def _limit(self, op: Op, call: _Call) -> asyncio.TimerHandle | None:
        """Limit a short call's time; during a long one, begin to look whether the agent lives."""
        loop = asyncio.get_running_loop()
        if op not in _LONG:
            return loop.call_later(SILENT_SECONDS, self._overdue, call)
        if self._looking is None:
            self._heard_at = loop.time()
            self._looking = loop.call_later(_PING_SECONDS, self._look)
        return None

    def _overdue(self, call: _Call) -> None:
        """Lose an agent that has left a short call without an answer."""
        self._hear()  # we may have been the one that was late
        if not call.answer.done():
            self._lose("Silent")

    def _look(self) -> None:
        """Lose an agent that is silent while calls wait."""
        self._looking = None
        self._hear()  # we may have been the one that was late
        if self._socket is None or not self._calls:
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._heard_at >= SILENT_SECONDS:
            self._lose("Silent")
            return
        with suppress(OSError):  # full, which tells as much; or at its end, of which we hear
            self._socket.send(wire.encode({"call": _PING, "op": Op.PING, "args": {}}))
        self._looking = loop.call_later(_PING_SECONDS, self._look)

    def _lose(self, why: str) -> None:
        if self._socket is None:
            return
        log.warning("agent lost", extra={"why": why})
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        # A sender may have it open too: the other end is told all the same.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._socket = None
        for call in self._calls.values():
            if not call.answer.done():
                call.fail(_lost())
        self._on_lost()


def _lost() -> EnvdError:
    return EnvdError(Code.ABORTED, "the agent of this executor ended during the call")


async def _to_its_end(answer: asyncio.Future[Answer]) -> Answer:
    """Wait for an answer, when cancelled too: the agent gives it, or is lost."""
    try:
        return await asyncio.shield(answer)
    except asyncio.CancelledError:
        await asyncio.wait([answer])
        raise


async def _writable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    # A descriptor of its own, since uvloop keeps one watcher for each.
    with connection.dup() as twin:
        loop.add_writer(twin.fileno(), settle, ready)
        try:
            await ready
        finally:
            loop.remove_writer(twin.fileno())
