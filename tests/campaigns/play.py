"""Plays plans, many at once, and says what came of each."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from tests.campaigns.pace import Pace
from tests.campaigns.plans import Plan
from tests.campaigns.stories import STORIES
from tests.campaigns.tap import Noted
from tests.campaigns.verdict import Verdict
from tests.campaigns.world import FOREIGN, PATIENCE, NotSettledError, Options, world

QUIET_SECONDS = 210.0
"""A leak that the sweep has not found by then is one (reliability, P1)."""
PLANTED_PATIENCE = 240.0
"""With a bug planted nothing may ever settle."""
SCALE, AT_ONCE = 20.0, 12


Thing = TypeVar("Thing", bound=Hashable)
Result = TypeVar("Result", bound=Any)


@dataclass(frozen=True)
class Outcome:
    """What came of a plan. `seconds` are real ones."""

    plan: Plan
    verdict: Verdict
    deaths: int
    lives: int
    seconds: float
    created: int
    trouble: str = ""
    requests: list[Noted] = field(default_factory=list)
    log: str = ""
    is_again: bool = False
    """Whether it was played for the second time."""

    @property
    def is_starved(self) -> bool:
        """True when it did not come to its end, and nothing is wrong in the ledger."""
        return bool(self.trouble) and self.verdict.is_harmless

    @property
    def is_right(self) -> bool:
        return self.verdict.is_clean and not self.trouble

    @property
    def was_met(self) -> bool:
        """True when every death that the plan has came about."""
        return self.deaths == len(self.plan.deaths)

    def __str__(self) -> str:
        said = f"{self.plan!s:<52} {self.deaths} died, {self.created:>2} created, {self.seconds:5.1f} s  "
        said += "(again) " if self.is_again else ""
        return said + (self.trouble or str(self.verdict)) + ("" if self.was_met else "  (a death did not come)")


async def play(plan: Plan, scale: float = SCALE, *, bug: str = "") -> Outcome:
    """Play one plan: its story, then silence, then the verdict."""
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="execpool-campaign-"))
    options = Options(plan.deaths, plan.writes, bug, patience=PLANTED_PATIENCE if bug else PATIENCE)
    try:
        async with world(Pace(scale), directory, options) as one:
            wanted, trouble = 0, ""
            try:
                wanted = await STORIES[plan.story](one)
                await one.sleep(QUIET_SECONDS)
            except NotSettledError as error:
                trouble = str(error)
            found, requests, created = one.verdict(wanted), one.requests(), len(one.history().created()) - FOREIGN
            taken = time.monotonic() - began
            log = "" if found.is_clean and not trouble else one.log()
            return Outcome(plan, found, one.operators.died, one.operators.lives, taken, created, trouble, requests, log)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def play_all(
    plans: Iterable[Plan],
    *,
    scale: float = SCALE,
    at_once: int = AT_ONCE,
    tell: Callable[[Outcome], None] = lambda _outcome: None,
) -> list[Outcome]:
    """Play plans, so many at once; each outcome is told when it is known."""
    return await in_turn(plans, lambda plan: play(plan, scale), at_once, tell)


async def in_turn(
    things: Iterable[Thing],
    work: Callable[[Thing], Awaitable[Result]],
    at_once: int,
    tell: Callable[[Result], None],
) -> list[Result]:
    """Play so many at once, and those that had no time to come to their end (a starved world) once more, by themselves."""
    gate = asyncio.Semaphore(at_once)

    async def one(thing: Thing) -> Result:
        async with gate:
            outcome = await work(thing)
        if not outcome.is_starved:
            tell(outcome)
        return outcome

    known = list(things)
    outcomes = dict(zip(known, await asyncio.gather(*map(one, known)), strict=True))
    for thing in [thing for thing, outcome in outcomes.items() if outcome.is_starved]:
        outcomes[thing] = replace(await work(thing), is_again=True)
        tell(outcomes[thing])
    return list(outcomes.values())
