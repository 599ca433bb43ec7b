"""A local copy of a collection, kept by list and watch, for readers that must not wait for the API server.

After a 410, or when a watch ends in an error, it lists again and reports what vanished meanwhile as deleted: the
copy never keeps ghosts. While the API server is away the last copy stays readable (static stability, DESIGN rule 8).
"""

import asyncio
import logging
from collections.abc import Callable

from execpool.core.backoff import backoff
from execpool.kube.client import EventType, Kube, Object, WatchEvent
from execpool.kube.errors import GoneError, KubeError
from execpool.kube.kinds import Kind

log = logging.getLogger(__name__)

MOST_PAUSE = 5.0

OnChange = Callable[[EventType, Object], None]


class Reflector:
    """Keeps `objects` (by UID) equal to a collection of the API server.

    After an error it waits `pause` seconds, doubled each time up to 5 s. `on_change` is called in the reflector's task for every object added, modified or deleted, never for bookmarks.
    """

    def __init__(
        self,
        kube: Kube,
        kind: Kind,
        *,
        namespace: str | None,
        labels: str = "",
        on_change: OnChange,
        pause: float = 0.1,
    ) -> None:
        self.objects: dict[str, Object] = {}
        self.synced = asyncio.Event()
        """Set once the first list has been read."""
        self._kube = kube
        self._kind = kind
        self._namespace = namespace
        self._labels = labels
        self._on_change = on_change
        self._pause = pause

    async def run(self) -> None:
        """Follow the collection until cancelled; errors are waited out."""
        failures = 0
        version = ""
        while True:
            try:
                version = version or await self._list()
                failures = 0
                version = await self._watch(version)
            except GoneError:
                version = ""
            except KubeError as error:
                log.warning("watch interrupted", extra={"plural": self._kind.plural, "error": str(error)})
                version = ""
                await asyncio.sleep(backoff(failures, self._pause, MOST_PAUSE))
                failures += 1

    async def _list(self) -> str:
        listing = await self._kube.list(self._kind, self._namespace, labels=self._labels)
        found = {item["metadata"]["uid"]: item for item in listing.items}
        for uid in self.objects.keys() - found.keys():
            self._apply(WatchEvent(EventType.DELETED, self.objects[uid]))
        for uid, item in found.items():
            known = self.objects.get(uid)
            if known is None or known["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                self._apply(WatchEvent(EventType.ADDED if known is None else EventType.MODIFIED, item))
        self.synced.set()
        return listing.resource_version

    async def _watch(self, version: str) -> str:
        stream = self._kube.watch(self._kind, self._namespace, labels=self._labels, resource_version=version)
        async for event in stream:
            version = event.object["metadata"]["resourceVersion"]
            if event.type is not EventType.BOOKMARK:
                self._apply(event)
        return version

    def _apply(self, event: WatchEvent) -> None:
        uid = event.object["metadata"]["uid"]
        if event.type is EventType.DELETED:
            self.objects.pop(uid, None)
        else:
            self.objects[uid] = event.object
        self._on_change(event.type, event.object)
