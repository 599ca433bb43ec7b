"""The planner in thousands of random worlds: whatever happens, its invariants hold and it comes to rest."""

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.builders import CURRENT, NOW, OLD, claimed, executor, pool, snapshot, spec

from execpool.core.actions import CreateExecutors, RemoveExecutor, RetireExecutor
from execpool.core.model import Claim, Executor, Phase, Snapshot
from execpool.core.planning import plan

MOST_STEPS = 60


class World:
    """A tier whose executors start, are claimed, run, idle and end at random, under a planner that sees all of it."""

    def __init__(self, seed: int, warm: int, most: int) -> None:
        self.random = random.Random(seed)
        self.now = NOW
        self.warm, self.most = warm, most
        self.hash = CURRENT
        self.members: dict[str, Executor] = {}
        self.waiting = 0
        self.born = 0
        for _ in range(self.random.randint(0, most)):
            self.add(self.random.choice([Phase.READY, Phase.STARTING, Phase.CLAIMED, Phase.TERMINATING]))

    def add(self, phase: Phase) -> None:
        self.born += 1
        name = f"e{self.born}"
        hash_ = self.random.choice([CURRENT, OLD]) if self.born <= self.most else self.hash
        make = claimed(name, running=self.random.randint(0, 2)) if phase is Phase.CLAIMED else executor(name, phase)
        self.members[name] = replace(make, template_hash=hash_, created_at=self.now - self.random.uniform(0, 100))

    def snapshot(self) -> Snapshot:
        wanted = spec(replicas=self.warm, pods={"max": self.most, "maxAgeSeconds": 604800})
        return snapshot(*self.members.values(), waiting=self.waiting, now=self.now, pool=pool(spec=wanted))

    def step(self, quiet: bool) -> bool:
        """Plan, check the plan, carry it out; return True when it was empty and nothing is on its way."""
        decision = plan(self.snapshot())
        moving = any(member.phase in (Phase.STARTING, Phase.TERMINATING) for member in self.members.values())
        for action in decision.actions:
            if isinstance(action, CreateExecutors):
                for _ in range(action.count):
                    self.add(Phase.STARTING)
            elif isinstance(action, RetireExecutor | RemoveExecutor):
                chosen = action.executor
                assert not (chosen.claim and chosen.claim.running), "a busy executor was chosen"
                self.members[chosen.name] = replace(chosen, phase=Phase.TERMINATING, claim=None)
        assert sum(member.counts for member in self.members.values()) <= self.most, "population above max"
        self.pass_time(quiet)
        return not decision.actions and not moving

    def pass_time(self, quiet: bool) -> None:
        self.now += self.random.uniform(0, 5)
        for name, member in list(self.members.items()):
            if member.phase is Phase.TERMINATING and (quiet or self.random.random() < 0.5):
                del self.members[name]
            elif member.phase is Phase.STARTING and (quiet or self.random.random() < 0.5):
                self.members[name] = replace(member, phase=Phase.READY)
            elif member.claim:
                running = 0 if quiet else self.random.randint(0, 2)
                held = member.claim.held_seconds + 5
                self.members[name] = replace(member, claim=Claim("p", 1, held, 0.0 if running else 5.0, running))
            elif member.phase is Phase.READY and not quiet and self.random.random() < 0.2:
                self.members[name] = claimed(name, held=0.0, idle=0.0, running=1, template_hash=member.template_hash)
        self.waiting = 0 if quiet else self.random.choice([0, 0, 0, 1, 3, 9])


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), warm=st.integers(0, 8), most=st.integers(1, 12))
def test_random_worlds_keep_the_bounds_and_come_to_rest_as_wanted(seed: int, warm: int, most: int):
    world = World(seed, warm, most)
    for _ in range(20):
        world.step(quiet=False)
    world.waiting = 0
    for _ in range(MOST_STEPS):
        if world.step(quiet=True):
            break
    else:
        raise AssertionError("the planner did not come to rest")
    members = list(world.members.values())
    held = sum(member.phase is Phase.CLAIMED for member in members)
    ready = [member for member in members if member.phase is Phase.READY]
    assert len(ready) == min(warm, most, most - held)
    assert all(member.template_hash == CURRENT for member in ready)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_same_snapshot_gives_the_same_plan(seed: int):
    world = World(seed, warm=3, most=6)
    assert plan(world.snapshot()) == plan(world.snapshot())
