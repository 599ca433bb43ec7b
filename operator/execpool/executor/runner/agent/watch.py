"""Watches directories by looking at them again and again, and tells what changed in between.

Why not inotify: the filter of user code refuses it (it would tell one run about another), the agent is user code to the
kernel, and a descriptor opened before the filter is of no use, since adding a directory to it is a call of its own. So a
watcher compares two pictures of the tree. What it cannot see: a file that came and went between two looks, and several
writes in that time are one. A rename is recognised by the inode, and told as inotify's clients tell it: RENAME with the
old name, CREATE with the new.

A look costs 2-3 us an entry. Watchers look ten times a second, less often when a look takes long (5 % of the time at
most, together) and once a second when nobody has asked for events for a minute.
"""

import os
import secrets
import stat
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from execpool.executor.agent_wire import MAX_EVENTS, MAX_WATCHED, MAX_WATCHERS, PART_BYTES, Code, most_bytes
from execpool.executor.runner.agent.files import Answer, Arguments
from execpool.executor.runner.agent.loop import Loop
from execpool.executor.runner.agent.paths import entry, expand, readable
from execpool.executor.runner.agent.trouble import Trouble, from_kernel

_LOOK_SECONDS = 0.1
_UNREAD_SECONDS = 60.0
_IDLE_LOOK_SECONDS = 1.0
_REST = 20
"""Watchers rest this many times as long as they look."""

Event = dict[str, Any]
Reply = Callable[[Answer | Trouble], None]


@dataclass(frozen=True)
class Seen:
    """What is remembered of an entry."""

    inode: tuple[int, int]
    mode: int
    size: int
    modified: int

    @property
    def directory(self) -> bool:
        """True for a directory, whose size and time say nothing that is not told of its entries."""
        return stat.S_ISDIR(self.mode)


Picture = dict[str, Seen]


def differences(before: Picture, after: Picture) -> list[tuple[str, str]]:
    """Return (name, event type) for what changed between two pictures. Pure."""
    gone = {name: seen for name, seen in before.items() if name not in after}
    new = {name: seen for name, seen in after.items() if name not in before}
    moved_to = {seen.inode: name for name, seen in new.items()}
    renamed = {name: moved_to[seen.inode] for name, seen in gone.items() if seen.inode in moved_to}
    arrived = set(renamed.values())
    events = [
        (name, "EVENT_TYPE_RENAME" if name in renamed else "EVENT_TYPE_REMOVE")
        for name in gone
        if not _below_one_of(name, renamed.keys())
    ]
    for name, seen in new.items():
        if not _below_one_of(name, arrived):
            events.append((name, "EVENT_TYPE_CREATE"))
            if seen.size and not seen.directory and name not in arrived:
                events.append((name, "EVENT_TYPE_WRITE"))
    for name in before.keys() & after.keys():
        events += [(name, kind) for kind in _changes(before[name], after[name])]
    return sorted(events, key=lambda event: event[0])


def _changes(before: Seen, after: Seen) -> list[str]:
    if before.inode != after.inode:
        return ["EVENT_TYPE_CREATE"]
    changes = []
    if not after.directory and (before.modified, before.size) != (after.modified, after.size):
        changes.append("EVENT_TYPE_WRITE")
    if before.mode != after.mode:
        changes.append("EVENT_TYPE_CHMOD")
    return changes


def _below_one_of(name: str, directories: Any) -> bool:
    """True when a directory above `name` is one of these, which then speaks for all that is in it."""
    while "/" in name:
        name = name.rpartition("/")[0]
        if name in directories:
            return True
    return False


def picture(path: str, *, recursive: bool) -> Picture:
    """Look at a directory.

    Raises:
        OSError: it is not there any more.
        Trouble: there is too much in it.
    """
    seen: Picture = {}
    pending = [""]
    while pending:
        prefix = pending.pop()
        try:
            with os.scandir(os.path.join(path, prefix)) as found:  # noqa: PTH118 - text throughout
                for item in found:
                    with suppress(FileNotFoundError):
                        seen[prefix + item.name] = _seen(item.stat(follow_symlinks=False))
                    if recursive and item.is_dir(follow_symlinks=False):
                        pending.append(f"{prefix}{item.name}/")
                    if len(seen) > MAX_WATCHED:
                        raise Trouble(Code.FAILED_PRECONDITION, f"more than {MAX_WATCHED} entries cannot be watched")
        except OSError:
            if not prefix:
                raise
    return seen


def _seen(found: os.stat_result) -> Seen:
    return Seen((found.st_dev, found.st_ino), found.st_mode, found.st_size, found.st_mtime_ns)


