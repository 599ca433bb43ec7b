"""The breaker: what opens it, what closes it, and that a backend is never flooded by those who try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.core.breaker import (
    DENIED_SECONDS,
    FIRST_SECONDS,
    LONGEST_SECONDS,
    PROBE_SECONDS,
    TRIP_AFTER,
    Breaker,
    BreakerState,
    Seen,
)


def failing(times: int, now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(times):
        breaker = breaker.told(Seen.FAILURE, now)
    return breaker


def test_a_few_failures_do_not_open_and_a_success_forgets_them():
    breaker = failing(TRIP_AFTER - 1)
    assert breaker.state(0) is BreakerState.CLOSED
    assert breaker.told(Seen.SUCCESS, 0) == Breaker()


def test_failures_in_a_row_open_and_the_first_request_after_the_wait_is_the_only_one():
    breaker = failing(TRIP_AFTER)
    assert (breaker.state(0), breaker.wait(0)) == (BreakerState.OPEN, 1.0)
    assert (breaker.state(1), breaker.wait(1)) == (BreakerState.HALF_OPEN, 0.0)
    probing = breaker.asking(1)
    assert probing.wait(1) == PROBE_SECONDS
    assert probing.wait(1 + PROBE_SECONDS) == 0.0
    assert probing.told(Seen.SUCCESS, 2) == Breaker()


def test_each_probe_that_fails_doubles_the_wait_up_to_a_minute():
    breaker, waits = failing(TRIP_AFTER), []
    now = 0.0
    for _ in range(9):
        waits.append(breaker.wait(now))
        now += breaker.wait(now)
        breaker = breaker.asking(now).told(Seen.FAILURE, now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize("state", [Breaker(), failing(2), failing(TRIP_AFTER)])
def test_a_denial_opens_at_once_and_for_a_minute(state: Breaker):
    assert state.told(Seen.DENIED, 5).wait(5) == DENIED_SECONDS


def test_what_says_nothing_about_the_backend_changes_nothing_but_frees_the_probe():
    assert failing(2).told(Seen.NEUTRAL, 0) == failing(2)
    probing = failing(TRIP_AFTER).asking(1)
    assert probing.told(Seen.NEUTRAL, 1.5).wait(1.5) == 0.0


@given(
    st.lists(st.tuples(st.sampled_from(list(Seen)), st.integers(0, 90)), max_size=80), st.sampled_from([0.5, 0.75, 1.0])
)
def test_whoever_keeps_to_it_never_asks_while_it_is_open_and_never_waits_for_ever(told, spread):
    now, breaker = 0.0, Breaker()
    for seen, gap in told:
        now += gap
        wait = breaker.wait(now)
        assert 0 <= wait <= max(LONGEST_SECONDS, DENIED_SECONDS, PROBE_SECONDS)
        now += wait
        assert breaker.state(now) is not BreakerState.OPEN
        breaker = breaker.asking(now).told(seen, now, spread)


def test_what_was_asked_before_it_opened_and_fails_afterwards_does_not_keep_it_open_longer() -> None:
    together = Breaker()
    for _ in range(40):
        together = together.told(Seen.FAILURE, 100.0)
    assert together.wait(100.0) <= FIRST_SECONDS
