"""Retries stay a tenth of what is tried, and one a second, whatever happens."""

from hypothesis import given
from hypothesis import strategies as st

from execpool.core.retrying import MOST, PER_SECOND, SHARE, RetryBudget

STEPS = st.lists(st.tuples(st.floats(0, 5), st.integers(0, 30), st.integers(0, 30)), max_size=40)


@given(STEPS)
def test_no_sequence_has_more_retries_than_a_tenth_one_a_second_and_what_was_saved_up(steps: list) -> None:
    now, tries, taken, budget = 100.0, 0, 0, RetryBudget(100.0)
    for pause, first, again in steps:
        now += pause
        for _ in range(first):
            budget.tried()
        tries += first
        taken += sum(budget.take(now) for _ in range(again))
        assert taken <= MOST + SHARE * tries + PER_SECOND * (now - 100.0) + 1e-6


def test_a_quiet_pool_may_try_again_a_few_times_at_once() -> None:
    budget = RetryBudget(0.0)
    assert [budget.take(0.0) for _ in range(21)] == [True] * 20 + [False]
    assert budget.take(1.0)


def test_what_is_saved_up_has_an_end() -> None:
    budget = RetryBudget(0.0)
    assert sum(budget.take(1e6) for _ in range(100)) == 20
