"""Budgets: no window is ever over its limit, nothing is refused that could have been let through."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.core.budget import NANOSECONDS, Bucket, Rate, SpendWindow

rates = st.builds(Rate, st.integers(1, 50), st.integers(1, 120), st.integers(1, 20))
gaps = st.lists(st.one_of(st.just(0), st.integers(0, 3 * NANOSECONDS), st.integers(0, 200 * NANOSECONDS)), max_size=200)


def let_through(rate: Rate, waits: list[int], restarts: set[int] = frozenset()) -> list[int]:
    """When events are let through that are asked for after these gaps; the owner starts anew before some of them."""
    now, bucket, times = 0, Bucket(rate, 0), []
    for number, gap in enumerate(waits):
        now += gap
        if number in restarts:
            bucket = Bucket(rate, now)
        if bucket.take(now):
            times.append(now)
    return times


def most_in_a_window(times: list[int], seconds: int) -> int:
    window = seconds * NANOSECONDS
    return max((sum(begin <= time < begin + window for time in times) for begin in times), default=0)


@given(rates, gaps, st.sets(st.integers(0, 200)))
def test_no_window_is_over_its_limit_whatever_comes_and_whenever_its_owner_starts_anew(
    rate: Rate, waits: list[int], restarts: set[int]
) -> None:
    assert most_in_a_window(let_through(rate, waits, restarts), rate.window_seconds) <= rate.most_in_a_window


@given(rates, gaps)
def test_an_event_is_refused_only_if_the_even_pace_has_no_place_for_it(rate: Rate, waits: list[int]) -> None:
    interval = rate.window_seconds * NANOSECONDS / rate.limit
    arrival, now, bucket = rate.burst * interval, 0, Bucket(rate, 0)
    for gap in waits:
        now += gap
        fits = now >= arrival - (rate.burst - 1) * interval
        if abs(now - (arrival - (rate.burst - 1) * interval)) < 1e-3 * interval:
            return  # too close for floats to tell
        assert bucket.take(now) is fits
        arrival = max(arrival, now) + interval if fits else arrival


@given(rates, gaps)
def test_whoever_waits_as_told_is_let_through_and_a_moment_earlier_is_not(rate: Rate, waits: list[int]) -> None:
    now, bucket = 0, Bucket(rate, 0)
    for gap in waits:
        now += gap
        wait = bucket.wait(now)
        assert wait == 0 or not bucket.take(now + wait - 1)
        assert (wait == 0) is (bucket.remaining(now) > 0)
        now += wait
        assert bucket.take(now)


@given(rates, st.integers(1, 30))
def test_the_wait_for_several_is_when_the_last_of_them_may_come(rate: Rate, events: int) -> None:
    bucket, told, now = Bucket(rate, 0), Bucket(rate, 0).wait(0, events), 0
    for _ in range(events):
        now += bucket.wait(now)
        assert bucket.take(now)
    assert abs(now - told) <= events  # each wait is rounded up to a whole ns


@given(rates, st.integers(0, 1000 * NANOSECONDS))
def test_as_many_as_remain_can_be_taken_at_once(rate: Rate, now: int) -> None:
    bucket = Bucket(rate, 0)
    remaining = bucket.remaining(now)
    assert [bucket.take(now) for _ in range(remaining + 1)] == [True] * remaining + [False]


def test_what_did_not_happen_is_given_back() -> None:
    bucket = Bucket(Rate(1, 1), 0)
    assert bucket.take(NANOSECONDS)
    assert not bucket.take(NANOSECONDS)
    bucket.give_back()
    assert bucket.take(NANOSECONDS)


def test_a_changed_rate_begins_empty_and_the_same_one_goes_on() -> None:
    bucket = Bucket(Rate(10, 1, 10), 0)
    assert bucket.renewed(Rate(10, 1, 10), 5) is bucket
    assert bucket.renewed(Rate(20, 1, 20), 60 * NANOSECONDS).remaining(60 * NANOSECONDS) == 0


@pytest.mark.parametrize("numbers", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_a_rate_of_nothing_is_an_error(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Rate(*numbers)


grants = st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 500), st.floats(0, 1)), max_size=60)


@given(st.integers(0, 20_000), grants)
def test_reserved_and_settled_together_never_exceed_the_limit(limit: int, wanted: list[tuple[int, int, float]]) -> None:
    now, window, open_grants, spent = 0, SpendWindow(limit, 3600, 0), [], {}
    for amount, gap, used in wanted:
        now += gap
        window = window.at(now)
        if (reserved := window.reserve(amount)) is not None:
            window = reserved
            open_grants.append((amount, int(amount * used)))
        elif open_grants:
            granted, cost = open_grants.pop(0)
            window = window.settle(granted, cost)
            spent[window.start] = spent.get(window.start, 0) + cost
        assert window.settled + window.reserved <= limit
    assert all(total <= limit for total in spent.values())


def test_windows_follow_without_a_gap_and_reservations_move_on() -> None:
    window = SpendWindow(100, 60, 0).reserve(40)
    assert window is not None
    later = window.settle(10, 10).at(150)
    assert (later.start, later.end, later.settled, later.reserved, later.left) == (120, 180, 0, 30, 70)
    starts = [window.at(now).start for now in range(0, 300, 7)]
    assert all(after - before in (0, 60) for before, after in pairwise(starts))


def test_a_cost_above_its_reservation_is_booked_in_full() -> None:
    assert SpendWindow(100, 60, 0, reserved=10).settle(10, 25).settled == 25


def test_an_event_that_happens_later_than_it_was_taken_keeps_the_next_one_away_from_itself():
    bucket = Bucket(Rate(1, 1), 0)
    assert bucket.take(NANOSECONDS)
    bucket.happened(NANOSECONDS + NANOSECONDS // 4)
    assert bucket.wait(2 * NANOSECONDS) == NANOSECONDS // 4
