"""Lists: pages, filters, order, and a list that lags behind."""

import time
from datetime import datetime, timedelta

import pytest
from e2b import AsyncSandbox, SandboxQuery, SandboxState
from tests.component.emulator_world import EmulatorWorld, shared, world

__all__ = ["shared", "world"]


def test_pages_show_every_sandbox_once_the_newest_first(world: EmulatorWorld) -> None:
    made = [world.create(template="base").sandbox_id for _ in range(5)]
    assert world.listed(limit=2) == made[::-1]
    assert world.listed(limit=2, order="asc") == made
    first = world.rest("GET", "/v2/sandboxes?limit=2")
    assert first.headers["x-total-running"] == "5"
    assert "x-next-token" in first.headers
    assert "x-next-token" not in world.rest("GET", "/v2/sandboxes?limit=5").headers


def test_a_sandbox_that_ends_between_pages_moves_nobody(world: EmulatorWorld) -> None:
    made = [world.create(template="base") for _ in range(4)]
    first = world.rest("GET", "/v2/sandboxes?limit=2")
    made[3].kill()
    rest = world.rest("GET", f"/v2/sandboxes?limit=2&nextToken={first.headers['x-next-token']}")
    assert [each["sandboxID"] for each in rest.json()] == [made[1].sandbox_id, made[0].sandbox_id]


@pytest.mark.parametrize("value", ["c&d", "a=b", "100%", "a+b", "ü ö", ""], ids=lambda value: f"value {value!r}")
def test_metadata_is_found_whatever_is_in_it(world: EmulatorWorld, value: str) -> None:
    wanted = world.create(template="base", metadata={"a b": value, "also": "x"}).sandbox_id
    world.create(template="base", metadata={"a b": value + "!"})
    assert world.listed(query=SandboxQuery(metadata={"a b": value})) == [wanted]
    assert world.listed(query=SandboxQuery(metadata={"a b": value, "also": "x"})) == [wanted]
    assert world.listed(query=SandboxQuery(metadata={"a b": value, "also": "y"})) == []


async def test_the_asynchronous_sdk_pages_too(world: EmulatorWorld) -> None:
    made = {(await world.acreate(template="base", metadata={"k": "v"})).sandbox_id for _ in range(3)}
    pages = AsyncSandbox.list(**world.connection, query=SandboxQuery(metadata={"k": "v"}), limit=2)
    found = set()
    while pages.has_next:
        found |= {info.sandbox_id for info in await pages.next_items()}
    assert found == made


def test_states_templates_and_starts_are_filters(world: EmulatorWorld) -> None:
    old = world.create(template="base")
    old.pause()
    time.sleep(0.01)
    since = datetime.now().astimezone()
    new = world.create()
    assert world.listed(query=SandboxQuery(state=[SandboxState.RUNNING])) == [new.sandbox_id]
    assert world.listed(query=SandboxQuery(state=[SandboxState.PAUSED])) == [old.sandbox_id]
    assert set(world.listed()) == {old.sandbox_id, new.sandbox_id}
    assert world.listed(query=SandboxQuery(template="base")) == [old.sandbox_id]
    assert world.listed(query=SandboxQuery(started_after=since)) == [new.sandbox_id]
    assert world.listed(query=SandboxQuery(started_after=since + timedelta(minutes=1))) == []


def test_the_old_list_shows_what_runs_without_pages(world: EmulatorWorld) -> None:
    paused, running = world.create(template="base"), world.create(template="base")
    paused.pause()
    assert [each["sandboxID"] for each in world.rest("GET", "/sandboxes").json()] == [running.sandbox_id]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=x", "order=up", "state=gone", "nextToken=%21", "startedAfter=noon"]
)
def test_a_query_that_makes_no_sense_is_refused(world: EmulatorWorld, query: str) -> None:
    assert world.rest("GET", f"/v2/sandboxes?{query}").status == 400


def test_a_list_that_lags_shows_how_it_was(world: EmulatorWorld) -> None:
    gone = world.create(template="base")
    time.sleep(0.6)
    world.admin("PATCH", "/knobs", {"list_lag_seconds": 0.5})
    new = world.create(template="base")
    gone.kill()
    assert world.listed() == [gone.sandbox_id]
    time.sleep(0.6)
    assert world.listed() == [new.sandbox_id]
    world.admin("PATCH", "/knobs", {"list_lag_seconds": 0})
