"""The line: who is next, by tables and by random lines."""

from hypothesis import given, settings
from hypothesis import strategies as st

from execpool.api.names import Isolation
from execpool.core.admission import (
    Assignment,
    Capacity,
    Line,
    Offer,
    Waiter,
    assign,
    seconds_until_a_turn,
    wanted_executors,
)

TIERS = ("local", "gpu")
PRINCIPALS = ("ann", "bob", "cay")


def waiters(*principals: str, tiers: tuple[str, ...] = ("local",)) -> list[Waiter]:
    return [Waiter(number, principal, tiers) for number, principal in enumerate(principals, 1)]


def offer(executor: str, slots: int = 1, tier: str = "local") -> Offer:
    return Offer(executor, tier, slots)


def test_nobody_waits_nothing_happens() -> None:
    assert assign([], Capacity(warm={"local": [offer("w1")]})) == Assignment()


def test_the_first_in_line_gets_the_only_warm_executor() -> None:
    got = assign(waiters("ann", "bob"), Capacity(warm={"local": [offer("w1", 4)]}))
    assert got.claims == (("ann", "w1"),)
    assert [waiter.principal for waiter in got.uncovered] == ["bob"]


def test_warm_executors_go_out_in_their_order() -> None:
    got = assign(waiters("ann", "bob"), Capacity(warm={"local": [offer("w1"), offer("w2")]}))
    assert got.claims == (("ann", "w1"), ("bob", "w2"))


def test_a_free_slot_of_ones_own_does_not_wait_behind_others() -> None:
    got = assign(waiters("ann", "bob"), Capacity(free={"bob": [offer("held")]}))
    assert got.seats == ((2, "held"),)
    assert [waiter.principal for waiter in got.uncovered] == ["ann"]


def test_nobody_gets_a_slot_of_somebody_elses_executor() -> None:
    got = assign(waiters("ann"), Capacity(free={"bob": [offer("held", 4)]}, known={"bob": [offer("known", 4)]}))
    assert got.seats == ()
    assert got.claims == ()


def test_two_waiting_and_four_slots_claim_one_executor() -> None:
    got = assign(waiters("ann", "ann"), Capacity(warm={"local": [offer("w1", 4), offer("w2", 4)]}))
    assert got.claims == (("ann", "w1"),)
    assert got.uncovered == ()


def test_five_waiting_and_four_slots_claim_two_executors() -> None:
    got = assign(waiters(*["ann"] * 5), Capacity(warm={"local": [offer("w1", 4), offer("w2", 4)]}))
    assert got.claims == (("ann", "w1"), ("ann", "w2"))


def test_a_claim_under_way_covers_as_many_as_it_brings_slots() -> None:
    got = assign(
        waiters("ann", "ann", "ann"), Capacity(coming={"ann": [offer("c1", 2)]}, warm={"local": [offer("w1")]})
    )
    assert got.claims == (("ann", "w1"),)


def test_an_executor_that_has_to_be_claimed_again_comes_before_a_warm_one() -> None:
    got = assign(waiters("ann"), Capacity(known={"ann": [offer("mine")]}, warm={"local": [offer("w1")]}))
    assert got.claims == (("ann", "mine"),)


def test_a_session_gets_a_warm_executor_and_nothing_of_what_its_principal_has() -> None:
    capacity = Capacity(
        free={"ann": [offer("held", 4)]}, known={"ann": [offer("known", 4)]}, warm={"local": [offer("w1", 4)]}
    )
    got = assign([Waiter(1, "ann", ("local",), session="s1"), Waiter(2, "ann", ("local",), session="s2")], capacity)
    assert (got.seats, got.claims) == ((), (("s1", "w1"),))
    assert [waiter.session for waiter in got.uncovered] == ["s2"]


def test_what_is_claimed_for_a_session_is_of_no_use_to_its_principal() -> None:
    got = assign(waiters("ann"), Capacity(free={"s1": [offer("alone", 4)]}, coming={"s2": [offer("coming", 4)]}))
    assert (got.seats, len(got.uncovered)) == ((), 1)


def test_each_session_that_waits_wants_an_executor_of_its_own() -> None:
    line = [Waiter(number, "ann", ("local",), session=f"s{number}") for number in (1, 2)]
    assert wanted_executors([*line, *waiters("ann", "ann")], {"local": 4}) == {"local": 3}


def test_an_execution_that_names_a_tier_gets_no_other() -> None:
    line = waiters("ann", tiers=("gpu",))
    got = assign(line, Capacity(free={"ann": [offer("held")]}, warm={"local": [offer("w1")]}))
    assert got == Assignment(uncovered=tuple(line))


def test_tiers_are_tried_in_their_order() -> None:
    warm = {"gpu": [offer("g1", tier="gpu")], "local": [offer("w1")]}
    assert assign(waiters("ann", tiers=("gpu", "local")), Capacity(warm=warm)).claims == (("ann", "g1"),)


def test_a_floor_excludes_weaker_executors_in_every_way() -> None:
    weak = Offer("weak", "local", 1, Isolation.CONTAINER)
    line = [Waiter(1, "ann", ("local",), floor=Isolation.SANDBOXED)]
    for capacity in (
        Capacity(free={"ann": [weak]}),
        Capacity(coming={"ann": [weak]}),
        Capacity(known={"ann": [weak]}),
        Capacity(warm={"local": [weak]}),
    ):
        assert assign(line, capacity) == Assignment(uncovered=tuple(line))


