"""An API server in memory: resourceVersions, UIDs, preconditions, watches, finalizers. What `execpool dev` has for a cluster.

It keeps the rules that our code leans on and no others: optimistic locking, 409 for a taken name, UID preconditions on
delete, `metadata.generation` on spec changes, deletion that waits for finalizers and, of a pod, for its node, status as a
subresource, label selectors of the form `a=b,c`. It has no schema, no admission and no controllers. What it forgets, it
says: a watch from before the last `most_history` changes gets a 410, as from the real one.

`fake.FakeKube` is this with faults and a record of calls, so that every component test tries these rules too.
"""

import asyncio
import copy
import itertools
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from execpool.kube.client import EventType, Listing, Object, WatchEvent
from execpool.kube.errors import ConflictError, GoneError, InvalidError, NotFoundError
from execpool.kube.kinds import PODS, Kind

Key = tuple[str, str, str]
"""plural, namespace ("" for cluster-wide), name."""
Change = tuple[int, str, str, WatchEvent]
"""Its version; plural and namespace of what changed."""


@dataclass(frozen=True)
class Call:
    """One request."""

    verb: str
    plural: str
    namespace: str
    name: str
    body: Any = None

    @property
    def writes(self) -> bool:
        """True for everything but reads."""
        return self.verb not in ("get", "list", "watch")


