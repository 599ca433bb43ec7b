"""E2B's filesystem service: what the agent does, in the words of the protocol."""

from collections.abc import Callable
from contextlib import suppress

from execpool.executor.agent_wire import MAX_EVENTS, MAX_LISTING_BYTES, Op, most_bytes
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
        """Stream what changes in a directory, until its time is over."""
        limit = exchange.milliseconds("Connect-Timeout-Ms")
        watchers: list[str] = []
        try:
            watcher = await self._watch(message, landed=lambda answer: watchers.append(str(answer["watcher"])))
            async with deadline(limit):
                await self._stream(exchange, watcher)
        finally:
            for each in watchers:
                await self._unwatch(each)

    async def _stream(self, exchange: Exchange, watcher: str) -> None:
        patience = exchange.keepalive_seconds()
        await exchange.begin_messages()
        await exchange.send(codec.envelope({"start": {}}))
        while True:
            events = await self._events(watcher, wait_seconds=patience)
            for event in events:
                await exchange.send(codec.envelope({"filesystem": event}))
            if not events:
                await exchange.send(codec.envelope({"keepalive": {}}))

    async def _watch(self, message: Message, landed: Callable[[Message], None] | None = None) -> str:
        arguments = {
            "path": codec.text(message, "path"),
            "recursive": codec.flag(message, "recursive"),
            "entries": codec.flag(message, "includeEntry"),
        }
        return str((await self._agent.call(Op.WATCH, arguments, landed=landed))["watcher"])

    async def _events(self, watcher: str, *, wait_seconds: float = 0.0) -> list[Message]:
        """Return what has changed; after a lot of it the rest is for the next call."""
        events: list[Message] = []
        size = 0
        while True:
            answer = await self._agent.call(Op.EVENTS, {"watcher": watcher, "seconds": wait_seconds})
            events += answer["events"]
            size += sum(most_bytes(event) for event in answer["events"])
            if not answer.get("more") or len(events) > MAX_EVENTS or size > MAX_LISTING_BYTES:
                return events

    async def _unwatch(self, watcher: str) -> None:
        with suppress(EnvdError):  # it is not there any more
            await self._agent.call(Op.UNWATCH, {"watcher": watcher})
