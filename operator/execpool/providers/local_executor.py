"""One executor of this machine: its two processes from their start to their end."""

import asyncio
import secrets
import shutil
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Self

from execpool.core.backoff import backoff
from execpool.protocol import CONTROL_PORT, HOME_DIR, secret_hash
from execpool.providers import process_tree
from execpool.providers.nursery_link import NotStartedError, NurseryLink, Program

_POLL_SECONDS = 0.01
_END_SECONDS = 5.0
_LOG_TAIL_BYTES = 2000
_RUNNER_STARTS = 5
"""A runner that ends this often without having been ready in between takes the executor with it."""


@dataclass(frozen=True)
class Identity:
    """Who an executor is, and what claims it: of the secret, it is told the hash alone."""

    executor_id: str
    uid: str
    secret_hash: str
    secret: str = field(default="", repr=False)
    """Known to whoever has drawn it; a pool's owner derives it instead."""

    @classmethod
    def drawn(cls) -> Self:
        """Draw one at random."""
        secret = secrets.token_urlsafe(32)
        return cls(secrets.token_hex(16), str(uuid.uuid4()), secret_hash(secret), secret)


@dataclass(frozen=True)
class Places:
    """Directories of one executor."""

    root: Path
    socket: Path
    state: Path
    work: Path
    """Where every run gets a directory of its own."""
    tmp: Path
    shm: Path
    home: Path
    log: Path

    @classmethod
    def make(cls, root: Path) -> Self:
        """Make them below a directory that exists."""
        places = cls(root, **{place.name: root / place.name for place in fields(cls) if place.name != "root"})
        for directory in (places.socket, places.state, places.work, places.tmp, places.shm, places.home):
            directory.mkdir(mode=0o700)
        return places

    def mounts(self) -> dict[str, str]:
        """Return where programs see these directories, as in a pod: {place: directory}."""
        return {"/tmp": str(self.tmp), "/dev/shm": str(self.shm), HOME_DIR: str(self.home)}  # noqa: S108 - its own

    def furnish(self) -> None:
        """Let commands find this Python: they run in login shells, whose profile makes its own PATH. A runner wipes it."""
        directory = Path(sys.executable).parent
        (self.home / ".profile").write_text(f'PATH="{directory}:$PATH"\n', encoding="utf-8")

    def last_words(self) -> str:
        """Return the end of the log."""
        with suppress(OSError):
            return self.log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        return ""


class LocalExecutor:
    """A server and a runner.

    Attributes:
        identity: who it is; its secret claims it.
        address: where the server listens, on the protocol's ports.
        died: done once the server has ended, whoever ended it, with its exit status (negative for a signal).
    """

    def __init__(
        self,
        nursery: NurseryLink,
        identity: Identity,
        address: str,
        places: Places,
        *,
        server: Program,
        runner: Program,
    ) -> None:
        self.identity = identity
        self.address = address
        self.places = places
        self.died: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._nursery = nursery
        self._born = time.monotonic()
        self._programs = server, runner
        self._server = self._runner = 0
        self._runner_ended = asyncio.Event()
        self._runner_starts = 0
        self._restart: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._is_ending = False

    async def start(self, seconds: float) -> None:
        """Start both processes and wait until the executor can be claimed.

        Raises:
            NotStartedError: it did not come up in time.
        """
        self._server = await self._nursery.spawn(self._programs[0], self._server_ended)
        await self._start_runner()
        try:
            async with asyncio.timeout(seconds):
                await self._until_ready()
        except TimeoutError:
            raise NotStartedError(f"an executor was not ready in time: {self.places.last_words()}") from None

    async def freeze(self) -> None:
        """Stop everything that runs in it; connections to it stay open and unanswered."""
        await asyncio.to_thread(process_tree.freeze, self._roots())

    async def thaw(self) -> None:
        """Let it go on where it was stopped."""
        await asyncio.to_thread(process_tree.thaw, self._roots())

    async def is_ready(self) -> bool:
        """Ask whether it can run code, as the kubelet does; not while its runner is being started again."""
        return await _is_ready(self.address)

    def pids(self) -> list[int]:
        """Return its processes: the server and the runner first."""
        return process_tree.members(self._roots())

    def usage(self) -> process_tree.Usage:
        """Measure what it uses now."""
        return process_tree.usage(self._roots(), process_tree.memory_bytes(self._nursery.pid))

    def age_seconds(self) -> float:
        """Return how long it exists."""
        return time.monotonic() - self._born

    async def end(self) -> None:
        """End it at once, with all that runs in it, and remove its directory."""
        self._is_ending = True
        if self._restart is not None:
            self._restart.cancel()
        killed = await asyncio.to_thread(process_tree.end, self._roots())
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._all_ended(killed)
        if not self.died.done():
            self.died.set_result(0)
        await asyncio.to_thread(shutil.rmtree, self.places.root, ignore_errors=True)

    async def _all_ended(self, killed: list[int]) -> None:
        while not process_tree.are_over(killed):  # noqa: ASYNC110 - nobody tells of the ends of grandchildren
            await asyncio.sleep(_POLL_SECONDS)
        if self._server:
            await asyncio.shield(self.died)
        if self._runner:
            await self._runner_ended.wait()

    def _roots(self) -> list[int]:
        return [pid for pid in (self._server, self._runner) if pid]

    async def _start_runner(self) -> None:
        self._runner_starts += 1
        self._runner_ended.clear()
        self._runner = await self._nursery.spawn(self._programs[1], self._runner_has_ended)

    def _server_ended(self, status: int) -> None:
        self._server = 0
        if not self.died.done():
            self.died.set_result(status)
        if not self._is_ending:
            self._ending = asyncio.get_running_loop().create_task(self.end())

    def _runner_has_ended(self, status: int) -> None:
        self._runner = 0
        self._runner_ended.set()
        if status != 0 and not self._is_ending:
            if self._restart is not None:
                self._restart.cancel()
            self._restart = asyncio.get_running_loop().create_task(self._restart_runner())

    async def _restart_runner(self) -> None:
        """Start a runner again, as the kubelet does, unless that has not helped before."""
        if self._runner_starts >= _RUNNER_STARTS:
            self._ending = asyncio.get_running_loop().create_task(self.end())
            return
        await asyncio.sleep(backoff(self._runner_starts - 1, 0.1, 5.0))
        with suppress(NotStartedError):
            await self._start_runner()
            await self._until_ready()
            self._runner_starts = 0

    async def _until_ready(self) -> None:
        while not await _is_ready(self.address):
            if self.died.done():
                raise NotStartedError(f"an executor ended at its start: {self.places.last_words()}")
            await asyncio.sleep(_POLL_SECONDS)
        self.places.furnish()


async def _is_ready(address: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection(address, CONTROL_PORT)
    except OSError:
        return False
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: executor\r\nConnection: close\r\n\r\n")
        return b" 200 " in await reader.readline()
    except ConnectionError:
        return False
    finally:
        writer.close()
