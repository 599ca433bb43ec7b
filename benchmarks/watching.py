"""When something was seen to happen: a watch whose every event is kept with the moment of its arrival here."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from benchmarks.figures import BenchmarkError
from execpool.kube.client import EventType, KubeClient, Object
from execpool.kube.kinds import Kind

SETTLE_SECONDS = 0.1
"""Time for the watch to be connected, so that this is no part of what is measured."""


@dataclass(frozen=True)
class Seen:
    """One event. `at` is of `time.perf_counter`."""

    at: float
    type: EventType
    object: Object

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.object["metadata"]["name"])

    @property
    def is_new(self) -> bool:
        """True for the first event of an object."""
        return self.type is EventType.ADDED

    @property
    def is_ending(self) -> bool:
        """True once the object has been deleted, or is being."""
        return self.type is EventType.DELETED or bool(self.object["metadata"].get("deletionTimestamp"))


class Watch:
    """Follows a collection. What was there at the start counts as added then."""

    def __init__(self, kube: KubeClient, kind: Kind, namespace: str, *, labels: str = "") -> None:
        self.seen: list[Seen] = []
        self._kube = kube
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        listing = await self._kube.list(self._kind, self._namespace, labels=self._labels)
        for item in listing.items:
            self._note(EventType.ADDED, item)
        self._task = asyncio.create_task(self._follow(listing.resource_version))
        await asyncio.sleep(SETTLE_SECONDS)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, wanted: Callable[[Seen], bool], what: str, seconds: float = 30.0, *, start: int = 0) -> Seen:
        """Return the first event that is wanted, from the `start`-th on.

        Raises:
            BenchmarkError: none came in time.
        """
        position = start
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for seen in self.seen[position:]:
                        position += 1
                        if wanted(seen):
                            return seen
                    await self._more(position)
        except TimeoutError:
            raise BenchmarkError(f"not seen within {seconds:.0f} s: {what}") from None

    async def until_empty(self, what: str, seconds: float = 30.0, *, prefix: str = "") -> None:
        """Wait until nothing of the collection (with a name that starts so) is left."""
        left: set[str] = set()

        def is_empty(seen: Seen) -> bool:
            (left.discard if seen.type is EventType.DELETED else left.add)(seen.name)
            return not any(name.startswith(prefix) for name in left)

        if any(seen.name.startswith(prefix) for seen in self.seen):
            present = len(self.seen)
            for seen in self.seen[:present]:
                is_empty(seen)
            if any(name.startswith(prefix) for name in left):
                await self.until(is_empty, what, seconds, start=present)

    async def _more(self, known: int) -> None:
        while len(self.seen) == known:
            self._news.clear()
            await self._news.wait()

    async def _follow(self, version: str) -> None:
        stream = self._kube.watch(self._kind, self._namespace, labels=self._labels, resource_version=version)
        async for event in stream:
            if event.type is not EventType.BOOKMARK:
                self._note(event.type, event.object)

    def _note(self, type_: EventType, wire: Object) -> None:
        self.seen.append(Seen(time.perf_counter(), type_, wire))
        self._news.set()
