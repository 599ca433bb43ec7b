"""What the account's limits let through, and in which words the rest is refused."""

import time
from collections.abc import Callable

import pytest
from e2b import RateLimitException, SandboxException
from e2b_code_interpreter import Sandbox
from tests.component.emulator_world import EmulatorWorld, Reply, emulator, shared, world

__all__ = ["shared", "world"]

BASE = {"templateID": "base"}


@pytest.fixture(autouse=True)
def far_limits(world: EmulatorWorld) -> None:
    """Every test begins with the limits of the others."""
    world.admin(
        "PATCH", "/account", {"sandboxes": 20, "creates": 100, "creates_burst": 100, "executions_per_minute": 0}
    )


def created_by(world: EmulatorWorld) -> Callable[[], Reply]:
    return lambda: world.rest("POST", "/v2/sandboxes", BASE)


def test_hobby_lets_one_creation_a_second_through_and_twenty_sandboxes() -> None:
    with emulator(plan="hobby", warm=0) as world:
        assert world.admin("GET", "/account").json() == {
            "sandboxes": 20,
            "creates": {"limit": 1, "window_seconds": 1, "burst": 1},
            "max_lifetime_seconds": 3600,
            "management": {"limit": 20_000, "window_seconds": 30, "burst": 1000},
            "executions": None,
        }
        first, second = (world.rest("POST", "/v2/sandboxes", {"templateID": "base"}) for _ in range(2))
        assert (first.status, first.headers["ratelimit-limit"]) == (201, "1")
        took = world.history().created()[0].late_seconds
        assert second.status == (429 if took < 0.9 else 201)


def test_pro_lets_five_a_second_through_and_a_hundred_sandboxes() -> None:
    with emulator(plan="pro", warm=0) as world:
        account = world.admin("GET", "/account").json()
        assert (account["sandboxes"], account["creates"]["limit"], account["max_lifetime_seconds"]) == (100, 5, 86_400)


def test_a_creation_beyond_the_rate_says_when_to_come_again(world: EmulatorWorld) -> None:
    world.admin("PATCH", "/account", {"creates": 1, "creates_burst": 1, "creates_window_seconds": 5})
    assert world.rest("POST", "/v2/sandboxes", BASE).status == 201
    refused = world.rest("POST", "/v2/sandboxes", BASE)
    assert refused.status == 429
    assert refused.json() == {"code": 429, "message": "Rate limit exceeded"}
    assert refused.headers["retry-after"] in ("4", "5")
    world.admin("PATCH", "/account", {"creates_window_seconds": 1})


def test_the_sdk_waits_as_it_is_told_and_then_succeeds(world: EmulatorWorld) -> None:
    world.admin("PATCH", "/account", {"creates": 1, "creates_burst": 1, "creates_window_seconds": 2})
    began = time.monotonic()
    world.create(template="base")
    world.create(template="base")
    assert time.monotonic() - began > 1.5
    with pytest.raises(RateLimitException, match="Rate limit exceeded"):
        world.create(template="base", retries=0)
    world.admin("PATCH", "/account", {"creates_window_seconds": 1})


def test_one_sandbox_too_many_is_refused_without_a_time_to_wait_for(world: EmulatorWorld) -> None:
    world.admin("PATCH", "/account", {"sandboxes": 2})
    held = [world.create(template="base") for _ in range(2)]
    refused = world.rest("POST", "/v2/sandboxes", BASE)
    assert refused.status == 429
    assert refused.json()["message"].startswith("you have reached the maximum number of concurrent E2B sandboxes (2).")
    assert "retry-after" not in refused.headers
    with pytest.raises(RateLimitException, match="maximum number of concurrent"):
        world.create(template="base", retries=0)
    held[0].kill()
    world.create(template="base")


def test_a_paused_sandbox_does_not_count_and_comes_back_only_when_there_is_room(world: EmulatorWorld) -> None:
    world.admin("PATCH", "/account", {"sandboxes": 1})
    paused = world.create(template="base")
    paused.pause()
    other = world.create(template="base")
    with pytest.raises(RateLimitException, match="maximum number of concurrent"):
        Sandbox.connect(paused.sandbox_id, **world.connection, retries=0)
    other.kill()
    Sandbox.connect(paused.sandbox_id, **world.connection)


def test_executions_beyond_their_rate_are_refused_in_the_services_words(world: EmulatorWorld) -> None:
    sandbox = world.create()
    world.admin("PATCH", "/account", {"executions_per_minute": 60, "executions_burst": 3})
    for _ in range(3):
        sandbox.run_code("1")
    with pytest.raises(SandboxException, match=r"429 Too Many Requests.*Rate limit exceeded, please try again later\."):
        sandbox.run_code("1")
    assert sandbox.commands.run("echo commands are no executions").exit_code == 0
    time.sleep(1.05)
    assert sandbox.run_code("1").text == "1"
    assert world.history().refusals("execute") == [("execute", 429)]


def test_an_account_can_be_changed_while_it_runs_and_not_to_nonsense(world: EmulatorWorld) -> None:
    assert world.admin("PATCH", "/account", {"sandboxes": 3}).json()["sandboxes"] == 3
    assert world.admin("PATCH", "/account", {"creates": 0}).status == 400
    assert world.admin("PATCH", "/account", {"unknown": 1}).status == 400
    assert world.admin("PATCH", "/knobs", {"list_lag_seconds": 31}).status == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"templateID": "base", "timeout": 0}, "Timeout must be greater than 0"),
        ({"templateID": "base", "timeout": 3601}, "Timeout cannot be greater than 1 hours"),
        ({"templateID": "base", "timeout": "1"}, "timeout must be a whole number of seconds"),
        ({"templateID": "base", "metadata": {"a": 1}}, "metadata must be an object of texts"),
        ({}, "templateID must be a text"),
        (b"[]", "the body is not a JSON object"),
        (b"{", "the body is not JSON"),
    ],
    ids=["no time", "too much time", "time as text", "number in metadata", "no template", "a list", "half an object"],
)
def test_a_creation_that_makes_no_sense_is_refused_with_a_sentence(
    world: EmulatorWorld, body: object, message: str
) -> None:
    reply = world.rest("POST", "/v2/sandboxes", body)
    assert (reply.status, reply.json()) == (400, {"code": 400, "message": message})


def test_creations_take_as_long_as_was_measured_on_the_service() -> None:
    with emulator(latency="published", warm=3, seed=3) as world:
        began = time.monotonic()
        for _ in range(3):
            world.create()
        entries = world.history().created()
        drawn = sum(entry.drawn_seconds for entry in entries)
        late = sum(entry.late_seconds for entry in entries)
        assert drawn <= time.monotonic() - began < drawn + late + 1.0
        assert all(entry.drawn_seconds > 0.1 for entry in entries)
