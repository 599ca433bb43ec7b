"""What refusals teach: bounded, paused as told, and forgotten again when the account lets through what was declared."""

from hypothesis import given
from hypothesis import strategies as st

from execpool.core.learning import LONGEST_PAUSE_SECONDS, PROBE_AFTER_SECONDS, LearnedNumber, LearnedRate

DECLARED = st.integers(1, 60_000)
EVENTS = st.lists(st.one_of(st.none(), st.floats(0, 1e9), st.sampled_from([0.0, 1.0])), max_size=60)
"""None: let through; a number: refused with that time to wait."""


def after(declared: int, events: list[float | None], step: float = 1.0) -> tuple[LearnedRate, float]:
    rate, now = LearnedRate(), 0.0
    for event in events:
        rate = rate.let_through(declared) if event is None else rate.refused(declared, event, now)
        now += step
    return rate, now


@given(DECLARED, EVENTS)
def test_the_rate_is_never_below_one_nor_above_what_was_declared(declared: int, events: list[float | None]):
    rate, now = after(declared, events)
    assert 1 <= rate.most(declared) <= declared
    assert 0 <= rate.wait(now) <= LONGEST_PAUSE_SECONDS


@given(DECLARED, EVENTS)
def test_enough_success_brings_back_what_was_declared(declared: int, events: list[float | None]):
    rate, _ = after(declared, events)
    for _ in range(60):
        rate = rate.let_through(declared)
    assert rate.per_minute is None


@given(DECLARED, st.integers(1, 100).map(lambda number: number * 2))
def test_a_refusal_halves_once_and_pauses_as_long_as_it_says(declared: int, seconds: int):
    rate = LearnedRate().refused(declared, seconds, 0.0)
    assert rate.most(declared) == max(declared // 2, 1)
    assert rate.wait(0.0) == seconds
    storm = rate.refused(declared, seconds, seconds / 2)
    assert storm.most(declared) == rate.most(declared)
    assert storm.wait(seconds / 2) == seconds
    again = rate.refused(declared, seconds, seconds + 1)
    assert again.most(declared) == max(declared // 4, 1)


@given(st.integers(1, 1000), st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=30))
def test_the_number_stays_between_none_and_what_was_declared(declared: int, events: list[tuple[bool, int]]):
    number, now = LearnedNumber(), 0.0
    for full, ours in events:
        number = number.full(min(ours, declared), now) if full else number.came(min(ours, declared), declared)
        now += 1.0
        assert 0 <= number.most(declared, now) <= declared


def test_a_full_account_is_tried_by_one_after_half_a_minute_and_grows_by_each_that_comes():
    full = LearnedNumber().full(7, 100.0)
    assert [full.most(20, at) for at in (100.0, 100.0 + PROBE_AFTER_SECONDS - 1)] == [7, 7]
    assert full.most(20, 100.0 + PROBE_AFTER_SECONDS) == 8
    grown = full.came(8, 20)
    assert grown.most(20, 200.0) == 9
    assert grown.came(20, 20) == LearnedNumber()
    assert grown.full(8, 200.0).most(20, 201.0) == 8
