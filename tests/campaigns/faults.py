"""The REST fault matrix: every place where the operator calls the account or writes a record, times everything that can happen.

    kill-trim: 504-committed sustained      a pool is trimmed, and for 20 s each kill happens and is answered 504

Sustained faults last SUSTAINED_SECONDS from when the first one was met. Then the story ends, there is silence, and the
ledger is asked, as in the crash campaign; and while the fault lasted, the operator must not have hammered (P19, P20).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from execpool.emulator.ledger import Event
from execpool.kube.kinds import POOLS, SANDBOXES
from execpool.providers.e2b.tags import ATTEMPT, CLUSTER, RECORD
from tests.campaigns.apiserver import How, Meddling
from tests.campaigns.world import World

SUSTAINED_SECONDS = 20.0
BLIND_SECONDS = 200.0
"""Three looks of the sweep: at the first, sandboxes may be too young to be strangers."""
PATIENCE = 400.0
"""Seconds within which a story meets its fault."""
OURS = "cluster-uid.execpool-system"

Fault = dict[str, Any] | Meddling | float
"""As the emulator's admin API has it, or as the API server's door does, or so many seconds of lag in lists."""


@dataclass(frozen=True)
class Site:
    """A call site: how a story comes to it, and how it ends.

    Attributes:
        call: the emulator's name for the call, or the effect of a write to the API server.
        act: makes the operator come to it.
        finish: waits for the end; returns how many sandboxes are wanted then.
        prepare: what comes before the fault is ordered.
    """

    name: str
    call: str
    act: Callable[[World], Awaitable[None]]
    finish: Callable[[World], Awaitable[int]]
    prepare: Callable[[World], Awaitable[None]]
    is_write: bool = False
    faults: Mapping[str, "Fault"] = field(default_factory=dict)
    """What can happen here, where that is not what can happen at any such site."""
    lasts: float = SUSTAINED_SECONDS
    is_urgent: bool = True
    """Whether the operator has something to ask as soon as the fault is over."""


@dataclass(frozen=True)
class Cell:
    """One plan of the matrix."""

    site: str
    fault: str
    is_sustained: bool

    def __str__(self) -> str:
        return f"{self.site}: {self.fault} {'sustained' if self.is_sustained else 'once'}"

    @classmethod
    def read(cls, text: str) -> Self:
        site, _, rest = text.partition(": ")
        fault, duration = rest.split()
        return cls(site, fault, duration == "sustained")


# Stories


async def _nothing(_world: World) -> None:
    return


async def _grow(world: World) -> None:
    world.apply_pool(3)


async def _grown(world: World) -> int:
    await world.until(lambda: world.is_settled(3), "3 ready")
    return 3


async def _stand(world: World) -> None:
    world.apply_pool(3)
    await _grown(world)


async def _stand_for_long(world: World) -> None:
    await _stand(world)
    await world.sleep(280)


async def _doubt(world: World) -> None:
    await world.admin("POST", "/faults", {"call": "create", "kind": "reset", "after_commit": True})


async def _stranger(world: World) -> None:
    await _stand(world)
    world.stranger = await world.make(**{CLUSTER: OURS, RECORD: "gone", ATTEMPT: "1"})


async def _stranger_gone(world: World) -> int:
    await world.until(lambda: world.stranger not in world.history().alive(world.pace.now()), "the stranger's end")
    return await _grown(world)


async def _trim(world: World) -> None:
    world.apply_pool(1)


async def _trimmed(world: World) -> int:
    await world.until(lambda: world.is_settled(1), "1 ready")
    return 1


async def _delete(world: World) -> None:
    world.delete_pool()


async def _deleted(world: World) -> int:
    await world.until(lambda: world.kube.peek(POOLS) == (), "the pool's end")
    return 0


async def _end_held(world: World) -> None:
    """What a gateway does with what it holds."""
    world.claim()
    held = next(one for one in world.records() if one["status"]["phase"] == "Claimed")
    await world.kube.delete(SANDBOXES, "agents", held["metadata"]["name"], uid=held["metadata"]["uid"])


BLIND: dict[str, Fault] = {"empty": Meddling(How.EMPTY), "500": Meddling(How.STATUS)}
SITES = {
    site.name: site
    for site in (
        Site("create", "create", _grow, _grown, _nothing),
        Site("extend", "timeout", _grow, _grown, _nothing),
        Site("renew", "timeout", _nothing, _grown, _stand_for_long, is_urgent=False),
        Site("look", "list", _grow, _grown, _doubt),
        Site("adopt", "connect", _grow, _grown, _doubt),
        Site("sweep", "list", _nothing, _stranger_gone, _stranger, is_urgent=False),
        Site("kill-stranger", "kill", _nothing, _stranger_gone, _stranger, is_urgent=False),
        Site("kill-trim", "kill", _trim, _trimmed, _stand),
        Site("kill-held", "kill", _end_held, _grown, _stand),
        Site("kill-delete", "kill", _delete, _deleted, _stand),
        Site("intent", "intent", _grow, _grown, _nothing, is_write=True),
        Site("record-id", "record-id", _grow, _grown, _nothing, is_write=True),
        Site("record-deadline", "record-deadline", _grow, _grown, _nothing, is_write=True),
        Site("terminate", "terminate", _trim, _trimmed, _stand, is_write=True),
        Site("drop", "drop", _delete, _deleted, _stand, is_write=True),
        Site("release", "release", _delete, _deleted, _stand, is_write=True),
        Site("account-status", "account-status", _grow, _grown, _nothing, is_write=True),
        Site("records", "records", _nothing, _grown, _stand, is_write=True, faults=BLIND, lasts=BLIND_SECONDS),
    )
}


# Faults


def _status(status: int, **more: Any) -> dict[str, Any]:
    return {"kind": "status", "status": status, **more}


ACCOUNT_FAULTS: dict[str, Fault] = {
    "400": _status(400),
    "401": _status(401),
    "403": _status(403),
    "404": _status(404),
    "409": _status(409),
    "429-paced": _status(429, retry_after=3),
    "429-bare": _status(429),
    "500": _status(500),
    "503-retry-after": _status(503, retry_after=2),
    "504-committed": _status(504, after_commit=True),
    "307": _status(307),
    "oversize": _status(500, message="x" * 3_000_000),
    "reset": {"kind": "reset"},
    "reset-committed": {"kind": "reset", "after_commit": True},
    "hang": {"kind": "hang", "seconds": 60},
    "hang-committed": {"kind": "hang", "seconds": 60, "after_commit": True},
    "drip": {"kind": "drip", "bytes": 1, "seconds": 1},
    "garbage": {"kind": "malformed", "after_commit": True},
    "cut-short": {"kind": "truncate", "bytes": 10},
}
LAG: dict[str, Fault] = {"list-lag": 25.0}
WRITE_FAULTS: dict[str, Fault] = {
    **{str(status): Meddling(How.STATUS, status) for status in (401, 403, 404, 409, 422, 429, 500, 503)},
    "504-committed": Meddling(How.STATUS, 504, commits=True),
    "reset": Meddling(How.RESET),
    "reset-committed": Meddling(How.RESET, commits=True),
    "hang": Meddling(How.HANG),
    "hang-committed": Meddling(How.HANG, commits=True),
    "garbage": Meddling(How.GARBAGE, commits=True),
}


def faults_of(site: Site) -> dict[str, Fault]:
    """Return what can happen at a site."""
    if site.faults:
        return dict(site.faults)
    if site.is_write:
        return WRITE_FAULTS
    return ACCOUNT_FAULTS | (LAG if site.call == "list" else {})


def cells() -> list[Cell]:
    """Return the whole matrix."""
    return [
        Cell(site.name, fault, sustained)
        for site in SITES.values()
        for fault in faults_of(site)
        for sustained in (False, True)
    ]


# What is ordered


@dataclass
class Ordered:
    """A fault that has been ordered, once or until it is taken back; `met` counts how often it was given."""

    world: World
    site: Site
    fault: Fault
    is_sustained: bool
    began: float = 0.0
    ended: float = 0.0
    _met: list[float] = field(default_factory=list)

    async def order(self) -> None:
        self.began = self.world.pace.now()
        if isinstance(self.fault, Meddling):
            self.world.meddler = self._meddle
        elif isinstance(self.fault, dict):
            times = None if self.is_sustained else 1
            await self.world.admin("POST", "/faults", {"call": self.site.call, "times": times, **self.fault})
        else:
            await self.world.admin("PATCH", "/knobs", {"list_lag_seconds": self.fault})

    async def last(self) -> None:
        """Wait until it has been met and, sustained, has lasted; then take it back."""
        await self.world.until(lambda: bool(self.met()), f"the fault at {self.site.name}", PATIENCE)
        if self.is_sustained:
            await self.world.sleep(max(self.met()[0] + self.site.lasts - self.world.pace.now(), 0))
        self.ended = self.world.pace.now()
        if isinstance(self.fault, Meddling):
            self.world.meddler = lambda _effect: None
        elif isinstance(self.fault, dict):
            await self.world.admin("DELETE", "/faults")
        else:
            await self.world.admin("PATCH", "/knobs", {"list_lag_seconds": 0})

    def met(self) -> list[float]:
        """Return when it was met."""
        if isinstance(self.fault, Meddling):
            return self._met
        if isinstance(self.fault, dict):
            faulted = self.world.history().of(Event.FAULTED)
            return [one.time for one in faulted if one.call == self.site.call and one.time >= self.began]
        effects = ("look", "sweep")
        return [one.time for one in self.world.requests() if one.effect in effects and one.time >= self.began]

    def _meddle(self, effect: str) -> Meddling | None:
        assert isinstance(self.fault, Meddling)
        if effect != self.site.call or (self._met and not self.is_sustained):
            return None
        self._met.append(self.world.pace.now())
        return self.fault


SLICE = (
    "create: 401 sustained",
    "create: 429-paced sustained",
    "create: 500 sustained",
    "extend: drip once",
    "look: list-lag sustained",
    "adopt: reset-committed sustained",
    "sweep: garbage once",
    "kill-trim: 409 sustained",
    "kill-delete: 404 sustained",
    "kill-delete: 503-retry-after sustained",
    "kill-held: hang-committed once",
    "intent: reset-committed once",
    "record-id: 404 sustained",
    "record-deadline: 409 sustained",
    "terminate: hang sustained",
    "drop: garbage sustained",
)
"""For `make test`."""
