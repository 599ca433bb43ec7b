"""The agent's end of the socket: calls in, answers out, commands' ends told.

A call is answered at once, in turns (`files`), when its pipe is done (`transfers`), or when something happens (`watch`).
Frames to the server are queued when it does not take them, and no further turn is taken and no call is read until the
queue is empty: so a server that is slow slows us down and cannot make us grow.
"""

import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from execpool.executor import agent_wire as wire
from execpool.executor import settings
from execpool.executor.agent_wire import Op
from execpool.executor.runner import sandbox
from execpool.executor.runner.agent import files
from execpool.executor.runner.agent.commands import Commands
from execpool.executor.runner.agent.figures import Figures
from execpool.executor.runner.agent.files import Answer, Arguments, Turns
from execpool.executor.runner.agent.loop import Loop
from execpool.executor.runner.agent.transfers import Download, Upload
from execpool.executor.runner.agent.trouble import Trouble, from_kernel
from execpool.executor.runner.agent.watch import Watchers

Reply = Callable[[Answer | Trouble], None]
SendPart = Callable[[list[Any]], int]
"""Sends a part of an answer and returns its bytes."""

_HOME = "/home/user"


def serve(descriptor: int, environment: Mapping[str, str] | None = None) -> None:
    """Be the agent until the server closes the socket; every command is ended then.

    Args:
        descriptor: our end of a SEQPACKET socket pair.
        environment: what commands start with; None takes this process's own. Its HOME is the home directory if it can
            be written to, else the working directory is.
    """
    known = dict(settings.current_environment() if environment is None else environment)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    sandbox.adopt_orphans()
    with socket.socket(fileno=descriptor) as server:
        _Agent(server, _home(known.get("HOME", _HOME)), known).run()


def _home(wanted: str) -> str:
    usable = os.path.isdir(wanted) and os.access(wanted, os.W_OK | os.X_OK)  # noqa: PTH112 - text throughout
    return wanted if usable else os.getcwd()  # noqa: PTH109 - as above


