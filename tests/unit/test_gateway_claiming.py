"""Routes, and the order in which warm executors are chosen."""

import pytest

from execpool.api.names import Isolation
from execpool.core.claiming import Route, Target, choose_route, in_order_of_choice, without
from execpool.gateway.pods import target_of

TIERS = {"local": Isolation.USER_NAMESPACE, "safe": Isolation.SANDBOXED}


def target(name: str, *, template: str = "t1", created: float = 0.0) -> Target:
    return Target(name, name, "10.0.0.1", f"id-{name}", "k", "local", template, created, ready=True)


def test_without_a_wish_tiers_are_in_the_pools_order() -> None:
    assert choose_route(TIERS, None, None).tiers == ("local", "safe")


def test_a_named_tier_is_the_only_one() -> None:
    assert choose_route(TIERS, "safe", None).tiers == ("safe",)


@pytest.mark.parametrize(
    ("floor", "tiers"),
    [
        (Isolation.INTERPRETER, ("local", "safe")),
        (Isolation.USER_NAMESPACE, ("local", "safe")),
        (Isolation.SANDBOXED, ("safe",)),
        (Isolation.MICRO_VM, ()),
    ],
)
def test_isolation_is_a_floor(floor: Isolation, tiers: tuple[str, ...]) -> None:
    assert choose_route(TIERS, None, floor).tiers == tiers


def test_a_named_tier_that_is_too_weak_is_no_route() -> None:
    assert choose_route(TIERS, "local", Isolation.SANDBOXED).tiers == ()


def test_reasons_say_which_tiers_were_too_weak() -> None:
    assert "excludes local" in choose_route(TIERS, None, Isolation.SANDBOXED).reasons[1]


def test_a_tier_that_does_not_run_the_code_leaves_the_route_and_says_why() -> None:
    rest = without(Route(("math", "local"), ("tiers in the pool's order",)), "math", "yield is not supported")
    assert rest.tiers == ("local",)
    assert rest.reasons == ("tiers in the pool's order", "not on math: yield is not supported")


def test_the_newest_template_comes_first_and_the_oldest_executor_within_it() -> None:
    listed = [target("a", created=1), target("b", template="t2", created=3), target("c", template="t2", created=2)]
    assert [one.name for one in in_order_of_choice([*listed, target("d", created=0)])] == ["c", "b", "d", "a"]


def pod(**changes: object) -> dict[str, object]:
    base = {
        "metadata": {
            "name": "p",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"execpool.dev/tier": "local", "execpool.dev/executor-id": "x"},
        },
        "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }
    return {part: {**value, **changes.get(part, {})} for part, value in base.items()}  # type: ignore[dict-item]


def test_a_ready_pod_is_a_ready_executor() -> None:
    found = target_of(pod())
    assert found is not None
    assert (found.ready, found.created_at, found.address) == (True, 1767225600.0, "10.0.0.1")


MONTY = {"name": "EXECPOOL_RUNTIME", "value": "Monty"}


@pytest.mark.parametrize(
    ("spec", "isolation"),
    [
        ({}, "Container"),
        ({"hostUsers": None, "runtimeClassName": None}, "Container"),
        ({"hostUsers": True}, "Container"),
        ({"hostUsers": False}, "UserNamespace"),
        ({"hostUsers": False, "runtimeClassName": "gvisor"}, "Sandboxed"),
        ({"runtimeClassName": "gvisor"}, "Sandboxed"),
        ({"runtimeClassName": "gvisor", "containers": [{}, {"env": [MONTY]}]}, "Interpreter"),
        ({"containers": [{"env": [{"name": "EXECPOOL_RUNTIME", "value": "Python"}]}]}, "Container"),
    ],
)
def test_an_executor_is_isolated_as_its_own_pod_says(spec: dict[str, object], isolation: str) -> None:
    found = target_of(pod() | {"spec": spec})
    assert found is not None
    assert found.isolation == isolation


@pytest.mark.parametrize(
    ("said", "isolation"),
    [
        ("Interpreter", "Interpreter"),
        ("MicroVM", "UserNamespace"),
        ("Container", "Container"),
        ("strong", "UserNamespace"),
    ],
)
def test_a_node_may_say_that_an_executor_is_isolated_less_but_never_more(said: str, isolation: str) -> None:
    found = target_of(pod(metadata={"annotations": {"execpool.dev/isolation": said}}) | {"spec": {"hostUsers": False}})
    assert found is not None
    assert found.isolation == isolation


@pytest.mark.parametrize(
    "changes",
    [
        {"status": {"phase": "Succeeded"}},
        {"status": {"phase": "Failed"}},
        {"metadata": {"labels": None}},
        {"metadata": {"labels": {"execpool.dev/tier": "local"}}},
    ],
)
def test_what_has_ended_or_is_not_ours_is_no_executor(changes: dict[str, object]) -> None:
    assert target_of(pod(**changes)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"status": {"conditions": [{"type": "Ready", "status": "False"}]}},
        {"status": {"conditions": None}},
        {"status": {"podIP": None}},
        {"status": {"podIP": "evil.example/x"}},
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
    ],
)
def test_a_pod_that_cannot_serve_is_not_ready(changes: dict[str, object]) -> None:
    found = target_of(pod(**changes))
    assert found is not None
    assert not found.ready
