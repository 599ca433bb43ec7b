"""A holder of one executor, wherever it runs: claims it, runs code, keeps contexts. Knows the wire and nothing else."""

import asyncio
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

from execpool import protocol

MAX_BODY = 16 << 20
"""An answer longer than this is a finding; reading stops there."""


@dataclass(frozen=True)
class Answer:
    """Everything that came back of one run."""

    raw: bytes
    events: list[dict[str, Any]]
    seconds: float
    """From its start, which is when the answer begins."""
    waited: float = 0.0
    """For its start."""

    @property
    def end(self) -> dict[str, Any]:
        """The last event, or nothing."""
        return self.events[-1] if self.events else {}

    @property
    def status(self) -> str:
        return str(self.end.get("status"))

    def printed(self) -> str:
        """Everything that the program wrote or showed."""
        fields = ("text", "value", "traceback", "html")
        return "".join(str(event.get(field, "")) for event in self.events for field in fields)

    def shown(self) -> str:
        """The text of its main result."""
        return next((str(event.get("text")) for event in self.events if event.get("is_main_result")), "")


class Holder:
    """Has claimed an executor."""

    def __init__(self, http: aiohttp.ClientSession, data_url: str, control_url: str, secret: str) -> None:
        self._http = http
        self.data_url = data_url
        self.control_url = control_url
        self.secret = secret
        self.token = ""
        self._epoch = 0

    async def claim(self) -> None:
        """Claim, once the executor is ready to be claimed."""
        body = {"secret": self.secret, "principal": "hostile-campaign"}
        async with asyncio.timeout(60):
            while not await self.ready():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        async with self._http.post(f"{self.control_url}/claim", json=body) as answer:
            assert answer.status == 200, await answer.text()
            grant = await answer.json(content_type=None)
        self.token, self._epoch = grant["token"], grant["epoch"]

    async def ready(self) -> bool:
        """True when the executor says so."""
        try:
            async with self._http.get(f"{self.control_url}/readyz", timeout=aiohttp.ClientTimeout(1.0)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def healthy(self) -> float:
        """Return how long the server takes to say that it lives."""
        began = time.monotonic()
        async with self._http.get(f"{self.data_url}/health", timeout=aiohttp.ClientTimeout(2.0)) as answer:
            assert answer.status in (200, 204)
        return time.monotonic() - began

    async def run(self, code: str, seconds: float, context: str | None = None) -> Answer:
        """Run code; asks again while the executor is busy with the end of an earlier run."""
        deadline = time.monotonic() + 15
        while True:
            began = time.monotonic()
            body: dict[str, Any] = {"code": code, "timeout_seconds": seconds, "stateless": context is None}
            if context is not None:
                body["context_id"] = context
            async with self._http.post(f"{self.data_url}/execute", json=body, headers=self._headers()) as answer:
                if answer.status == 200:
                    started = time.monotonic()
                    raw = await _read(answer)
                    return Answer(raw, _events(raw), time.monotonic() - started, started - began)
                refusal = await answer.text()
            if time.monotonic() > deadline:
                raise AssertionError(f"no run could be started for 15 s: {answer.status} {refusal}")
            await asyncio.sleep(0.05)

    async def open_context(self) -> str | None:
        """Make a context; None when this executor has none."""
        async with self._http.post(f"{self.data_url}/contexts", json={}, headers=self._headers()) as answer:
            if answer.status in (404, 405, 501):
                return None
            assert answer.status < 300, await answer.text()
            return str((await answer.json(content_type=None))["id"])

    async def close_context(self, context: str) -> None:
        """End a context; one that has ended by itself is as good."""
        url = f"{self.data_url}/contexts/{context}"
        async with self._http.delete(url, headers=self._headers()) as answer:
            assert answer.status in (200, 204, 404), await answer.text()

    def _headers(self) -> dict[str, str]:
        return {
            protocol.HEADER_TOKEN: self.token,
            protocol.HEADER_EPOCH: str(self._epoch),
            protocol.HEADER_EXECUTION: secrets.token_hex(8),
        }


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            break
    return bytes(body)


def _events(raw: bytes) -> list[dict[str, Any]]:
    """Read the lines; whatever is not a JSON object is an event of its own, so that it is noticed."""
    events = []
    for line in raw.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        events.append(event if isinstance(event, dict) else {"type": "broken line"})
    return events
