"""An API server in memory, for component tests: resourceVersions, UIDs, preconditions, watches, finalizers, faults.

It keeps the rules that our code leans on and no others: optimistic locking, 409 for a taken name, UID preconditions on
delete, `metadata.generation` on spec changes, deletion that waits for finalizers, status as a subresource, label
selectors of the form `a=b,c`. It has no schema, no admission and no controllers; `tests/cluster` has the real ones.
"""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from execpool.kube.client import EventType, Listing, Object, WatchEvent
from execpool.kube.errors import ConflictError, GoneError, InvalidError, NotFoundError
from execpool.kube.kinds import Kind

Key = tuple[str, str, str]
"""plural, namespace ("" for cluster-wide), name."""


@dataclass(frozen=True)
class Call:
    """One request as a fault or a test sees it."""

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
class FakeKube:
    """The double of `KubeClient`.

    Attributes:
        calls: every request so far, in order.
        before: called with each request before it has its effect; raise to refuse it.
        after: called with each request after its effect; raise to lose the answer of a write that happened.
    """

    calls: list[Call] = field(default_factory=list)
    before: Callable[[Call], None] = lambda _call: None
    after: Callable[[Call], None] = lambda _call: None
    _objects: dict[Key, Object] = field(default_factory=dict)
    _history: list[tuple[int, str, str, WatchEvent]] = field(default_factory=list)
    _versions: Any = field(default_factory=lambda: itertools.count(1))
    _uids: Any = field(default_factory=lambda: itertools.count(1))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _oldest: int = 0

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        call = self._begin("get", kind, namespace, name)
        found = copy.deepcopy(self._find(call))
        self.after(call)
        return found

    async def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> Listing:
        call = self._begin("list", kind, namespace, "", labels)
        items = tuple(
            copy.deepcopy(item)
            for (plural, where, _), item in sorted(self._objects.items())
            if plural == kind.plural and (namespace is None or where == namespace) and _matches(item, labels)
        )
        self.after(call)
        return Listing(items, str(self._version()))

    async def create(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        name = body["metadata"]["name"]
        call = self._begin("create", kind, namespace, name, body)
        key = (kind.plural, namespace or "", name)
        if key in self._objects:
            raise ConflictError(409, "AlreadyExists", f'{kind.plural} "{name}" already exists')
        item = copy.deepcopy({"apiVersion": kind.api_version, "kind": kind.kind, **body})
        item["metadata"] |= {"uid": f"uid-{next(self._uids)}", "namespace": namespace or "", "generation": 1}
        item["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        await self._store(EventType.ADDED, key, item)
        self.after(call)
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
            await self._remove(key, changed)
        elif changed != current:
            await self._store(EventType.MODIFIED, key, changed)
        self.after(call)
        return copy.deepcopy(changed)

    async def delete(
        self, kind: Kind, namespace: str | None, name: str, *, uid: str, grace_seconds: int | None = None
    ) -> None:
        call = self._begin("delete", kind, namespace, name, {"uid": uid, "grace": grace_seconds})
        item = self._find(call)
        if item["metadata"]["uid"] != uid:
            raise ConflictError(409, "Conflict", "Precondition failed: UID in precondition differs")
        key = (kind.plural, namespace or "", name)
        if item["metadata"].get("finalizers"):
            marked = copy.deepcopy(item)
            marked["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
            if marked != item:  # a deletion that is asked for again changes nothing
                await self._store(EventType.MODIFIED, key, marked)
        else:
            await self._remove(key, item)
        self.after(call)

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, labels: str = "", resource_version: str
    ) -> AsyncIterator[WatchEvent]:
        call = self._begin("watch", kind, namespace, "", labels)
        seen = int(resource_version)
        if seen < self._oldest:
            raise GoneError(410, "Expired", "too old resource version")
        while True:
            await self._wait_past(seen)
            for version, plural, where, event in list(self._history):
                fits = plural == call.plural and (namespace is None or where == namespace)
                if version > seen and fits and _matches(event.object, labels):
                    yield copy.deepcopy(event)
            seen = self._version()

    def put(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        """Arrange an object without a request: tests set the scene with it. Keeps what `body` says, status included."""
        key = (kind.plural, namespace or "", body["metadata"]["name"])
        item = copy.deepcopy({"apiVersion": kind.api_version, "kind": kind.kind, **body})
        known = self._objects.get(key)
        uid = known["metadata"]["uid"] if known else f"uid-{next(self._uids)}"
        item["metadata"] = {
            "uid": uid,
            "namespace": namespace or "",
            "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        } | item["metadata"]
        self._record(EventType.MODIFIED if known else EventType.ADDED, key, item)
        return copy.deepcopy(item)

    def drop(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Remove an object without a request, whatever its finalizers."""
        key = (kind.plural, namespace or "", name)
        self._record(EventType.DELETED, key, self._objects[key])

    def peek(self, kind: Kind, namespace: str | None = None) -> tuple[Object, ...]:
        """Return the objects of a kind without a request."""
        return tuple(
            copy.deepcopy(item)
            for (plural, where, _), item in sorted(self._objects.items())
            if plural == kind.plural and (namespace is None or where == namespace)
        )

    def writes(self) -> tuple[Call, ...]:
        """Return the requests that changed or tried to change something."""
        return tuple(call for call in self.calls if call.writes)

    async def notify(self) -> None:
        """Wake the watches after `put` or `drop`."""
        async with self._changed:
            self._changed.notify_all()

    async def _wait_past(self, version: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._version() > version)

    def _begin(self, verb: str, kind: Kind, namespace: str | None, name: str, body: Any = None) -> Call:
        call = Call(verb, kind.plural, namespace or "", name, copy.deepcopy(body))
        self.calls.append(call)
        self.before(call)
        return call

    def _find(self, call: Call) -> Object:
        try:
            return self._objects[(call.plural, call.namespace, call.name)]
        except KeyError:
            raise NotFoundError(404, "NotFound", f'{call.plural} "{call.name}" not found') from None

    def _version(self) -> int:
        return self._history[-1][0] if self._history else 0

    async def _store(self, type_: EventType, key: Key, item: Object) -> None:
        self._record(type_, key, item)
        await self.notify()

    async def _remove(self, key: Key, item: Object) -> None:
        self._record(EventType.DELETED, key, item)
        await self.notify()

    def _record(self, type_: EventType, key: Key, item: Object) -> None:
        version = next(self._versions)
        item["metadata"]["resourceVersion"] = str(version)
        if type_ is EventType.DELETED:
            self._objects.pop(key, None)
        else:
            self._objects[key] = item
        self._history.append((version, key[0], key[1], WatchEvent(type_, copy.deepcopy(item))))


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
