"""How much of an account's limits is used, and at the price of how many refusals, beside what programs do on their own.

Three arms at the same time, each with eight workers that create sandboxes and eight that run code, on an emulator of its own
whose ledger is what counts: E2B's SDK in a naive loop, the same under tenacity, and ours (`e2b_peers.py`, `e2b_ours.py`).

    scene     | the account allows               | and declares to us
    ----------|----------------------------------|----------------------------------
    known     | 1 creation/s, 240 executions/min | that
    unknown   | that                             | 5 creations/s, nothing of executions
    changed   | that; then half of both          | what was true at first

The peers are told nothing in any scene: they know no limits. The emulator lets nothing come early (a burst of one), which is
the hardest limiter to be on time for.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tests.component.emulator_world import emulator

from benchmarks.e2b_arms import Arm
from benchmarks.e2b_share import WINDOW_SECONDS, Limit, fairness, rejections, seconds_until_good, share
from benchmarks.figures import Result, Row, amount
from execpool.emulator.ledger import Entry, Event

WORKERS = 8
ROUNDS = 3
BEGIN_SECONDS = 2.0
"""Left out of what is measured at the begin of a scene in which all is known."""
CREATES_PER_SECOND, EXECUTIONS_PER_MINUTE = 1, 240
PROGRAMS = {
    "naive": ("benchmarks.e2b_peers", "naive"),
    "tenacity": ("benchmarks.e2b_peers", "tenacity"),
    "execpool": ("benchmarks.e2b_ours",),
}


@dataclass(frozen=True)
class Scene:
    """What is allowed, and declared, and for how long.

    Attributes:
        changes_after: seconds until half of both limits is left; None when nothing changes.
        measured_from: seconds from the begin on of which the figures are.
    """

    name: str
    seconds: float
    creates_declared: int
    executions_declared: int | None
    measured_from: float
    changes_after: float | None = None


SCENES = (
    Scene("known", 26, CREATES_PER_SECOND, EXECUTIONS_PER_MINUTE, BEGIN_SECONDS),
    Scene("unknown", 56, 5, None, 0.0),
    Scene("changed", 56, CREATES_PER_SECOND, EXECUTIONS_PER_MINUTE, 14, changes_after=14),
)
QUICK = (Scene("known", 14, CREATES_PER_SECOND, EXECUTIONS_PER_MINUTE, BEGIN_SECONDS),)


@dataclass(frozen=True)
class Finding:
    """One resource of one arm in one scene."""

    share: float
    last_share: float
    """Of the last WINDOW_SECONDS."""
    rejections: float
    """For each success."""
    good_after: float | None
    fairness: float


Key = tuple[str, str, str]
"""Scene, resource, arm."""


async def measure(*, quick: bool) -> Result:
    findings: dict[Key, list[Finding]] = {}
    async with _arms() as arms:
        for scene in QUICK if quick else SCENES * ROUNDS:
            for key, finding in (await _play(scene, arms)).items():
                findings.setdefault(key, []).append(finding)
    rows = [row for key in sorted(findings, key=_order) for row in _rows(key, findings)]
    return Result(tuple(rows), ("medians of the rounds; counted by the ledger of each arm's emulator.",))


@asynccontextmanager
async def _arms() -> AsyncIterator[list[Arm]]:
    async with AsyncExitStack() as stack:
        arms = []
        for name, program in PROGRAMS.items():
            world = stack.enter_context(
                emulator(latency="published", sandboxes=100, always_traffic_token=True, warm=2, idempotency=False)
            )
            arms.append(Arm(name, world, program))
            stack.push_async_callback(arms[-1].stop)
        yield arms


async def _play(scene: Scene, arms: list[Arm]) -> dict[Key, Finding]:
    """Play a scene on all arms at once; return what came of it, by resource."""
    await asyncio.gather(*(arm.begin(WORKERS, scene.creates_declared, scene.executions_declared) for arm in arms))
    _limit(arms, 1)
    since = time.time()
    for arm in arms:
        arm.go()
    if scene.changes_after is not None:
        await asyncio.sleep(scene.changes_after)
        _limit(arms, 2)
    until = since + scene.seconds
    await asyncio.sleep(until - time.time())
    tallies = [await arm.end() for arm in arms]
    slower = 2 if scene.changes_after is not None else 1
    found: dict[Key, Finding] = {}
    for arm, tally in zip(arms, tallies, strict=True):
        entries = arm.world.history().entries
        for resource, per_second, counts in (
            ("creates", CREATES_PER_SECOND / slower, tally.creates),
            ("executions", EXECUTIONS_PER_MINUTE / 60 / slower, tally.executions),
        ):
            limit = Limit(per_second, since + scene.measured_from, until)
            found[scene.name, resource, arm.name] = _finding(entries, resource, limit, counts)
    return found


def _limit(arms: list[Arm], slower: int) -> None:
    for arm in arms:
        arm.limit(
            creates=CREATES_PER_SECOND,
            creates_window_seconds=slower,
            creates_burst=1,
            executions_per_minute=EXECUTIONS_PER_MINUTE // slower,
        )


def _finding(entries: Sequence[Entry], resource: str, limit: Limit, counts: list[int]) -> Finding:
    done = sorted(map(_let_through_at, (entry for entry in entries if entry.event is _DONE[resource])))
    refused = [
        entry.time
        for entry in entries
        if entry.event is Event.REFUSED and entry.status == 429 and entry.call == _CALL[resource]
    ]
    last = Limit(limit.per_second, max(limit.until - WINDOW_SECONDS, limit.since), limit.until)
    return Finding(
        share(done, limit),
        share(done, last),
        rejections(refused, done, limit),
        seconds_until_good(done, limit),
        fairness(counts),
    )


_DONE = {"creates": Event.CREATED, "executions": Event.EXECUTION_STARTED}
_CALL = {"creates": "create", "executions": "execute"}


def _let_through_at(entry: Entry) -> float:
    """Return when a rate let something through; a creation's line is written when the sandbox runs."""
    return entry.time - entry.drawn_seconds - entry.late_seconds


def _order(key: Key) -> tuple[int, str, int]:
    scene, resource, arm = key
    return [each.name for each in SCENES].index(scene), resource, list(PROGRAMS).index(arm)


def _rows(key: Key, findings: dict[Key, list[Finding]]) -> list[Row]:
    scene, resource, arm = key
    ours, naive = findings[key], findings[scene, resource, "naive"]
    label, n = f"{resource}, {scene}: {arm}", len(ours)

    def median(figures: list[Finding], name: str) -> float:
        return statistics.median(getattr(each, name) for each in figures)

    peer = None if arm == "naive" else median(naive, "share")
    rows = [
        amount(f"{label}, share", median(ours, "share"), "of the limit", peer=peer, n=n),
        amount(f"{label}, refusals", median(ours, "rejections"), "per success", n=n),
        amount(f"{label}, fairness", median(ours, "fairness"), "least / most served", n=n),
    ]
    if scene != "known":
        good = [each.good_after for each in ours if each.good_after is not None]
        seconds = statistics.median(good) if 2 * len(good) > len(ours) else float("inf")
        rows.insert(1, amount(f"{label}, last 20 s", median(ours, "last_share"), "of the limit", n=n))
        rows.append(amount(f"{label}, at 0.90 after", seconds, "s", n=n))
    return rows
