"""Keeps processes: one emulator for as long as a world lasts, and an operator that is started again whenever it ends."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from tests.campaigns.lives import EmulatorLife, OperatorLife
from tests.campaigns.pace import Pace
from tests.campaigns.plans import Death

ROOT_KEY = "0a" * 32
HURRIED_LEASE = {"EXECPOOL_LEASE_SECONDS": "150", "EXECPOOL_RENEW_SECONDS": "20"}
"""Who leads is not what these campaigns are about, and a busy machine must not depose a process that waits its turn."""


@asynccontextmanager
async def emulator(pace: Pace, directory: Path, settings: Mapping[str, Any]) -> AsyncIterator[tuple[str, str]]:
    """Run an emulator; yield the addresses of its API and of its admin API."""
    chosen = {**settings, "ledger": directory / "ledger.jsonl"}
    process, ready = EmulatorLife(pace, directory / "emulator.log", chosen).start()
    try:
        port, admin_port = await asyncio.to_thread(ready.recv)
        yield f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin_port}"
    finally:
        ready.close()
        process.terminate()
        await asyncio.to_thread(process.join)


@dataclass
class Operators:
    """One operator after another.

    Attributes:
        lives: how many there were.
        died: how many of them by SIGKILL.
    """

    pace: Pace
    directory: Path
    deaths: Sequence[Death]
    bug: str
    account_url: str
    lives: int = 0
    died: int = 0
    _process: ForkServerProcess | None = field(default=None, repr=False)

    @asynccontextmanager
    async def kept(self, url: str) -> AsyncIterator[None]:
        """Keep one running against an API server."""
        keeper = asyncio.create_task(self._keep(self._environment(url)))
        try:
            yield
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            if self._process is not None:
                self._process.kill()
                await asyncio.to_thread(self._process.join)

    def kill(self) -> None:
        """SIGKILL, from outside."""
        if self._process is not None:
            self._process.kill()

    async def _keep(self, environment: Mapping[str, str]) -> None:
        while True:
            death = self.deaths[self.lives] if self.lives < len(self.deaths) else None
            self._process = OperatorLife(
                number=self.lives,
                pace=self.pace,
                log=self.directory / "operator.log",
                requests=self.directory / "requests.jsonl",
                environment=environment,
                death=death,
                bug=self.bug,
            ).start()
            self.lives += 1
            await _ended(self._process)
            self.died += self._process.exitcode == -9

    def _environment(self, url: str) -> dict[str, str]:
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        config = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster]}
        config |= {"contexts": [context], "users": [{"name": "u", "user": {"token": "none"}}]}
        (self.directory / "kubeconfig").write_text(json.dumps(config))
        (self.directory / "current").write_text(ROOT_KEY)
        return {
            "EXECPOOL_KUBECONFIG": str(self.directory / "kubeconfig"),
            "EXECPOOL_ROOT_KEY_DIR": str(self.directory),
            "EXECPOOL_E2B_ENDPOINTS": self.account_url,
            "EXECPOOL_HOST": "127.0.0.1",
            "EXECPOOL_HEALTH_PORT": "0",
            **(HURRIED_LEASE if self.pace.scale > 1 else {}),
        }


async def _ended(process: ForkServerProcess) -> None:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(process.sentinel, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(process.sentinel)
    process.join()
