"""E2B's filesystem service: what the agent does, in the words of the protocol."""

import asyncio
from contextlib import suppress

from execpool.executor.agent_wire import MAX_EVENTS, Op
from execpool.executor.server.envd import codec
from execpool.executor.server.envd.agent import Agent
from execpool.executor.server.envd.codec import Message
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.exchange import Exchange, deadline


class Filesystem:
    """The calls about files and directories."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def stat(self, message: Message) -> Message:
        """Describe an entry."""
        return await self._agent.call(Op.STAT, {"path": codec.text(message, "path")})

    async def make_dir(self, message: Message) -> Message:
        """Make a directory."""
        return await self._agent.call(Op.MAKE_DIR, {"path": codec.text(message, "path")})

    async def move(self, message: Message) -> Message:
        """Give an entry another path."""
        paths = {name: codec.text(message, name) for name in ("source", "destination")}
        return await self._agent.call(Op.MOVE, paths)

    async def remove(self, message: Message) -> Message:
        """Remove an entry, and all below it."""
        return await self._agent.call(Op.REMOVE, {"path": codec.text(message, "path")})

    async def list_dir(self, message: Message) -> Message:
        """List a directory."""
        arguments = {"path": codec.text(message, "path"), "depth": codec.number(message, "depth")}
        answer = await self._agent.call(Op.LIST, arguments)
        return {"entries": answer.get("parts", [])}

    async def create_watcher(self, message: Message) -> Message:
        """Begin to watch a directory."""
        return {"watcherId": await self._watch(message)}

    async def get_watcher_events(self, message: Message) -> Message:
        """Tell what has changed since the last call."""
        return {"events": await self._events(codec.text(message, "watcherId"))}

    async def remove_watcher(self, message: Message) -> Message:
        """Stop watching."""
        await self._agent.call(Op.UNWATCH, {"watcher": codec.text(message, "watcherId")})
        return {}

    async def watch_dir(self, exchange: Exchange, message: Message) -> None:
        """Stream what changes in a directory, until the client goes or its time is over."""
        limit = exchange.milliseconds("Connect-Timeout-Ms")
        watcher = await self._watch(message)
        gone = asyncio.create_task(self._unwatch_when_gone(exchange, watcher))
        try:
            async with deadline(limit):
                await self._stream(exchange, watcher, gone)
        finally:
            gone.cancel()
            await self._unwatch(watcher)

    async def _stream(self, exchange: Exchange, watcher: str, gone: asyncio.Task[None]) -> None:
        patience = exchange.keepalive_seconds()
        await exchange.begin_messages()
        await exchange.send(codec.envelope({"start": {}}))
        while not gone.done():
            events = await self._events(watcher, wait_seconds=patience)
            for event in events:
                await exchange.send(codec.envelope({"filesystem": event}))
            if not events:
                await exchange.send(codec.envelope({"keepalive": {}}))

    async def _watch(self, message: Message) -> str:
        arguments = {
            "path": codec.text(message, "path"),
            "recursive": codec.flag(message, "recursive"),
            "entries": codec.flag(message, "includeEntry"),
        }
        return str((await self._agent.call(Op.WATCH, arguments))["watcher"])

    async def _events(self, watcher: str, *, wait_seconds: float = 0.0) -> list[Message]:
        events: list[Message] = []
        while True:
            answer = await self._agent.call(Op.EVENTS, {"watcher": watcher, "seconds": wait_seconds})
            events += answer["events"]
            if not answer.get("more") or len(events) > MAX_EVENTS:
                return events

    async def _unwatch_when_gone(self, exchange: Exchange, watcher: str) -> None:
        await exchange.disconnected()
        await self._unwatch(watcher)

    async def _unwatch(self, watcher: str) -> None:
        with suppress(EnvdError):  # it is not there any more
            await self._agent.call(Op.UNWATCH, {"watcher": watcher})
