"""Gates, and who passes them in the order of a line: by tables, and by random traffic in virtual time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execpool.api.budgets import Budget
from execpool.api.names import Refusal
from execpool.core.admission import Capacity, Offer, Waiter, assign
from execpool.core.breaker import DENIED_SECONDS, PROBE_SECONDS, TRIP_AFTER, Seen
from execpool.core.budget import Rate
from execpool.core.gates import UNBOUNDED, BreakerGate, Gate, LearnedGate, RateGate, SlotsGate
from execpool.core.passage import Passage
from execpool.gateway.budgets import MOST_USERS, PoolBudgets

USERS = ("ann", "bob", "cay")


def rate(limit: int, window: int = 60, burst: int = 1, *, since: float = 0.0, **fields: bool) -> RateGate:
    return RateGate("budget a", Rate(limit, window, burst), since, **fields)


def before_all(*gates: Gate):
    return lambda _principal, _tier: gates


def waiters(*principals: str, tiers: tuple[str, ...] = ("e2b",)) -> list[Waiter]:
    return [Waiter(number, principal, tiers) for number, principal in enumerate(principals, 1)]


def warm(count: int, tier: str = "e2b") -> Capacity:
    return Capacity(warm={tier: [Offer(f"{tier}-{number}", tier, 1) for number in range(count)]})


# One gate


def test_a_rate_lets_through_what_its_bucket_has_and_says_when_there_is_more():
    gate = rate(2, 10, 2)
    assert gate.room(0.0) == 0, "a bucket begins empty"
    assert gate.wait(0.0, 1) == 5.0
    assert gate.room(10.0) == 2
    gate.take(10.0)
    gate.take(10.0)
    assert (gate.room(10.0), gate.wait(10.0, 1), gate.wait(10.0, 3)) == (0, 5.0, 15.0)


@pytest.mark.parametrize(
    ("started", "is_refunded", "room"), [(True, True, 0), (False, True, 1), (False, False, 0), (True, False, 0)]
)
def test_what_did_not_start_is_given_back_unless_somebody_else_counted_it(started: bool, is_refunded: bool, room: int):
    gate = rate(1, is_refunded=is_refunded)
    gate.take(60.0)
    gate.leave(started=started)
    assert gate.room(60.0) == room


def test_so_many_at_a_time_and_the_next_when_one_has_ended():
    gate = SlotsGate("budget a", 2)
    gate.take(0.0)
    gate.take(0.0)
    assert (gate.room(0.0), gate.wait(0.0, 1)) == (0, 0.0)
    gate.leave(started=True)
    assert gate.room(0.0) == 1


def test_a_limit_that_falls_lets_nobody_through_until_enough_have_ended():
    gate = SlotsGate("budget a", 3)
    for _ in range(3):
        gate.take(0.0)
    gate.limit = 1
    assert gate.room(0.0) == 0
    for left, room in ((2, 0), (1, 0), (0, 1)):
        gate.leave(started=True)
        assert gate.room(0.0) == room, left


def test_a_breaker_lets_everybody_through_then_nobody_then_one_probe():
    gate = BreakerGate("account a/b")
    assert gate.room(0.0) == UNBOUNDED
    for _ in range(TRIP_AFTER):
        gate.told(Seen.FAILURE, 0.0, 1.0)
    assert gate.room(0.0) == 0
    ready = gate.wait(0.0, 1)
    assert 0 < ready <= 1.0
    assert gate.room(ready) == 1
    gate.take(ready)
    assert (gate.room(ready), gate.wait(ready, 1)) == (0, PROBE_SECONDS)
    assert gate.told(Seen.SUCCESS, ready, 1.0), "more may pass now"
    assert gate.room(ready) == UNBOUNDED


def test_a_denial_opens_at_once():
    gate = BreakerGate("account a/b")
    gate.told(Seen.DENIED, 0.0, 1.0)
    assert gate.wait(0.0, 1) == DENIED_SECONDS


def test_a_refusal_holds_everybody_until_its_hour_and_lets_one_through_at_a_time_from_then_on():
    gate = LearnedGate("account a/b")
    assert (gate.room(0.0), gate.wait(0.0, 9)) == (UNBOUNDED, 0.0)
    for _ in range(4):
        gate.take(0.0)
    gate.refused(5.0, 0.0, 0.1)
    gate.refused(3.0, 0.0, 0.1)
    assert (gate.room(1.0), gate.wait(1.1, 1)) == (0, pytest.approx(4.0))
    assert (gate.room(5.1), gate.wait(5.1, 3)) == (1, pytest.approx(0.5)), "four in the last second, so 240 a minute"
    gate.take(5.1)
    assert (gate.room(5.2), gate.wait(5.2, 1)) == (0, pytest.approx(0.15))


def test_what_took_longer_than_usual_to_be_answered_pushes_the_next_one_back():
    gate = LearnedGate("account a/b")
    gate.declared = 60.0
    for at in (0.0, 1.0, 2.0):
        gate.take(at)
        gate.let_through(at, at + 0.01)
    gate.take(3.0)
    gate.let_through(3.02, 3.13)
    assert gate.wait(3.2, 1) == pytest.approx(0.92)


@pytest.mark.parametrize(
    "gate", [rate(3), SlotsGate("budget a", 3), BreakerGate("account a/b"), LearnedGate("account a/b")], ids=str
)
def test_every_gate_says_what_it_allows_in_numbers(gate: Gate):
    assert any(character.isdigit() for character in gate.describe(0.0))
    assert gate.refusal in (Refusal.BUDGET_EXHAUSTED, Refusal.BREAKER_OPEN)


# A line before gates


def test_as_many_claim_as_the_gate_lets_start_and_no_more():
    got = assign(waiters(*USERS), warm(3), before_all(rate(1, 60)), 60.0)
    assert got.claims == (("ann", "e2b-0"),)
    assert [waiter.principal for waiter, _ in got.held_back] == ["bob", "cay"]
    assert [hindrance.seconds for _, hindrance in got.held_back] == [60.0, 120.0]
    assert got.uncovered == ()


def test_a_claim_under_way_counts_as_one_that_starts():
    capacity = Capacity(coming={"ann": [Offer("x", "e2b", 1)]}, warm={"e2b": [Offer("y", "e2b", 1)]})
    got = assign(waiters("ann", "bob"), capacity, before_all(SlotsGate("budget a", 1)), 0.0)
    assert (got.claims, [waiter.principal for waiter, _ in got.held_back]) == ((), ["bob"])


def test_one_that_is_held_back_does_not_hold_back_others():
    closed, free = SlotsGate("budget a", 0), SlotsGate("budget b", 9)
    gates = {"ann": closed, "bob": free}
    got = assign(waiters("ann", "bob"), warm(1), lambda principal, _: (gates[principal],), 0.0)
    assert got.claims == (("bob", "e2b-0"),)


def test_a_tier_whose_gates_are_shut_is_gone_around():
    def gates_of(_principal: str, tier: str) -> Sequence[Gate]:
        return (SlotsGate("budget a", 0),) if tier == "e2b" else ()

    got = assign(
        waiters("ann", tiers=("e2b", "local")), Capacity(warm={**warm(1).warm, **warm(1, "local").warm}), gates_of
    )
    assert got.claims == (("ann", "local-0"),)
    got = assign(waiters("ann", tiers=("e2b", "local")), warm(1), gates_of)
    assert [waiter.tiers for waiter in got.uncovered] == [("local",)], "it asks for an executor where it may run"


def test_the_hindrance_told_is_that_of_the_tier_that_opens_first():
    gates = {"slow": rate(1, 100), "fast": rate(1, 10), "never": rate(1, 1, is_waited_for=False)}
    passage = Passage(lambda _, tier: (gates[tier],), 0.0)
    found = passage.hold_back("ann", ("slow", "never", "fast"))
    assert (found.tier, found.seconds, found.ends_before(9.9), found.ends_before(10.0)) == ("fast", 10.0, False, True)
    refused = passage.hold_back("ann", ("never",))
    assert (refused.seconds, refused.ends_before(math.inf)) == (1.0, False)


@dataclass
class Traffic:
    """Executions that come, and what they may use: one rate for all, slots for each user, so many executors."""

    arrivals: list[tuple[float, str, float]]
    """When, whose, and how long each runs."""
    rate: Rate
    slots: int
    executors: int
    starts: dict[int, float] = field(default_factory=dict)

    def run(self) -> None:
        """Let everything come, start and end, in virtual time."""
        shared = RateGate("budget a", self.rate, 0.0)
        own = {user: SlotsGate("budget b", self.slots) for user in USERS}
        upcoming = sorted((at, number) for number, (at, _, _) in enumerate(self.arrivals))
        line: list[Waiter] = []
        running: list[tuple[float, str]] = []
        now = 0.0
        while upcoming or line or running:
            for end in [end for end in running if end[0] <= now]:
                running.remove(end)
                own[end[1]].leave(started=True)
            while upcoming and upcoming[0][0] <= now:
                number = upcoming.pop(0)[1]
                line.append(Waiter(number, self.arrivals[number][1], ("e2b",)))
            capacity = warm(self.executors - len(running))
            got = assign(line, capacity, lambda principal, _: (shared, own[principal]), now)
            for principal, _ in got.claims:
                waiter = next(waiter for waiter in line if waiter.principal == principal)
                line.remove(waiter)
                running.append((self._start(waiter, now, (shared, own[principal])), principal))
            waits = [now + hindrance.seconds for _, hindrance in got.held_back if hindrance.seconds > 0]
            events = [*(end for end, _ in running), *waits, *(at for at, _ in upcoming[:1])]
            assert events or not line, "somebody waits and nothing will ever happen"
            now = min((event for event in events if event > now), default=now + 1e-9)

    def _start(self, waiter: Waiter, now: float, gates: Sequence[Gate]) -> float:
        for gate in gates:
            assert gate.room(now) > 0, "whoever is let through finds the gate open"
            gate.take(now)
        self.starts[waiter.number] = now
        return self._end(waiter.number)

    def _end(self, number: int) -> float:
        return self.starts[number] + self.arrivals[number][2]

    def most_in_a_window(self) -> int:
        times, length = list(self.starts.values()), self.rate.window_seconds - 1e-6
        return max(sum(first <= other < first + length for other in times) for first in times)

    def most_at_once(self, user: str) -> int:
        mine = [number for number in self.starts if self.arrivals[number][1] == user]
        at_once = [sum(self.starts[other] <= self.starts[one] < self._end(other) for other in mine) for one in mine]
        return max(at_once, default=0)


TRAFFIC = st.builds(
    Traffic,
    arrivals=st.lists(st.tuples(st.floats(0, 30), st.sampled_from(USERS), st.floats(0.1, 8)), min_size=1, max_size=40),
    rate=st.builds(Rate, st.integers(1, 12), st.integers(1, 10), st.integers(1, 6)),
    slots=st.integers(1, 4),
    executors=st.integers(1, 8),
    starts=st.builds(dict),
)


@settings(max_examples=200, deadline=None)
@given(TRAFFIC)
def test_no_traffic_breaks_a_budget_and_nobody_waits_for_ever(traffic: Traffic):
    traffic.run()
    assert len(traffic.starts) == len(traffic.arrivals)
    assert traffic.most_in_a_window() <= traffic.rate.most_in_a_window
    assert all(traffic.most_at_once(user) <= traffic.slots for user in USERS)


# Budgets of a pool


def budget(name: str = "a", resource: str = "Executions", limit: int = 2, **fields: object) -> Budget:
    return Budget.model_validate({"name": name, "resource": resource, "limit": limit, **fields})


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_stands_before_its_tier_and_a_users_before_each_user():
    budgets = PoolBudgets(Clock())
    budgets.observe([budget("all"), budget("one", tier="e2b"), budget("each", scope="User")])
    assert len(budgets.gates("ann", "local")) == 2
    ann, bob = budgets.gates("ann", "e2b"), budgets.gates("bob", "e2b")
    assert (ann[0] is bob[0], ann[1] is bob[1], ann[2] is bob[2]) == (True, True, False)


def test_a_users_first_execution_does_not_wait_because_he_is_new():
    clock = Clock()
    budgets = PoolBudgets(clock)
    budgets.observe([budget("each", scope="User", limit=1)])
    clock.now = 100.0
    (gate,) = budgets.gates("ann", "e2b")
    assert gate.room(100.0) == 1


def test_a_budget_that_stays_the_same_is_not_forgotten_and_one_that_changes_begins_empty():
    clock = Clock()
    budgets = PoolBudgets(clock)
    budgets.observe([budget(limit=1)])
    clock.now = 100.0
    (gate,) = budgets.gates("ann", "e2b")
    gate.take(100.0)
    budgets.observe([budget(limit=1), budget("b")])
    assert budgets.gates("ann", "e2b")[0].room(100.0) == 0
    budgets.observe([budget(limit=60)])
    assert (budgets.gates("ann", "e2b")[0].room(100.0), budgets.gates("ann", "e2b")[0].room(101.0)) == (0, 1)


def test_what_runs_counts_under_a_changed_limit_too():
    budgets = PoolBudgets(Clock())
    budgets.observe([budget(resource="Concurrency", limit=4)])
    for _ in range(3):
        budgets.gates("ann", "e2b")[0].take(0.0)
    budgets.observe([budget(resource="Concurrency", limit=3)])
    assert budgets.gates("ann", "e2b")[0].room(0.0) == 0


def test_users_who_use_nothing_are_forgotten():
    clock = Clock()
    budgets = PoolBudgets(clock)
    budgets.observe([budget("each", scope="User", limit=1)])
    clock.now = 100.0
    for number in range(MOST_USERS):
        budgets.gates(f"user-{number}", "e2b")[0].take(100.0)
    clock.now = 130.0
    budgets.gates("one more", "e2b")
    assert len(budgets._declared["each"]._gates) == MOST_USERS + 1, "all of them have used what they had"
    clock.now = 200.0
    budgets.gates("another", "e2b")
    assert len(budgets._declared["each"]._gates) == 1