class Watcher:
    """One watched directory: its last picture, and the events that nobody has taken yet."""

    def __init__(self, path: str, *, recursive: bool, entries: bool) -> None:
        self._path = path
        self._recursive = recursive
        self._entries = entries
        self._last = picture(path, recursive=recursive)
        self._events: deque[Event] = deque()
        self._broken: Trouble | None = None
        self._waiting: Reply | None = None
        self._asked_at = time.monotonic()
        self.ended = False

    def look(self, watchers: int = 1) -> float:
        """Look now; return how long to wait before the next time, being one of so many."""
        began = time.monotonic()
        if self._broken is None:
            try:
                now = picture(self._path, recursive=self._recursive)
                self._take(differences(self._last, now))
                self._last = now
            except OSError as error:
                self._broken = from_kernel(error, f"error watching {readable(self._path)}")
            except Trouble as trouble:
                self._broken = trouble
        self._answer()
        now_at = time.monotonic()
        idle = now_at - self._asked_at > _UNREAD_SECONDS and self._waiting is None
        return max(_IDLE_LOOK_SECONDS if idle else _LOOK_SECONDS, _REST * watchers * (now_at - began))

    def ask(self, reply: Reply) -> None:
        """Give the events there are, or those that come next; until then, or until `release`, the answer waits."""
        self.release()
        self._asked_at = time.monotonic()
        self._waiting = reply
        self.look()

    def release(self, only: Reply | None = None) -> None:
        """Answer whoever waits, or only this one, with nothing."""
        if self._waiting is not None and only in (None, self._waiting):
            reply, self._waiting = self._waiting, None
            reply({"events": []})

    def _answer(self) -> None:
        if self._waiting is None or not (self._events or self._broken):
            return
        reply, self._waiting = self._waiting, None
        if self._events:
            taken: list[Event] = []
            size = 0
            while self._events and size < PART_BYTES:
                taken.append(self._events.popleft())
                size += most_bytes(taken[-1])
            reply({"events": taken, "more": bool(self._events)})
        elif self._broken is not None:
            reply(self._broken)

    def _take(self, changes: list[tuple[str, str]]) -> None:
        for name, kind in changes:
            event: Event = {"name": readable(name), "type": kind}
            if self._entries:
                with suppress(OSError):
                    event["entry"] = entry(os.path.join(self._path, name))  # noqa: PTH118 - as above
            self._events.append(event)
        if len(self._events) > MAX_EVENTS:
            self._events.clear()
            self._broken = Trouble(Code.FAILED_PRECONDITION, f"more than {MAX_EVENTS} events were not read in time")


class Watchers:
    """Those that look."""

    def __init__(self, loop: Loop, home: str) -> None:
        self._loop = loop
        self._home = home
        self._watchers: dict[str, Watcher] = {}

    def watch(self, arguments: Arguments) -> Answer:
        """Begin to watch a directory."""
        path = expand(arguments.get("path"), self._home)
        if len(self._watchers) >= MAX_WATCHERS:
            raise Trouble(Code.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} directories are watched, no more are allowed")
        try:
            if not stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116 - as above
                raise Trouble(Code.INVALID_ARGUMENT, f"path {readable(path)} not a directory")
            watcher = Watcher(path, recursive=bool(arguments.get("recursive")), entries=bool(arguments.get("entries")))
        except OSError as error:
            raise from_kernel(error, f"path {readable(path)}") from error
        name = f"w{secrets.token_hex(10)}"
        self._watchers[name] = watcher
        self._again(watcher, _LOOK_SECONDS)
        return {"watcher": name}

    def ask(self, arguments: Arguments, reply: Reply) -> None:
        """Give the events of a watcher, waiting for some seconds if there are none."""
        watcher = self._known(arguments)
        watcher.ask(reply)
        seconds = float(arguments.get("seconds") or 0.0)
        if seconds:
            self._loop.wake(time.monotonic() + seconds, lambda: watcher.release(reply))
        else:
            watcher.release(reply)

    def unwatch(self, arguments: Arguments) -> Answer:
        """Stop watching."""
        watcher = self._known(arguments)
        watcher.ended = True
        watcher.release()
        del self._watchers[str(arguments.get("watcher"))]
        return {}

    def _known(self, arguments: Arguments) -> Watcher:
        name = arguments.get("watcher")
        watcher = self._watchers.get(str(name))
        if watcher is None:
            raise Trouble(Code.NOT_FOUND, f"watcher with id {str(name)[:64]} not found")
        return watcher

    def _again(self, watcher: Watcher, seconds: float) -> None:
        def look() -> None:
            if not watcher.ended:
                self._again(watcher, watcher.look(len(self._watchers)))

        self._loop.wake(time.monotonic() + seconds, look)