class _Agent:
    """The calls, and what they work on."""

    def __init__(self, server: socket.socket, home: str, environment: Mapping[str, str]) -> None:
        self._server = server
        self._home = home
        self._loop = Loop()
        self._commands = Commands(home, environment)
        self._watchers = Watchers(self._loop, home)
        self._figures = Figures()
        self._unsent: deque[bytes] = deque()
        self._at_once: dict[str, Callable[[Arguments], Answer]] = {
            Op.PING: lambda _: {},
            Op.STAT: lambda arguments: files.look(arguments, home),
            Op.MAKE_DIR: lambda arguments: files.make_directory(arguments, home),
            Op.SIGNAL: self._signal,
            Op.WATCH: self._watchers.watch,
            Op.UNWATCH: self._watchers.unwatch,
            Op.METRICS: lambda _: self._figures.read(home),
        }
        self._in_turns: dict[str, Callable[[Arguments, str], Turns]] = {
            Op.LIST: files.walk,
            Op.MOVE: files.move,
            Op.REMOVE: files.remove,
        }

    def run(self) -> None:
        """Serve."""
        self._server.setblocking(False)
        reader, writer = socket.socketpair()
        for end in (reader, writer):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def child_ended() -> None:
            reader.recv(4096)
            self._tell_ends()

        self._loop.on_readable(reader.fileno(), child_ended)
        self._loop.on_readable(self._server.fileno(), self._hear)
        try:
            self._loop.run()
        finally:
            signal.set_wakeup_fd(-1)
            self._commands.end()

    def _signal(self, arguments: Arguments) -> Answer:
        """Signal a command; what has ended by then is told first, so that who kills finds it gone.

        One that resists takes the agent along, and every other command: our keeper ends them all at one moment.
        """
        if not self._commands.signal(arguments):
            self._loop.stop()
        self._tell_ends()
        return {}

    def _tell_ends(self) -> None:
        for pid, status in self._commands.reap():
            self._send({"ended": pid, "status": status})

    def _hear(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._server, wire.MAX_FRAME_BYTES + 1, wire.MAX_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            packet, descriptors = b"", []
        try:
            frame = wire.decode(packet)
            number, op, arguments = frame["call"], frame["op"], dict(frame["args"])
        except (wire.FrameError, KeyError, TypeError, ValueError):
            self._loop.stop()
            return
        try:
            self._obey(str(op), arguments, descriptors, number)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _replier(self, number: Any) -> Reply:
        def reply(outcome: Answer | Trouble) -> None:
            if isinstance(outcome, Trouble):
                self._send({"reply": number, "error": [outcome.code, outcome.message[:4096]]})
            else:
                self._send({"reply": number, "ok": outcome})

        return reply

    def _send_part(self, number: Any, entries: list[Any]) -> int:
        """Send a part of an answer; return how many bytes that took."""
        return self._send({"reply": number, "part": entries})

    def _obey(self, op: str, arguments: Arguments, descriptors: list[int], number: Any) -> None:
        reply = self._replier(number)
        try:
            if op in self._at_once:
                reply(self._at_once[op](arguments))
            elif op in self._in_turns:
                part = partial(self._send_part, number)
                self._loop.work(_drive(self._in_turns[op](arguments, self._home), part, reply))
            elif op == Op.START:
                reply(self._commands.start(arguments, descriptors))
            elif op == Op.EVENTS:
                self._watchers.ask(arguments, reply)
            elif op == Op.UPLOAD:
                Upload(self._loop, descriptors[0], arguments, self._home, reply)
            elif op == Op.DOWNLOAD:
                reply(Download(self._loop, descriptors[0], arguments, self._home).answer)
            else:
                reply(Trouble(wire.Code.UNIMPLEMENTED, f"no such call: {op[:64]}"))
        except Trouble as trouble:
            reply(trouble)
        except OSError as error:
            reply(from_kernel(error, op))
        except (TypeError, ValueError, LookupError):
            reply(Trouble(wire.Code.INTERNAL, f"the arguments of {op[:64]} have another form"))

    def _send(self, frame: dict[str, Any]) -> int:
        try:
            packet = wire.encode(frame)
        except wire.FrameError:
            packet = wire.encode({"reply": frame.get("reply"), "error": [wire.Code.INTERNAL, "the answer is too long"]})
        self._unsent.append(packet)
        if len(self._unsent) == 1:
            self._flush(registered=False)
        return len(packet)

    def _flush(self, *, registered: bool) -> None:
        try:
            while self._unsent:
                self._server.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            if not registered:
                self._loop.holding = True
                self._loop.forget(self._server.fileno())
                self._loop.on_writable(self._server.fileno(), lambda: self._flush(registered=True))
            return
        except OSError:
            self._unsent.clear()
            self._loop.stop()
            return
        if registered:
            self._loop.holding = False
            self._loop.forget(self._server.fileno())
            self._loop.on_readable(self._server.fileno(), self._hear)


def _drive(turns: Turns, send_part: SendPart, reply: Reply) -> Iterator[None]:
    """Take a call's turns, one per turn of the loop."""
    left = wire.MAX_LISTING_BYTES
    try:
        while True:
            entries = next(turns)
            if entries is not None:
                left -= sum(send_part(part) for part in _parts(entries))
            if left < 0:
                reply(Trouble(wire.Code.RESOURCE_EXHAUSTED, wire.LISTING_TOO_LONG))
                return
            yield
    except StopIteration as end:
        reply(end.value)
    except Trouble as trouble:
        reply(trouble)
    except OSError as error:
        reply(from_kernel(error, "the call failed"))


def _parts(entries: list[Any]) -> Iterator[list[Any]]:
    """Yield entries in parts that fit into a frame."""
    part: list[Any] = []
    size = 0
    for item in entries:
        part.append(item)
        size += wire.most_bytes(item)
        if size > wire.PART_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
