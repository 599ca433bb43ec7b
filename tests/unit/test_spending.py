"""Money: the formula, whose window it is, and that no order of grants, ends and crashes spends more than was allowed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.api.e2b import PoolSpend, Prices, Spend
from execpool.core.spending import (
    DAY_SECONDS,
    Grant,
    cost,
    pool_window,
    price,
    reserved_for,
    settled,
    spent_for,
    window,
)
from execpool.core.times import format_seconds

DAY = 20_000 * DAY_SECONDS


def test_the_published_prices_of_two_cpus_and_two_gib():
    nano = price(2, 2048, Prices())
    assert nano == 37_000
    assert cost(nano, 3600) == 133_200, "0.133 dollars an hour"


@pytest.mark.parametrize(("seconds", "micro"), [(-5, 0), (0, 0), (0.1, 37), (1, 37), (1.01, 74), (900, 33_300)])
def test_begun_seconds_are_paid_for(seconds: float, micro: int):
    assert cost(37_000, seconds) == micro


def test_what_is_kept_of_another_day_is_not_counted():
    kept = Spend(window_start=format_seconds(DAY), settled_micro_usd=500)
    assert window(1000, kept, (), DAY + 5).settled == 500
    assert window(1000, kept, (), DAY + DAY_SECONDS).settled == 0
    assert window(1000, kept, (), DAY + DAY_SECONDS).start == DAY + DAY_SECONDS


def test_a_sandbox_over_midnight_counts_in_each_day_what_falls_into_it():
    grant = Grant(1_000_000, DAY - 100, DAY + 200)
    assert reserved_for(grant, DAY - DAY_SECONDS) == 300_000
    assert reserved_for(grant, DAY) == 200_000
    assert spent_for(grant, DAY + 50, DAY) == 50_000


def test_without_a_limit_there_is_always_something_left():
    assert window(None, Spend(), [Grant(10**9, DAY, DAY + 900)], DAY).left > 10**14


@given(
    st.integers(10_000, 500_000),
    st.lists(st.tuples(st.integers(1, 900), st.integers(0, 900), st.booleans()), max_size=40),
)
def test_no_order_of_grants_ends_and_crashes_spends_more_than_was_allowed(limit: int, wishes: list):
    """Each wish: for how long, how soon it ends, and whether the process dies right after: it then counts again from records."""
    now, kept, grants, truth = float(DAY), Spend(window_start=format_seconds(DAY)), [], 0
    for seconds, ends_after, dies in wishes:
        money = window(limit, kept, grants, now)
        wanted = Grant(37_000, now, now + seconds)
        if money.reserve(reserved_for(wanted, money.start)) is not None:
            grants.append(wanted)
        now += ends_after
        if dies or not grants:
            continue
        ended = grants.pop(0)
        spent = spent_for(ended, now, DAY)
        truth += spent
        kept = Spend(window_start=format_seconds(DAY), settled_micro_usd=kept.settled_micro_usd + spent)
    still_running = sum(spent_for(grant, now, DAY) for grant in grants)
    assert truth + still_running <= limit or now >= DAY + DAY_SECONDS


def kept_entry(seconds: int = 3600, start: int = DAY, settled_micro: int = 500) -> PoolSpend:
    return PoolSpend(
        pool_uid="u",
        budget="b",
        pool="a/p",
        limit_micro_usd=10_000,
        window_seconds=seconds,
        window_start=format_seconds(start),
        settled_micro_usd=settled_micro,
    )


@pytest.mark.parametrize(
    ("entry", "now", "counted"),
    [
        pytest.param(kept_entry(), DAY + 3599, 500, id="its own window"),
        pytest.param(kept_entry(), DAY + 3600, 0, id="the next window"),
        pytest.param(kept_entry(86400), DAY + 7200, 500, id="of a longer window that is not over"),
        pytest.param(kept_entry(60), DAY + 3600, 0, id="of a shorter window that is over"),
    ],
)
def test_what_is_kept_of_a_pools_budget_counts_while_it_may_be_of_this_window(entry: PoolSpend, now: int, counted: int):
    assert pool_window(10_000, 3600, [entry], (), now).settled == counted


def test_a_sandbox_that_ends_is_booked_to_the_window_it_ends_in_with_what_falls_into_it():
    grant = Grant(1_000_000, DAY - 100, DAY + 3700)
    entry = settled(kept_entry(), grant, DAY + 50)
    assert entry.settled_micro_usd == 500 + 50_000
    later = settled(entry, grant, DAY + 3650)
    assert (later.settled_micro_usd, later.window_start) == (50_000, format_seconds(DAY + 3600))
