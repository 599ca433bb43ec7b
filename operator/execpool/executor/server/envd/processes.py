"""E2B's process service: start commands, listen to them, feed them, signal them.

A client that goes away does not end its command; the end of its `Connect-Timeout-Ms` does. A command that has ended is
forgotten at once: those who listened hear of its end, nobody can connect any more.
"""

import asyncio
from contextlib import suppress

from execpool.executor.agent_wire import Code, Op
from execpool.executor.server.envd import codec, pipes
from execpool.executor.server.envd.agent import Agent
from execpool.executor.server.envd.codec import Message
from execpool.executor.server.envd.errors import EnvdError, invalid
from execpool.executor.server.envd.exchange import Exchange, deadline
from execpool.executor.server.envd.pipes import CHUNK, End
from execpool.executor.server.envd.process import Config, Listener, Process

_INPUT_SECONDS = 60.0
"""Longest time that a stream's input waits for a command to take a piece of it. While it waits nobody reads the stream, so
that nobody would see its client go."""
_SIGNALS: dict[object, str] = {15: "SIGNAL_SIGTERM", 9: "SIGNAL_SIGKILL"}


class Processes:
    """The commands that run, and the calls about them."""

    def __init__(self, agent: Agent, environment: dict[str, str]) -> None:
        self._agent = agent
        self._environment = environment
        """Of the whole sandbox; a command's own comes on top."""
        self._running: dict[int, Process] = {}
        self._killing: set[asyncio.Future[None]] = set()

    def ended(self, pid: int, status: int) -> None:
        """Take note of a command's end."""
        process = self._running.pop(pid, None)
        if process is not None:
            process.ended(status)

    def lost(self) -> None:
        """Take note that no command is left."""
        for process in self._running.values():
            process.give_up()
        self._running.clear()

    async def list(self, _message: Message) -> Message:
        """Tell what runs."""
        return {"processes": [_told(process) for process in self._running.values()]}

    async def start(self, exchange: Exchange, message: Message) -> None:
        """Start a command and stream what it says."""
        limit = exchange.milliseconds("Connect-Timeout-Ms")
        process, listener = await self._begin(message, limit)
        await _stream(exchange, process, listener, limit)

    async def connect(self, exchange: Exchange, message: Message) -> None:
        """Stream what a command says from now on."""
        process = self._selected(message)
        limit = exchange.milliseconds("Connect-Timeout-Ms")
        await _stream(exchange, process, process.listen(), limit)

    async def send_input(self, message: Message) -> Message:
        """Give a command input."""
        await self._selected(message).write(*_input(message))
        return {}

    async def stream_input(self, exchange: Exchange) -> Message:
        """Give a command input as it comes."""
        process: Process | None = None
        async for message in exchange.messages():
            start, data = codec.inner(message, "start"), codec.inner(message, "data")
            if start is not None:
                process = self._selected(start)
            elif data is not None:
                if process is None:
                    raise invalid("input came before the start of the stream")
                kind, given = _input(data)
                for at in range(0, len(given), CHUNK):
                    async with deadline(_INPUT_SECONDS):
                        await process.write(kind, given[at : at + CHUNK])
            elif codec.inner(message, "keepalive") is None:
                raise EnvdError(Code.UNIMPLEMENTED, "invalid event type")
        return {}

    async def close_stdin(self, message: Message) -> Message:
        """End a command's input."""
        self._selected(message).close_stdin()
        return {}

    async def send_signal(self, message: Message) -> Message:
        """Signal a command."""
        await self._agent.call(Op.SIGNAL, {"pid": self._selected(message).pid, "signal": _signal(message)})
        return {}

    async def update(self, message: Message) -> Message:
        """Give a command's terminal another size."""
        size = codec.inner(codec.inner(message, "pty") or {}, "size")
        process = self._selected(message)
        if size is not None:
            process.resize(codec.number(size, "cols"), codec.number(size, "rows"))
        return {}

    async def _begin(self, message: Message, limit: float | None) -> tuple[Process, Listener]:
        """Start what a message describes; it may have ended when this returns, and the listener has heard it.

        Once it runs, it does so whether its client is still there or not.
        """
        config = _config(message)
        process, theirs = _prepare(config, message)
        listener = process.listen()

        def landed(answer: Message) -> None:
            process.started(int(answer["pid"]))
            self._running[process.pid] = process
            if limit is not None:
                process.limit = asyncio.get_running_loop().call_later(limit, self._time_over, process)

        arguments = {
            "cmd": config.cmd,
            "args": config.args,
            "envs": self._environment | dict(config.envs),
            "cwd": config.cwd,
            "tty": codec.inner(message, "pty") is not None,
        }
        try:
            await self._agent.call(Op.START, arguments, theirs, landed=landed)
        except asyncio.CancelledError:
            listener.close()
            raise
        finally:
            pipes.close_all(theirs)
            if not process.pid:
                process.close()
        return process, listener

    def _selected(self, message: Message) -> Process:
        """Return the command that a message selects, by pid or by tag.

        Raises:
            EnvdError: there is none, or none is selected.
        """
        selector = codec.inner(message, "process") or {}
        tag = codec.text(selector, "tag")
        if tag:
            found = next((process for process in self._running.values() if process.config.tag == tag), None)
            if found is None:
                raise EnvdError(Code.NOT_FOUND, f"process with tag {tag[:200]} not found")
            return found
        pid = codec.number(selector, "pid")
        if pid not in self._running:
            raise EnvdError(Code.NOT_FOUND, f"process with pid {pid} not found")
        return self._running[pid]

    def _time_over(self, process: Process) -> None:
        if self._running.get(process.pid) is process:
            killing = asyncio.ensure_future(self._kill(process))
            self._killing.add(killing)
            killing.add_done_callback(self._killing.discard)

    async def _kill(self, process: Process) -> None:
        with suppress(EnvdError):  # it has ended meanwhile
            await self._agent.call(Op.SIGNAL, {"pid": process.pid, "signal": "SIGNAL_SIGKILL"})


