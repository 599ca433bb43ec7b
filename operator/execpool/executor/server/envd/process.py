"""One command as the server sees it: its output, spread over those who listen, its input, and its end.

    pipe or terminal ──► read while every listener has room ──► a bounded queue each ──► streams

Back-pressure: a listener whose queue is full stops the reading, the pipe fills, the command waits. Without a listener
output is read and dropped, so that a command in the background never waits for nobody (as in E2B, where what was not
listened to is gone). At the end what is left in the pipes is read without waiting for their end, which a daemon that
still has them open might never give.
"""

import asyncio
import base64
import os
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from execpool.executor.agent_wire import Code
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.pipes import End

ROOM_BYTES = 256 * 1024
"""Output that waits for one listener, with what it takes to keep it."""
_EVENT_BYTES = 512
"""What an event takes besides its output."""

_CHUNKS_AT_ONCE = 40
"""Read before others get a turn; more than a pipe may hold."""
_AFTER_END_BYTES = 1 << 20
"""Read after a command's end, should something that it left behind go on writing."""

Event = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """What was asked for, as `List` tells it."""

    cmd: str
    args: tuple[str, ...]
    envs: Mapping[str, str]
    cwd: str
    tag: str | None

    def told(self) -> dict[str, Any]:
        """Return it in proto-JSON."""
        told: dict[str, Any] = {"cmd": self.cmd, "args": list(self.args), "envs": dict(self.envs)}
        return {**told, "cwd": self.cwd} if self.cwd else told


class Listener:
    """A stream's queue; `next` waits for its events."""

    def __init__(self, process: "Process") -> None:
        self._process = process
        self._events: deque[tuple[int, Event]] = deque()
        self._size = 0
        self._news = asyncio.Event()

    @property
    def full(self) -> bool:
        """True when it takes no more."""
        return self._size >= ROOM_BYTES

    def put(self, event: Event, size: int = 0) -> None:
        """Add an event."""
        self._events.append((size, event))
        self._size += size
        self._news.set()

    async def next(self, patience: float) -> Event:
        """Return the next event; a keepalive after a silence.

        Raises:
            EnvdError: the command is gone, nobody knows how.
        """
        while not self._events:
            if self._process.lost:
                raise EnvdError(Code.ABORTED, "the command ended with the runner of this executor")
            self._news.clear()
            try:
                async with asyncio.timeout(patience):
                    await self._news.wait()
            except TimeoutError:
                return {"keepalive": {}}
        size, event = self._events.popleft()
        self._size -= size
        if size:
            self._process.pump()
        return event

    def close(self) -> None:
        """Listen no more."""
        self._process.forget(self)

    def wake(self) -> None:
        """Look again."""
        self._news.set()