def test_a_floor_is_met_by_the_first_executor_that_is_strong_enough() -> None:
    offers = [
        Offer(name, "local", 1, rank) for name, rank in (("weak", Isolation.CONTAINER), ("s", Isolation.MICRO_VM))
    ]
    line = [Waiter(1, "ann", ("local",), floor=Isolation.SANDBOXED), Waiter(2, "bob", ("local",))]
    assert assign(line, Capacity(warm={"local": offers})).claims == (("ann", "s"), ("bob", "weak"))


def test_wanted_executors_are_counted_by_principal_and_slots() -> None:
    line = waiters("ann", "ann", "ann", "ann", "ann", "bob")
    assert wanted_executors(line, {"local": 4}) == {"local": 3}


def test_an_execution_is_wanted_in_every_tier_of_its_route() -> None:
    assert wanted_executors(waiters("ann", tiers=TIERS), {"local": 4, "gpu": 1}) == {"local": 1, "gpu": 1}


def test_a_turn_is_expected_by_the_pace_of_the_pool() -> None:
    assert [seconds_until_a_turn(*case) for case in ((0, 4, 0.1), (7, 4, 2.0), (500, 1, 60.0), (3, 0, 1.0))] == [
        1,
        4,
        60,
        4,
    ]


def test_one_that_comes_back_keeps_its_place() -> None:
    line = Line()
    first, second = waiters("ann", "bob")
    line.join(first)
    line.join(second)
    line.leave(first.number)
    line.join(first)
    assert [waiter.number for waiter in line] == [1, 2]


def test_the_line_says_whose_deadline_has_passed() -> None:
    line = Line()
    for number, deadline in ((1, 10.0), (2, 5.0), (3, 7.0)):
        line.join(Waiter(number, "ann", ("local",), deadline))
    assert [waiter.number for waiter in line.expired(7.0)] == [2, 3]


offers = st.lists(st.tuples(st.sampled_from(TIERS), st.integers(1, 4)), max_size=3)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[Waiter], Capacity]:
    names = iter(f"e{number}" for number in range(1000))

    def some() -> list[Offer]:
        return [Offer(next(names), tier, slots) for tier, slots in draw(offers)]

    line = [
        Waiter(
            number,
            draw(st.sampled_from(PRINCIPALS)),
            draw(st.sampled_from((TIERS, TIERS[:1], TIERS[1:], TIERS[::-1]))),
            session=draw(st.sampled_from(("", "", f"s{number}"))),
        )
        for number in range(draw(st.integers(0, 12)))
    ]
    by_principal = {kind: {name: some() for name in PRINCIPALS} for kind in ("free", "coming", "known")}
    warm = {
        tier: [Offer(next(names), tier, draw(st.integers(1, 4))) for _ in range(draw(st.integers(0, 3)))]
        for tier in TIERS
    }
    return line, Capacity(warm=warm, **by_principal)


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_assignments_keep_the_rules_in_any_scene(scene: tuple[list[Waiter], Capacity]) -> None:
    line, capacity = scene
    got = assign(line, capacity)
    by_number = {waiter.number: waiter for waiter in line}
    free = {offer.executor: (name, offer) for name, listed in capacity.free.items() for offer in listed}
    # A seat is a free slot of the waiter's own principal, in a tier of its route, and none is given twice.
    for executor in {executor for _, executor in got.seats}:
        seated = [by_number[number] for number, where in got.seats if where == executor]
        name, room = free[executor]
        assert len(seated) <= room.slots
        assert all(waiter.claimant == name and room.tier in waiter.tiers for waiter in seated)
    # An executor is claimed once, and a known one only by whom it serves.
    claimed = [executor for _, executor in got.claims]
    assert len(claimed) == len(set(claimed))
    for principal, executor in got.claims:
        owner = next(
            (name for name, listed in capacity.known.items() if any(o.executor == executor for o in listed)), principal
        )
        assert owner == principal
    # Strict order: whatever is warm and still there is of no use to anyone who is left waiting.
    left = {tier for tier, listed in capacity.warm.items() if any(o.executor not in claimed for o in listed)}
    assert not any(left & set(waiter.tiers) for waiter in got.uncovered)
    assert [waiter.number for waiter in got.uncovered] == sorted(waiter.number for waiter in got.uncovered)


@settings(max_examples=300, deadline=None)
@given(scenes())
def test_nobody_claims_more_than_its_executions_need(scene: tuple[list[Waiter], Capacity]) -> None:
    line, capacity = scene
    got = assign(line, capacity)
    for name in PRINCIPALS:
        waiting = [waiter for waiter in line if waiter.claimant == name]
        seats = sum(1 for number, _ in got.seats if any(waiter.number == number for waiter in waiting))
        claims = sum(1 for principal, _ in got.claims if principal == name)
        assert claims <= len(waiting) - seats


@settings(max_examples=200, deadline=None)
@given(scenes())
def test_a_later_arrival_never_changes_what_those_before_it_get(scene: tuple[list[Waiter], Capacity]) -> None:
    line, capacity = scene
    whole, without_last = assign(line, capacity), assign(line[:-1], capacity)
    numbers = {waiter.number for waiter in line[:-1]}
    assert tuple(seat for seat in whole.seats if seat[0] in numbers) == without_last.seats
    assert whole.claims[: len(without_last.claims)] == without_last.claims
