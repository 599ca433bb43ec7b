"""Hostile programs as commands of envd, by its wire: the same answers as of a run, so that a campaign can judge them."""

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import aiohttp

from tests.hostile.client import MAX_BODY, Answer

_LIMIT_AND_MORE = 10.0


class Commands:
    """The process service of a claimed executor."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self.url = url
        self.token = token

    async def run(self, code: str, seconds: float) -> Answer:
        """Run a program by `python -c` with a time limit."""
        return await self._start("python", ["-c", code], seconds)

    async def end_all(self) -> None:
        """End every command of the claim, daemons too: the agent dies, and its keeper ends what it had."""
        await self._start("/bin/bash", ["-c", "kill -KILL $PPID; sleep 5"], 5)

    async def read(self, path: str) -> tuple[int, bytes]:
        """Download a file; return the status and the body."""
        async with self._http.get(f"{self.url}/files", params={"path": path}, headers=self._headers()) as answer:
            return answer.status, await answer.content.read(MAX_BODY)

    async def _start(self, command: str, arguments: list[str], seconds: float) -> Answer:
        message = json.dumps({"process": {"cmd": command, "args": arguments}, "stdin": False}).encode()
        headers = {
            **self._headers(),
            "Content-Type": "application/connect+json",
            "Connect-Timeout-Ms": str(int(seconds * 1000)),
        }
        body = b"\0" + len(message).to_bytes(4, "big") + message
        began, raw = time.monotonic(), bytearray()
        async with self._http.post(
            f"{self.url}/process.Process/Start",
            data=body,
            headers=headers,
            timeout=aiohttp.ClientTimeout(seconds + _LIMIT_AND_MORE),
        ) as answer:
            assert answer.status == 200, await answer.text()
            async for chunk in answer.content.iter_any():
                raw += chunk
                if len(raw) > MAX_BODY // 2:
                    break  # output of commands has no cap: it is read as fast as the client does
        return _answer(bytes(raw), time.monotonic() - began)

    def _headers(self) -> dict[str, str]:
        return {"X-Access-Token": self.token}


def _answer(raw: bytes, seconds: float) -> Answer:
    """Return what a stream says in the form of a run's events."""
    events: list[dict[str, Any]] = []
    end: dict[str, Any] = {"status": "Killed", "reason": "cut off"}
    said = bytearray()
    for flags, message in _messages(raw):
        event = message.get("event", {})
        for stream, text in event.get("data", {}).items():
            said += base64.b64decode(text)
            events.append({"type": stream, "text": base64.b64decode(text).decode(errors="replace")})
        if "end" in event:
            end = _ended(event["end"])
        elif flags & 2 and "error" in message:
            timed_out = message["error"].get("code") == "deadline_exceeded"
            end = {"status": "TimedOut" if timed_out else "Killed", "reason": str(message["error"])}
    events.append({"type": "end_of_execution", **end})
    return Answer(bytes(said), events, seconds)


def _ended(end: dict[str, Any]) -> dict[str, Any]:
    if not end.get("exited", False):
        return {"status": "Killed", "reason": str(end)}
    return {"status": "Failed" if end.get("exitCode") else "Succeeded", "reason": str(end)}


def _messages(stream: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield what is complete."""
    while len(stream) >= 5:
        length = int.from_bytes(stream[1:5], "big")
        if len(stream) < 5 + length:
            return
        yield stream[0], json.loads(stream[5 : 5 + length])
        stream = stream[5 + length :]
