"""The operator's requests by name: each is counted and written to a file, and at one of them its process dies by SIGKILL.

intent record-id record-deadline terminate lost next-attempt drop release      writes of an E2BSandbox
account-status pool-status pool-finalizer pool-release                         other writes
create extend connect kill look sweep                                          calls to the account
"""

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from execpool.api.names import FINALIZER
from tests.campaigns.plans import Death, Instant

WITHHELD_SECONDS = 2.0
SENT_SECONDS = 0.1
"""Shorter than a creation takes, longer than a request is on its way."""
_KUBE = re.compile(r"/apis/execpool\.dev/v1alpha1/namespaces/[^/]+/(?P<plural>\w+)(/[^/]+)?(?P<status>/status)?")
_ACCOUNT = {
    ("POST", re.compile(r"/v2/sandboxes")): "create",
    ("POST", re.compile(r"/v2/sandboxes/[^/]+/connect")): "connect",
    ("POST", re.compile(r"/sandboxes/[^/]+/timeout")): "extend",
    ("DELETE", re.compile(r"/sandboxes/[^/]+")): "kill",
}


def effect_of(method: str, path: str, query: str, body: bytes | None) -> str:
    """Name a request; empty for one that is nobody's effect."""
    if (method, path) == ("GET", "/v2/sandboxes"):
        return "look" if "metadata=" in query else "sweep"
    for (verb, pattern), name in _ACCOUNT.items():
        if verb == method and pattern.fullmatch(path):
            return name
    found = _KUBE.fullmatch(path)
    return _write(method, found["plural"], json.loads(body)) if found and method != "GET" and body else ""


def _write(method: str, plural: str, body: Any) -> str:
    status = body.get("status", {}) if isinstance(body, dict) else {}
    if plural == "e2baccounts":
        return "account-status"
    if plural == "executionpools":
        return "pool-status" if status else "pool-finalizer" if FINALIZER in json.dumps(body) else "pool-release"
    if plural != "e2bsandboxes":
        return ""
    if method != "PATCH":
        return {"POST": "intent", "DELETE": "drop"}[method]
    if not isinstance(body, dict):
        return "release"
    if not status:
        return "next-attempt"
    if "sandboxID" in status:
        return "record-id"
    return {"Terminating": "terminate", "Lost": "lost"}.get(status.get("phase"), "record-deadline")


@dataclass
class Tap:
    """Written down: time, life, effect, its number in this life, and `sent` or the answer's status."""

    log: Path
    life: int
    death: Death | None = None
    _seen: Counter[str] = field(default_factory=Counter)

    def install(self) -> None:
        genuine, tap = aiohttp.ClientSession._request, self

        async def request(session: aiohttp.ClientSession, method: str, url: Any, **options: Any) -> Any:
            place = aiohttp.client.URL(url, encoded=True) if isinstance(url, str) else url
            effect = effect_of(method, place.path, place.query_string, options.get("data"))
            work = genuine(session, method, url, **options)
            return await (tap._pass(effect, work, options) if effect else work)

        aiohttp.ClientSession._request = request  # type: ignore[method-assign]

    async def _pass(self, effect: str, work: Any, options: dict[str, Any]) -> Any:
        self._seen[effect] += 1
        number, chosen = self._seen[effect], self.death is not None and self.death.effect == effect
        instant = self.death.instant if chosen and self.death and self.death.number == number else None
        if instant is Instant.BEFORE:
            work.close()
            self._die(effect, number)
        self._note(effect, number, "sent", (options.get("headers") or {}).get("Idempotency-Key", ""))
        if instant is Instant.SENT:
            sending = asyncio.ensure_future(work)
            await asyncio.sleep(SENT_SECONDS)
            self._die(effect, number, sending)
        try:
            answer = await work
        except BaseException as error:
            self._note(effect, number, type(error).__name__)
            raise
        self._note(effect, number, answer.status)
        if instant is Instant.WITHHELD:
            await asyncio.sleep(WITHHELD_SECONDS)
            self._die(effect, number)
        if instant is Instant.READ:
            await answer.read()
            self._die(effect, number)
        return answer

    def _die(self, effect: str, number: int, *_kept: Any) -> None:
        self._note(effect, number, "died")
        os.kill(os.getpid(), signal.SIGKILL)

    def _note(self, effect: str, number: int, what: str | int, key: str = "") -> None:
        said = {"time": time.time(), "life": self.life, "effect": effect, "number": number, "what": what, "key": key}
        with self.log.open("ab", buffering=0) as file:
            file.write(json.dumps(said).encode() + b"\n")


@dataclass(frozen=True)
class Noted:
    """One line of that file."""

    time: float
    life: int
    effect: str
    number: int
    what: str | int
    key: str


def read(log: Path) -> list[Noted]:
    """Return all lines of a file that may not be there yet."""
    return [Noted(**json.loads(line)) for line in log.read_bytes().splitlines()] if log.exists() else []
