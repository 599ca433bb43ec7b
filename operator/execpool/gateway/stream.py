"""The NDJSON form of an execution: what happens, line by line, and the answer last.

    {"type":"accepted","id":...}                      it will be run, or wait
    {"type":"waiting","position":n}                   while it waits, when the position changes; 1 is next
    {"type":"started","executor":...,"tier":...}      again (`retry: Safe`): what came before is void
    {"type":"stdout"|"stderr"|"result"|"error",...}   as the program produces them
    {"type":"keepalive"}                              after 5 s without another line
    {"type":"answer",...} or {"type":"refused","problem":{...}}   the last line

The execution never waits for this stream: lines are kept until the caller reads them. A caller that falls MAX_PENDING_BYTES
behind misses lines, never the answer, which repeats all output and results.
"""

import asyncio
from typing import Any

import orjson

from execpool.gateway.answers import Feed
from execpool.protocol import KEEPALIVE_SECONDS

MEDIA_TYPE = "application/x-ndjson"
MAX_PENDING_BYTES = 4 << 20
LINE_COST = 64
"""What a kept line costs beside its text."""
KEEPALIVE = b'{"type":"keepalive"}\n'


class StreamFeed(Feed):
    """Collects lines until they are taken."""

    def __init__(self, keepalive_seconds: float = KEEPALIVE_SECONDS) -> None:
        self._keepalive_seconds = keepalive_seconds
        self._lines: list[bytes] = []
        self._pending = 0
        self._news = asyncio.Event()
        self._is_accepted = False
        self._is_closed = False

    def accepted(self, execution: str) -> None:
        if not self._is_accepted:
            self._is_accepted = True
            self._add({"type": "accepted", "id": execution})

    def waiting(self, position: int) -> None:
        self._add({"type": "waiting", "position": position})

    def started(self, executor: str, tier: str) -> None:
        self._add({"type": "started", "executor": executor, "tier": tier})

    def line(self, line: bytes) -> None:
        if self._pending > MAX_PENDING_BYTES:
            return
        self._pending += len(line) + LINE_COST
        self._lines.append(line + b"\n")
        self._news.set()

    def close(self) -> None:
        """Note that nothing more will come."""
        self._is_closed = True
        self._news.set()

    async def take(self) -> bytes:
        """Return what has come, a keepalive after silence; empty once nothing more will come."""
        while not self._lines and not self._is_closed:
            self._news.clear()
            try:
                async with asyncio.timeout(self._keepalive_seconds):
                    await self._news.wait()
            except TimeoutError:
                if self._is_accepted and not self._lines:
                    return KEEPALIVE
        taken = b"".join(self._lines)
        self._lines.clear()
        self._pending = 0
        return taken

    def _add(self, event: dict[str, Any]) -> None:
        self.line(orjson.dumps(event))