async def _stream(exchange: Exchange, process: Process, listener: Listener, limit: float | None) -> None:
    """Send a command's events until its end or that of the time."""
    patience = exchange.keepalive_seconds()
    try:
        async with deadline(limit):
            await exchange.begin_messages()
            await exchange.send(codec.envelope({"event": {"start": {"pid": process.pid}}}))
            event: Message = {}
            while "end" not in event:
                event = await listener.next(patience)
                await exchange.send(codec.envelope({"event": event}))
            await exchange.send(codec.end(), last=True)
    finally:
        listener.close()


def _input(message: Message) -> tuple[str, bytes]:
    """Return what is given to a command, and to which end of it."""
    given = codec.inner(message, "input") or {}
    for kind in ("stdin", "pty"):
        if codec.field(given, kind) is not None:
            return kind, codec.data(given, kind)
    raise EnvdError(Code.UNIMPLEMENTED, "invalid input type")


def _signal(message: Message) -> str:
    """Return a signal's name; the numbers of its enum stand for their names."""
    value = codec.field(message, "signal")
    if value is None:
        return ""
    if not isinstance(value, str | int):
        raise invalid("signal is neither a name nor a number")
    return _SIGNALS.get(value, str(value)[:64])


def _config(message: Message) -> Config:
    wanted = codec.inner(message, "process") or {}
    envs = codec.mapping(wanted, "envs")
    if any(not name or "=" in name for name in envs):
        raise invalid("a name in envs is empty or has an equals sign")
    return Config(
        cmd=codec.text(wanted, "cmd"),
        args=tuple(codec.texts(wanted, "args")),
        envs=envs,
        cwd=codec.text(wanted, "cwd"),
        tag=codec.text(message, "tag") or None,
    )


def _prepare(config: Config, message: Message) -> tuple[Process, list[int]]:
    """Make the pipes or the terminal of a command; return it and the ends to hand over."""
    terminal = codec.inner(message, "pty")
    if terminal is not None:
        size = codec.inner(terminal, "size") or {}
        master, theirs = pipes.terminal(codec.number(size, "cols") or 80, codec.number(size, "rows") or 24)
        return Process(config, {"pty": master}, master), [theirs]
    inlet: End | None = None
    handed: list[int] = []
    if codec.field(message, "stdin") is None or codec.flag(message, "stdin"):
        inlet, theirs = pipes.pipe_in()
        handed.append(theirs)
    outputs: dict[str, End] = {}
    for name in ("stdout", "stderr"):
        outputs[name], theirs = pipes.pipe_out()
        handed.append(theirs)
    return Process(config, outputs, inlet), handed


def _told(process: Process) -> Message:
    told: Message = {"config": process.config.told(), "pid": process.pid}
    return {**told, "tag": process.config.tag} if process.config.tag else told
