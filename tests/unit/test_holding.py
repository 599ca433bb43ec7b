"""When holds of sandboxes end: by a table, and by random holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.core.holding import LEAST_HELD_SECONDS, Hold, TierRoom, holds_to_end

TIERS = {"e2b": TierRoom(most=2, idle_seconds=60.0)}


def hold(name: str, idle: float | None, held: float = 100.0, tier: str = "e2b") -> Hold:
    return Hold(name, tier, held, idle)


@pytest.mark.parametrize(
    ("holds", "waiting", "idle", "for_others"),
    [
        ([], 5, (), ()),
        ([hold("a", 59.9)], 0, (), ()),
        ([hold("a", 60.0)], 0, ("a",), ()),
        ([hold("a", None, 9999.0)], 5, (), ()),
        ([hold("a", 1.0)], 1, (), ()),
        ([hold("a", 1.0)], 2, (), ("a",)),
        ([hold("a", 1.0), hold("b", 2.0)], 1, (), ("b",)),
        ([hold("a", 1.0), hold("b", 2.0)], 9, (), ("b", "a")),
        ([hold("a", 1.0), hold("b", 2.0, held=4.9)], 1, (), ("a",)),
        ([hold("a", 60.0), hold("b", 2.0)], 1, ("a",), ()),
        ([hold("a", 1.0, tier="gone")], 0, ("a",), ()),
        ([hold("a", None, tier="gone")], 0, (), ()),
    ],
)
def test_holds_end(holds: list[Hold], waiting: int, idle: tuple[str, ...], for_others: tuple[str, ...]):
    assert holds_to_end(holds, TIERS, {"e2b": waiting}) == (idle, for_others)


HOLDS = st.lists(
    st.builds(
        Hold,
        executor=st.uuids().map(str),
        tier=st.sampled_from(("e2b", "other")),
        held_seconds=st.floats(0, 100),
        idle_seconds=st.none() | st.floats(0, 100),
    ),
    max_size=12,
)


@given(HOLDS, st.integers(1, 8), st.integers(0, 20))
def test_nothing_that_runs_or_is_new_ends_for_others_and_never_more_than_they_need(
    holds: list[Hold], most: int, waiting: int
):
    idle, for_others = holds_to_end(holds, {"e2b": TierRoom(most, 50.0)}, {"e2b": waiting})
    by_name = {one.executor: one for one in holds}
    assert not set(idle) & set(for_others)
    assert all(by_name[name].idle_seconds is not None for name in (*idle, *for_others))
    assert all(by_name[name].held_seconds >= LEAST_HELD_SECONDS for name in for_others)
    left = sum(one.tier == "e2b" for one in holds) - sum(by_name[name].tier == "e2b" for name in idle)
    assert len(for_others) <= max(waiting - max(most - left, 0), 0)
