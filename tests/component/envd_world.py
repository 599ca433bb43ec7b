"""Envd for component tests: the real server application and the real agent as a process of its own, without a runner.

    with envd() as world:
        sandbox = world.sandbox()            # the real SDK of E2B, against it
        status, body = world.request("GET", "/files", path="a.txt")

The agent has no filter and no fence here (`test_envd_executor.py` has the whole executor). Everything is in a directory
of its own, which is the home of the commands.
"""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from e2b import AsyncSandbox, Sandbox
from e2b.connection_config import ConnectionConfig
from packaging.version import Version

from execpool.executor.server.claim import Ownership
from execpool.executor.server.envd.app import ENVD_VERSION, Envd
from execpool.serving import bounded

SOURCE = Path(__file__).resolve().parents[2] / "operator"
TOKEN = "token-of-the-claim"
SYSTEM_PYTHON = "/usr/bin/python3"
"""For an agent of another user, who may not be able to reach ours."""
SERVE = "import sys; from execpool.executor.runner import agent; {prelude}; agent.serve(int(sys.argv[1]))"


def connection(url: str, token: str) -> ConnectionConfig:
    headers = {"E2b-Sandbox-Id": "test", "E2b-Sandbox-Port": "49983", "X-Access-Token": token}
    return ConnectionConfig(sandbox_url=url, api_key="e2b_00", extra_sandbox_headers=headers)


def known_to_the_sdk(url: str, token: str) -> dict[str, Any]:
    """What `create` would have told the SDK."""
    return {
        "sandbox_id": "test",
        "sandbox_domain": None,
        "envd_version": Version(ENVD_VERSION),
        "envd_access_token": token,
        "traffic_access_token": None,
        "connection_config": connection(url, token),
    }


@dataclass
class World:
    """A running envd."""

    home: Path
    prelude: str = "pass"
    """What the agent's process does first: a test lowers a limit, rather than reach it."""
    user: int | None = None
    """Whom the agent runs as, where the test is root; the server keeps its own user, as in a pod."""
    url: str = ""
    ownership: Ownership = field(default_factory=lambda: claimed())  # noqa: PLW0108 - it comes below
    agents: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    envd: Envd | None = None
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def sandbox(self) -> Sandbox:
        return Sandbox(**known_to_the_sdk(self.url, TOKEN))

    def async_sandbox(self) -> AsyncSandbox:
        return AsyncSandbox(**known_to_the_sdk(self.url, TOKEN))

    def start_agent(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": str(SOURCE), "LANG": "C.UTF-8"}
        with theirs:
            self.agents.append(
                subprocess.Popen(
                    [
                        sys.executable if self.user is None else SYSTEM_PYTHON,
                        "-c",
                        SERVE.format(prelude=self.prelude),
                        str(theirs.fileno()),
                    ],
                    pass_fds=[theirs.fileno()],
                    env=environment,
                    cwd=self.home,
                    user=self.user,
                )
            )
        return ours

    def request(
        self, method: str, where: str, /, body: bytes | None = None, headers: dict[str, str] | None = None, **query: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """One plain request with the token."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            target = f"{where}?{urlencode(query)}" if query else where
            client.request(method, target, body=body, headers={"X-Access-Token": TOKEN, **(headers or {})})
            answer = client.getresponse()
            return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            client.close()

    def open(self, method: str, target: str, body: bytes = b"", kind: str = "", length: int = -1) -> socket.socket:
        """A connection on which a request has been sent, with as much of its body as there is here."""
        client = socket.create_connection(("127.0.0.1", self.port))
        client.settimeout(20)
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\nContent-Type: {kind}\r\n"
        size = len(body) if length < 0 else length
        client.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode() + body)
        return client

    def becomes(self, *, idle: bool, seconds: float = 5.0) -> bool:
        """True when no call is in progress, or one is, within a time."""
        end = time.monotonic() + seconds
        while self.is_idle is not idle and time.monotonic() < end:
            time.sleep(0.01)
        return self.is_idle is idle

    def stays_busy(self, seconds: float = 0.3) -> bool:
        """True when a call begins, and goes on for a time."""
        return self.becomes(idle=False) and not self.becomes(idle=True, seconds=seconds)

    @property
    def is_idle(self) -> bool:
        """True when no call is in progress."""
        return self.ownership.ends_at() is not None

    @contextmanager
    def stopped_agent(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The agent, stopped as a command can do it; it goes on afterwards."""
        assert self.call("filesystem.Filesystem/Stat", {"path": "."})[0] == 200
        agent = self.agents[-1]
        agent.send_signal(signal.SIGSTOP)
        try:
            yield agent
        finally:
            agent.send_signal(signal.SIGCONT)

    def call(self, method: str, message: object, **headers: str) -> tuple[int, dict[str, Any]]:
        """One unary Connect call."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        status, answer, _ = self.request("POST", f"/{method}", body, {"Content-Type": "application/json", **headers})
        return status, json.loads(answer or b"{}")

    def stream(self, method: str, *envelopes: bytes, **headers: str) -> tuple[int, bytes]:
        """One streaming Connect call; returns the status and the whole stream."""
        kind = {"Content-Type": "application/connect+json", **headers}
        status, answer, _ = self.request("POST", f"/{method}", b"".join(envelopes), kind)
        return status, answer


def claimed() -> Ownership:
    ownership = Ownership(slots=1, idle_seconds=600, max_age_seconds=600, now=time.monotonic())
    ownership.claim("alice", token=TOKEN, now=time.monotonic())
    return ownership


def envelope(message: object, flags: int = 0) -> bytes:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return bytes([flags]) + len(body).to_bytes(4, "big") + body


def messages(stream: bytes) -> list[tuple[int, dict[str, Any]]]:
    """The (flags, message) pairs of a stream."""
    found = []
    while stream:
        length = int.from_bytes(stream[1:5], "big")
        found.append((stream[0], json.loads(stream[5 : 5 + length])))
        stream = stream[5 + length :]
    return found


@contextmanager
def envd(ownership: Ownership | None = None, prelude: str = "pass", user: int | None = None) -> Iterator[World]:
    """Serve envd in a thread; everything of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="envd-test-") as name:
        world = World(Path(name).resolve(), prelude, user)
        if user is not None:
            os.chown(world.home, user, user)
        if ownership is not None:
            world.ownership = ownership
        ready, server = threading.Event(), _server(world)
        thread = threading.Thread(target=lambda: asyncio.run(_serve(world, server, ready)))
        thread.start()
        assert ready.wait(20)
        try:
            yield world
        finally:
            server.should_exit = True
            thread.join(20)
            for agent in world.agents:
                agent.wait(20)
        assert not thread.is_alive()


def _server(world: World) -> uvicorn.Server:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert world.envd is not None
        await world.envd(scope, receive, send)

    options: dict[str, Any] = {"log_config": None, "access_log": False, "lifespan": "off", "http": bounded(512)}
    return uvicorn.Server(uvicorn.Config(application, timeout_graceful_shutdown=1, **options))


async def _serve(world: World, server: uvicorn.Server, ready: threading.Event) -> None:
    # asyncio sends small answers at once only on sockets that say that they are TCP, which create_server's do not.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    world.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    world.envd = Envd(world.ownership, world.start_agent, lambda: None)
    world.loop = asyncio.get_running_loop()
    serving = asyncio.create_task(server.serve([listener]))
    ready.set()
    await serving
    world.envd.close()