@dataclass
class MemoryKube:
    """Keeps objects as `KubeClient` finds them.

    Attributes:
        now: UNIX seconds.
        draw_uid: returns the UID of a new object.
        most_history: changes that are kept for watches.
    """

    now: Callable[[], float] = time.time
    draw_uid: Callable[[], str] = lambda: str(uuid.uuid4())
    most_history: int = 1000
    _objects: dict[Key, Object] = field(default_factory=dict)
    _history: deque[Change] = field(default_factory=deque)
    _versions: Any = field(default_factory=lambda: itertools.count(1))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _oldest: int = 0

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        call = self._begin("get", kind, namespace, name)
        found = copy.deepcopy(self._find(call))
        self._end(call)
        return found

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> Listing:
        call = self._begin("list", kind, namespace, "", labels)
        items = self.peek(kind, namespace, labels=labels)
        self._end(call)
        return Listing(items, str(self._version()))

    async def create(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        name = body["metadata"]["name"]
        call = self._begin("create", kind, namespace, name, body)
        key = (kind.plural, namespace or "", name)
        if key in self._objects:
            raise ConflictError(409, "AlreadyExists", f'{kind.plural} "{name}" already exists')
        item = copy.deepcopy({"apiVersion": kind.api_version, "kind": kind.kind, **body})
        item["metadata"] |= {"uid": self.draw_uid(), "namespace": namespace or "", "generation": 1}
        item["metadata"].setdefault("creationTimestamp", self._timestamp())
        await self._change(EventType.ADDED, key, item)
        self._end(call)
        return copy.deepcopy(item)

    async def patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Object | Sequence[Object], *, subresource: str = ""
    ) -> Object:
        call = self._begin("patch", kind, namespace, name, patch)
        current = self._find(call)
        changed = _merged(current, patch) if isinstance(patch, dict) else _patched(current, patch)
        if changed["metadata"].get("resourceVersion") != current["metadata"]["resourceVersion"]:
            raise ConflictError(409, "Conflict", f'{kind.plural} "{name}": the object has been modified')
        # A write to /status keeps everything else, and a write to the object keeps the status, as with the real one.
        kept = {"status"} if subresource != "status" else current.keys() - {"status"}
        changed |= {part: copy.deepcopy(current[part]) for part in kept if part in current}
        if changed.get("spec") != current.get("spec"):
            changed["metadata"]["generation"] += 1
        key = (kind.plural, namespace or "", name)
        if changed["metadata"].get("deletionTimestamp") and not changed["metadata"].get("finalizers"):
            await self._change(EventType.DELETED, key, changed)
        elif changed != current:
            await self._change(EventType.MODIFIED, key, changed)
        self._end(call)
        return copy.deepcopy(changed)

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str, grace_seconds: int | None = None
    ) -> None:
        call = self._begin("delete", kind, namespace, name, {"uid": uid, "grace": grace_seconds})
        item = self._find(call)
        if item["metadata"]["uid"] != uid:
            raise ConflictError(409, "Conflict", "Precondition failed: UID in precondition differs")
        key = (kind.plural, namespace or "", name)
        # A pod that runs goes when its node says that it has ended, which is a deletion without grace.
        runs = kind.plural == PODS.plural and item.get("spec", {}).get("nodeName") and grace_seconds != 0
        if item["metadata"].get("finalizers") or runs:
            marked = copy.deepcopy(item)
            marked["metadata"].setdefault("deletionTimestamp", self._timestamp())
            if marked != item:  # a deletion that is asked for again changes nothing
                await self._change(EventType.MODIFIED, key, marked)
        else:
            await self._change(EventType.DELETED, key, item)
        self._end(call)

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        call = self._begin("watch", kind, namespace, "", labels)
        seen = int(resource_version)
        while True:
            if seen >= self._oldest:
                await self._wait_past(seen)
            if seen < self._oldest:
                raise GoneError(410, "Expired", "too old resource version")
            for version, plural, where, event in self._since(seen):
                seen = version
                if plural == call.plural and namespace in (None, where) and _matches(event.object, labels):
                    yield copy.deepcopy(event)

    def put(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Arrange an object without a request. Keeps what `body` says, status included."""
        key = (kind.plural, namespace or "", body["metadata"]["name"])
        item = copy.deepcopy({"apiVersion": kind.api_version, "kind": kind.kind, **body})
        known = self._objects.get(key)
        uid = known["metadata"]["uid"] if known else self.draw_uid()
        item["metadata"] = {
            "uid": uid,
            "namespace": namespace or "",
            "generation": 1,
            "creationTimestamp": self._timestamp(),
        } | item["metadata"]
        self._record(EventType.MODIFIED if known else EventType.ADDED, key, item)
        return copy.deepcopy(item)

    def drop(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Remove an object without a request, whatever its finalizers."""
        key = (kind.plural, namespace or "", name)
        self._record(EventType.DELETED, key, self._objects[key])

    def peek(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> tuple[Object, ...]:
        """Return the objects of a kind without a request."""
        return tuple(
            copy.deepcopy(item)
            for (plural, where, _), item in sorted(self._objects.items())
            if plural == kind.plural and (namespace is None or where == namespace) and _matches(item, labels)
        )

    async def notify(self) -> None:
        """Wake the watches after `put` or `drop`."""
        async with self._changed:
            self._changed.notify_all()

    async def _wait_past(self, version: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._version() > version)

    def _begin(self, verb: str, kind: Kind, namespace: str | None, name: str, body: Any = None) -> Call:
        """Begin a request, which has had no effect yet."""
        return Call(verb, kind.plural, namespace or "", name, body)

    def _end(self, call: Call) -> None:
        """End a request, which has had its effect."""

    def _since(self, version: int) -> Sequence[Change]:
        newer = itertools.takewhile(lambda change: change[0] > version, reversed(self._history))
        return tuple(newer)[::-1]

    def _timestamp(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _find(self, call: Call) -> Object:
        try:
            return self._objects[(call.plural, call.namespace, call.name)]
        except KeyError:
            raise NotFoundError(404, "NotFound", f'{call.plural} "{call.name}" not found') from None

    def _version(self) -> int:
        return self._history[-1][0] if self._history else 0

    async def _change(self, type_: EventType, key: Key, item: Object) -> None:
        self._record(type_, key, item)
        await self.notify()

    def _record(self, type_: EventType, key: Key, item: Object) -> None:
        version = next(self._versions)
        item["metadata"]["resourceVersion"] = str(version)
        if type_ is EventType.DELETED:
            self._objects.pop(key, None)
        else:
            self._objects[key] = item
        self._history.append((version, key[0], key[1], WatchEvent(type_, copy.deepcopy(item))))
        while len(self._history) > self.most_history:
            self._oldest = self._history.popleft()[0]


def _matches(item: Object, selector: str) -> bool:
    labels = item["metadata"].get("labels") or {}
    terms = [term.partition("=") for term in selector.split(",") if term]
    return all(labels.get(key) == value if equals else key in labels for key, equals, value in terms)


def _merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _merged(result.get(name), value)
    return result


def _patched(target: Object, operations: Sequence[Object]) -> Object:
    """Apply the JSON patch operations that we use: test, add, replace and remove on object members (RFC 6902)."""
    result = copy.deepcopy(target)
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = result
        for part in parents:
            place = place[part]
        if operation["op"] == "test":
            if place.get(last) != operation["value"]:
                raise InvalidError(422, "Invalid", f"test failed on {operation['path']}")
        elif operation["op"] == "remove":
            place.pop(last)
        else:
            place[last] = copy.deepcopy(operation["value"])
    return result
