"""What gateways tell the operator: written and read back, added up, and never trusted."""

from hypothesis import given
from hypothesis import strategies as st

from execpool.controller.demand import DemandBoard
from execpool.core.demand import pools_named, read_demand, write_demand
from execpool.core.model import Demand
from execpool.kube.client import EventType

NAMES = st.text("abc-", min_size=1, max_size=8)
DEMANDS = st.builds(Demand, st.dictionaries(NAMES, st.integers(1, 1000), max_size=3), st.integers(0, 1000))


@given(st.dictionaries(NAMES, DEMANDS, max_size=4))
def test_what_is_written_is_read_back(pools: dict[str, Demand]):
    annotation = write_demand(pools)
    assert all(read_demand([annotation], key) == demand for key, demand in pools.items())
    assert pools_named(annotation) <= pools.keys()


@given(DEMANDS, DEMANDS)
def test_the_demands_of_gateways_add_up(one: Demand, other: Demand):
    both = read_demand([write_demand({"a/p": one}), write_demand({"a/p": other})], "a/p")
    assert both.claims == one.claims + other.claims
    assert sum(both.waiting.values()) == sum(one.waiting.values()) + sum(other.waiting.values())


@given(
    st.one_of(
        st.text(), st.sampled_from(["[]", '{"a/p": 5}', '{"a/p": {"claims": -1, "waiting": {"t": "9"}}}', "[" * 5000])
    )
)
def test_an_annotation_that_makes_no_sense_is_no_demand(annotation: str):
    demand = read_demand([annotation], "a/p")
    assert (demand.claims, sum(demand.waiting.values())) == (0, 0)


def lease(annotation: str, renewed: str = "t0") -> dict:
    metadata = {"name": "gateway-0", "annotations": {"execpool.dev/demand": annotation}}
    return {"metadata": metadata, "spec": {"leaseDurationSeconds": 60, "renewTime": renewed}}


def test_a_dead_gateway_counts_until_its_lease_has_been_silent_for_its_lifetime():
    now = [0.0]
    board = DemandBoard(lambda _before, _after: None, clock=lambda: now[0])
    board.hear(EventType.ADDED, lease(write_demand({"a/p": Demand({"local": 2}, 1)})))
    now[0] = 60.0
    assert board.of("a/p").waiting == {"local": 2}
    now[0] = 60.1
    assert board.of("a/p").waiting == {}


def test_a_lease_that_goes_takes_its_demand_with_it_and_wakes_its_pools():
    told = []
    board = DemandBoard(lambda before, after: told.append((before, after)))
    annotation = write_demand({"a/p": Demand({"local": 2}, 1)})
    board.hear(EventType.ADDED, lease(annotation))
    board.hear(EventType.MODIFIED, lease(annotation, "t1"))
    board.hear(EventType.DELETED, lease(annotation, "t1"))
    assert told == [("", annotation), (annotation, "")]
    assert board.of("a/p") == Demand({}, 0)
