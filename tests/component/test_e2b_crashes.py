"""The operator dies at every effect that it has, and a new one without memory carries on: nothing leaked, doubled or missing.

Three instants of each effect: before it is sent; after it has happened, its answer unread; and for creations while the
request is on its way, so that E2B carries it out only after the new operator has begun to look. The ledger of the scripted
E2B is the truth.
"""

import random
from collections.abc import Awaitable, Callable
from itertools import count

import pytest
from tests.component.account_world import AccountWorld, account_world
from tests.component.scripted_e2b import Hang, Late, Reset, Status

from execpool.kube.errors import ConflictError, UnreachableError
from execpool.kube.fake import Call
from execpool.kube.kinds import POOLS

EFFECTS = (
    "create e2bsandboxes",
    "patch e2bsandboxes",
    "delete e2bsandboxes",
    "patch e2baccounts",
    "patch executionpools",
    "e2b create",
    "e2b extend",
    "e2b kill",
)
LONG_ENOUGH = 260
"""Seconds after which everything that may have been lost has been found, or has ended by itself."""

Story = Callable[[AccountWorld], Awaitable[int]]
"""Returns how many sandboxes are wanted at its end."""


async def growing(world: AccountWorld) -> int:
    world.apply_pool(3)
    await world.run(LONG_ENOUGH, step=4)
    return 3


async def shrinking(world: AccountWorld) -> int:
    world.apply_pool(3)
    await world.run(12)
    world.apply_pool(1)
    await world.run(LONG_ENOUGH, step=4)
    return 1


async def losing(world: AccountWorld) -> int:
    world.apply_pool(2)
    await world.run(12)
    for name in list(world.e2b.alive())[:1]:
        world.e2b.lose(name)
    await world.run(LONG_ENOUGH + 120, step=4)
    return 2


async def ending(world: AccountWorld) -> int:
    ref = world.apply_pool(2)
    await world.run(12)
    world.delete_pool()
    await world.run(LONG_ENOUGH, ref, step=4)
    assert (world.records(), world.kube.peek(POOLS)) == ([], ())
    return 0


STORIES = (growing, shrinking, losing, ending)


def at(effect: str, nth: int, *, after: bool) -> Callable[[str, bool], bool]:
    numbers = count(1)
    return lambda name, is_after: (name, is_after) == (effect, after) and next(numbers) == nth


async def died_at(story: Story, effect: str, nth: int, *, after: bool) -> int:
    """Return how often the operator died, having checked what came of it."""
    async with account_world() as world:
        world.crash = at(effect, nth, after=after)
        wanted = await story(world)
        where = f"{story.__name__}: died {'after' if after else 'before'} {effect} number {nth}"
        assert world.verdict(wanted) == (0, 0, 0), where
        assert world.e2b.most_of_one_record <= 1, where
        assert world.unannounced == 0, where
        return world.crashes


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
@pytest.mark.parametrize("after", [False, True], ids=["before it", "after it"])
async def test_death_at_any_effect_leaves_nothing_leaked_doubled_or_missing(story: Story, after: bool):
    deaths = [await died_at(story, effect, nth, after=after) for effect in EFFECTS for nth in (1, 2, 3)]
    assert sum(deaths) >= 14, "the story has these effects"


@pytest.mark.parametrize("seconds", [1.0, 12.0, 19.0])
@pytest.mark.parametrize("lag", [0.0, 25.0])
async def test_a_creation_that_is_on_its_way_when_the_operator_dies_makes_one_sandbox(seconds: float, lag: float):
    for nth in (1, 2, 3):
        async with account_world() as world:
            world.e2b.lag = lag
            numbers = count(1)
            sent = []

            def late(operation: str, numbers=numbers, nth: int = nth, sent=sent):
                if operation == "create" and next(numbers) == nth:
                    sent.append(True)
                    return Late(seconds)
                return None

            world.e2b.fault = late
            world.crash = lambda _name, _after, sent=sent: bool(sent) and sent.pop()
            wanted = await growing(world)
            assert (world.verdict(wanted), world.e2b.most_of_one_record) == ((0, 0, 0), 1)
            assert world.crashes == 1


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_dies_fails_and_is_lost_together_comes_right_in_the_end(seed: int):
    dice = random.Random(seed)
    async with account_world() as world:
        faults = [Hang(commits=True), Hang(), Reset(commits=True), Reset(), Status(503), Late(15.0), Status(429, "2")]
        world.e2b.lag = dice.choice([0.0, 10.0, 25.0])
        world.e2b.fault = lambda _name: dice.choice(faults) if dice.random() < 0.1 else None
        world.crash = lambda _name, _after: dice.random() < 0.02

        def fail(call: Call) -> None:
            if call.verb == "patch" and dice.random() < 0.05:
                raise dice.choice([ConflictError(409, "Conflict", "changed"), UnreachableError("lost")])

        world.fault_before = world.fault_after = fail
        for wanted in (3, 1, 4):
            world.apply_pool(wanted)
            await world.run(120, step=3)
        world.crash = lambda _name, _after: False
        world.e2b.fault = lambda _name: None
        world.fault_before = world.fault_after = lambda _call: None
        await world.run(600, step=5)
        assert world.verdict(4) == (0, 0, 0)
        assert (world.e2b.most_of_one_record, world.unannounced) == (1, 0)
        assert world.crashes > 0


async def test_without_an_operator_a_sandbox_that_nobody_recorded_ends_within_two_minutes():
    async with account_world() as world:
        world.apply_pool(1)
        world.crash = at("e2b create", 1, after=True)
        world.comes_back = False
        await world.run(10)
        (orphan,) = world.e2b.alive().values()
        world.now = orphan.started_at + 121
        assert world.e2b.alive() == {}


@pytest.mark.parametrize("lag", [0.0, 25.0])
@pytest.mark.parametrize("seed", range(3))
async def test_two_operators_at_once_make_no_sandbox_twice(lag: float, seed: int):
    """The fence keeps them apart; should it ever not, records and tags do."""
    dice = random.Random(seed)
    async with account_world() as world:
        world.e2b.lag = lag
        other = AccountWorld(world.e2b, kube=world.kube, now=world.now)
        faults = [Hang(commits=True), Reset(commits=True), Reset()]
        world.e2b.fault = lambda _name: dice.choice(faults) if dice.random() < 0.1 else None
        for wanted in (3, 1, 4):
            world.apply_pool(wanted)
            for _ in range(60):
                await dice.choice([world, other]).work()
                world.now = other.now = world.now + 2.0
        world.e2b.fault = lambda _name: None
        await other.rounds.close()
        await world.run(400, step=5)
        assert (world.verdict(4), world.unannounced) == ((0, 0, 0), 0)
        assert world.e2b.most_of_one_record == 1