class Process:
    """One command, from before its start until everybody has heard of its end."""

    def __init__(self, config: Config, outputs: dict[str, End], inlet: End | None) -> None:
        self.config = config
        self.pid = 0
        self.lost = False
        self.limit: asyncio.TimerHandle | None = None
        """What ends it when its time is over."""
        self._outputs = outputs
        self._inlet = inlet
        self._terminal = outputs.get("pty")
        self._listeners: list[Listener] = []
        self._silent: set[str] = set()
        """Outputs that have come to their end."""
        self._end: Event | None = None
        self._left_after_end = _AFTER_END_BYTES
        self._over = False
        self._writing = asyncio.Lock()

    def listen(self) -> Listener:
        """Hear everything from now on."""
        listener = Listener(self)
        self._listeners.append(listener)
        return listener

    def forget(self, listener: Listener) -> None:
        """Listen no more."""
        with suppress(ValueError):
            self._listeners.remove(listener)
        self.pump()

    def started(self, pid: int) -> None:
        """Take note that it runs."""
        self.pid = pid
        self.pump()

    def ended(self, status: int) -> None:
        """Take note of its end; what is left of its output comes before."""
        self._end = {"end": _ending(status)}
        self.pump()

    def give_up(self) -> None:
        """Take note that it is gone, nobody knows how."""
        self.lost = True
        self.close()
        for listener in self._listeners:
            listener.wake()

    def close(self) -> None:
        """Close our ends."""
        self._over = True
        if self.limit is not None:
            self.limit.cancel()
        for end in (*self._outputs.values(), *([] if self._inlet is None else [self._inlet])):
            end.close()

    def pump(self) -> None:
        """Read what is there, while every listener has room; nothing left after the end is the end."""
        if self._over:
            return
        empty = [self._read(name, end) for name, end in self._outputs.items()]
        if self._end is not None and (all(empty) or self._left_after_end <= 0):
            for listener in self._listeners:
                listener.put(self._end)
            self.close()

    async def write(self, kind: str, data: bytes) -> None:
        """Give it input, as fast as it takes it.

        Raises:
            EnvdError: it takes none of this kind, or none any more.
        """
        end = self._inlet
        if kind == "pty" and self._terminal is None:
            raise EnvdError(
                Code.INTERNAL, "error writing to tty: tty not assigned to process, write to the stdin instead"
            )
        if kind == "stdin" and self._terminal is not None:
            raise EnvdError(Code.INTERNAL, "error writing to stdin: tty assigned to process, write to the pty instead")
        if end is None or not end.open:
            raise EnvdError(Code.INTERNAL, f"error writing to {kind}: {kind} not enabled or closed")
        async with self._writing:
            try:
                await end.write(data)
            except OSError as error:
                raise EnvdError(Code.INTERNAL, f"error writing to {kind}: {(error.strerror or '').lower()}") from error

    def close_stdin(self) -> None:
        """End its input.

        Raises:
            EnvdError: it has a terminal.
        """
        if self._terminal is not None:
            raise EnvdError(
                Code.UNKNOWN, "error closing stdin: cannot close stdin for PTY process — send Ctrl+D (0x04) instead"
            )
        if self._inlet is not None:
            self._inlet.close()

    def resize(self, columns: int, rows: int) -> None:
        """Give its terminal another size.

        Raises:
            EnvdError: it has none.
        """
        if self._terminal is None or not self._terminal.open:
            raise EnvdError(Code.INTERNAL, "error resizing tty: tty not assigned to process")
        self._terminal.resize(columns, rows)

    def _read(self, name: str, end: End) -> bool:
        """Read one output; True when nothing is left for now."""
        if name in self._silent:
            return True
        for _ in range(_CHUNKS_AT_ONCE):
            if any(listener.full for listener in self._listeners):
                end.on_readable(None)
                return False
            chunk = end.read()
            if chunk is None:
                end.on_readable(self.pump)
                return True
            if not chunk:
                self._silent.add(name)
                end.on_readable(None)
                return True
            self._spread(name, chunk)
        end.on_readable(self.pump)
        return False

    def _spread(self, name: str, chunk: bytes) -> None:
        if self._end is not None:
            self._left_after_end -= len(chunk)
        if self._listeners:
            event = {"data": {name: base64.b64encode(chunk).decode()}}
            for listener in self._listeners:
                listener.put(event, len(chunk) + _EVENT_BYTES)


def _ending(status: int) -> dict[str, Any]:
    """Return the end of a command as Go's `os.ProcessState` has it."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = _SIGNALS.get(number, f"signal {number}")
        text = f"signal: {name}" + (" (core dumped)" if os.WCOREDUMP(status) else "")
        return {"exitCode": -1, "exited": False, "status": text, "error": text}
    code = os.WEXITSTATUS(status)
    text = f"exit status {code}"
    return {"exitCode": code, "exited": True, "status": text, **({"error": text} if code else {})}


_SIGNALS = {
    1: "hangup", 2: "interrupt", 3: "quit", 4: "illegal instruction", 5: "trace/breakpoint trap", 6: "aborted",
    7: "bus error", 8: "floating point exception", 9: "killed", 10: "user defined signal 1", 11: "segmentation fault",
    12: "user defined signal 2", 13: "broken pipe", 14: "alarm clock", 15: "terminated", 24: "CPU time limit exceeded",
    25: "file size limit exceeded", 31: "bad system call",
}  # fmt: skip
