"""One task per pool: started by the first nudge, woken by later ones, ended when its pool is gone.

A nudge says "look again", never what happened, so any number of them collapse into one pass. A pass starts at once when
the last one ended more than 50 ms ago; a storm of pod events costs at most twenty passes a second.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from execpool.controller.pools import PoolRef
from execpool.controller.reconcile import PassFailedError, Reconciler, pass_safely
from execpool.kube.errors import FencedError

log = logging.getLogger(__name__)

DEBOUNCE_SECONDS = 0.05


@dataclass
class _Running:
    ref: PoolRef
    nudged: asyncio.Event
    task: asyncio.Task[None]


@dataclass
class PoolTasks:
    """The tasks of one term of leadership.

    `on_fenced` is called when a write was refused because the Lease has run out.
    """

    reconciler: Reconciler
    on_fenced: Callable[[], None]
    closing: bool = False
    _running: dict[str, _Running] = field(default_factory=dict)

    def nudge(self, ref: PoolRef) -> bool:
        """Look at a pool soon; return True when no task knew it yet."""
        if self.closing:
            return False
        known = self._running.get(ref.uid)
        if known is not None:
            known.nudged.set()
            return False
        nudged = asyncio.Event()
        task = asyncio.create_task(self._follow(ref, nudged), name=f"pool {ref.key}")
        self._running[ref.uid] = _Running(ref, nudged, task)
        return True

    def nudge_uid(self, uid: str) -> None:
        """Look at a pool soon, if a task follows it."""
        known = self._running.get(uid)
        if known is not None:
            known.nudged.set()

    def nudge_key(self, keys: Iterable[str]) -> None:
        """Look soon at the pools with these `namespace/name`."""
        wanted = set(keys)
        for running in self._running.values():
            if running.ref.key in wanted:
                running.nudged.set()

    def uids(self) -> frozenset[str]:
        """Return the UIDs of the pools that are followed."""
        return frozenset(self._running)

    async def close(self) -> None:
        """End all tasks; each may finish the request it is in, but starts no other."""
        self.closing = True
        tasks = [running.task for running in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, ref: PoolRef, nudged: asyncio.Event) -> None:
        try:
            await follow(lambda: self.reconciler.reconcile(ref), ref.key, nudged)
        except FencedError:
            self.on_fenced()
        finally:
            self._running.pop(ref.uid, None)


async def follow(work: Callable[[], Awaitable[float | None]], what: str, nudged: asyncio.Event) -> None:
    """Make passes until one says that its subject is gone: when due, or when nudged. Raises FencedError."""
    failures = 0
    while True:
        nudged.clear()
        try:
            due = await pass_safely(work, what, failures)
            failures = 0
        except PassFailedError as error:
            due, failures = error.retry_after, failures + 1
        if due is None:
            return
        pause = min(DEBOUNCE_SECONDS, due)
        await asyncio.sleep(pause)
        await _wait(nudged, due - pause)


async def _wait(nudged: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await nudged.wait()
    except TimeoutError:
        return
