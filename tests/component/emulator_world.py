"""The emulator as a process, and E2B's own SDKs in front of it.

    with emulator(plan="hobby") as world:
        sandbox = world.create()                  # e2b_code_interpreter, unmodified
        world.fault("create", "status", status=503)
        assert world.history().alive(time.time()) == {sandbox.sandbox_id}

Settings are those of `EmulatorSettings`. Unless a test says otherwise creations take no time and limits are far away.
"""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2b_code_interpreter import AsyncSandbox, Sandbox

from execpool.emulator.ledger import History

SOURCE = Path(__file__).resolve().parents[2] / "operator"
KEY, OTHER_KEY = "e2b_00", "e2b_0123"
SETTINGS = {
    "port": 0,
    "admin_port": 0,
    "api_keys": f"{KEY},{OTHER_KEY}",
    "latency": "none",
    "plan": "custom",
    "sandboxes": 20,
    "creates": 100,
    "creates_burst": 100,
    "warm": 1,
}
READY_SECONDS = 60.0
_COVERED = ("/tmp", "/dev/shm", "/home/user")
_NEEDED = [Path(path).resolve() for path in (SOURCE, sys.prefix, sys.base_prefix)]
needs_private_places = pytest.mark.skipif(
    any(path.is_relative_to(place) for path in _NEEDED for place in _COVERED),
    reason="Python or the checkout lies below a directory that each sandbox has for itself: move it",
)


@dataclass
class Reply:
    """An answer to a plain request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class EmulatorWorld:
    """A running emulator."""

    process: "subprocess.Popen[bytes]"
    port: int
    admin_port: int
    ledger: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connection(self) -> dict[str, Any]:
        """What the SDK has to be told."""
        return {"api_key": KEY, "api_url": self.url, "sandbox_url": self.url}

    def create(self, **options: Any) -> Sandbox:
        return Sandbox.create(**self.connection, **options)

    async def acreate(self, **options: Any) -> AsyncSandbox:
        return await AsyncSandbox.create(**self.connection, **options)

    def listed(self, **options: Any) -> list[str]:
        """The ids of all pages of a list, in their order."""
        pages = Sandbox.list(**self.connection, **options)
        found = []
        while pages.has_next:
            found += [info.sandbox_id for info in pages.next_items()]
        return found

    def history(self) -> History:
        return History.load(self.ledger)

    def clear(self) -> None:
        """End every sandbox and take every fault back, for the next test."""
        self.admin("DELETE", "/faults")
        for sandbox_id in [each["id"] for each in self.admin("GET", "/sandboxes").json()]:
            self.admin("POST", f"/sandboxes/{sandbox_id}/lose")

    def fault(self, call: str, kind: str, **more: Any) -> None:
        reply = self.admin("POST", "/faults", {"call": call, "kind": kind, **more})
        assert reply.status == 201, reply.body

    def rest(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = KEY,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """A plain call to the port that clients use."""
        return _request(self.port, method, path, body, ({"X-API-Key": key} if key else {}) | (headers or {}))

    def admin(self, method: str, path: str, body: object = None) -> Reply:
        return _request(self.admin_port, method, path, body, {})

    def processes(self) -> list[int]:
        """All processes below the emulator."""
        found = [self.process.pid]
        for pid in found:
            with suppress(OSError):
                children = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
                found += [int(child) for file in children for child in file.read_text().split()]
        return found[1:]


def _request(port: int, method: str, path: str, body: object, headers: dict[str, str]) -> Reply:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        client.request(method, path, body=data, headers=headers)
        answer = client.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        client.close()


def _ready(process: "subprocess.Popen[bytes]", log: Path) -> tuple[int, int]:
    """Wait until it serves; return its ports."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"emulator ready"' in line:
                said = json.loads(line)
                return said["port"], said["admin_port"]
        time.sleep(0.02)
    raise AssertionError(f"the emulator did not come up: {log.read_text()}")


@contextmanager
def emulator(directory: Path | None = None, **settings: Any) -> Iterator[EmulatorWorld]:
    """Run an emulator; everything of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="execpool-emulator-") as name:
        place = directory or Path(name)
        ledger, log = place / "ledger.jsonl", place / "log"
        chosen = {**SETTINGS, "ledger": ledger, **settings}
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)} | {
            f"EXECPOOL_EMULATOR_{setting.upper()}": str(value) for setting, value in chosen.items()
        }
        with log.open("wb") as output:
            command = [sys.executable, "-m", "execpool.emulator.main"]
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            yield EmulatorWorld(process, *_ready(process, log), ledger)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)
        assert '"level": "error"' not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def shared() -> Iterator[EmulatorWorld]:
    """One emulator for the tests of a file."""
    with emulator() as world:
        yield world


@pytest.fixture
def world(shared: EmulatorWorld) -> Iterator[EmulatorWorld]:
    """That emulator without sandboxes and faults."""
    yield shared
    shared.clear()


@contextmanager
def later(seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Do something in a while, beside what is inside; it is done afterwards."""
    timer = threading.Timer(seconds, act)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
