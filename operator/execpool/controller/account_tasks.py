"""One task per E2B account, as `tasks` has them for pools: nudges say "look again", never what happened.

An account is followed by its name, since records name it so: those of an account that is gone still want an end.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from execpool.controller.accounts import AccountRounds
from execpool.controller.tasks import follow
from execpool.kube.client import Object
from execpool.kube.errors import FencedError
from execpool.providers.e2b.records import AccountName


@dataclass
class _Running:
    nudged: asyncio.Event
    task: asyncio.Task[None]


@dataclass
class AccountTasks:
    """The tasks of one term of leadership. `on_fenced` is called when a write was refused because the Lease has run out."""

    rounds: AccountRounds
    on_fenced: Callable[[], None]
    closing: bool = False
    _running: dict[AccountName, _Running] = field(default_factory=dict)

    def nudge(self, name: AccountName) -> None:
        """Look at an account soon."""
        if self.closing:
            return
        known = self._running.get(name)
        if known is not None:
            known.nudged.set()
            return
        nudged = asyncio.Event()
        self._running[name] = _Running(
            nudged, asyncio.create_task(self._follow(name, nudged), name=f"account {name.key}")
        )

    def nudge_account_of(self, record: Object) -> None:
        """Look soon at the account that a record, as it came from the API server, draws on."""
        ref = (record.get("spec") or {}).get("account") or {}
        if ref.get("name"):
            self.nudge(AccountName(ref.get("namespace") or record["metadata"]["namespace"], ref["name"]))

    async def close(self) -> None:
        """End all tasks, and what is under way for them."""
        self.closing = True
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.rounds.close()

    async def _follow(self, name: AccountName, nudged: asyncio.Event) -> None:
        try:
            await follow(lambda: self.rounds.attend(name), name.key, nudged)
        except FencedError:
            self.on_fenced()
        finally:
            self._running.pop(name, None)
