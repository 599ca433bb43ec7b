"""The ledger: what a client was told is in it, and so is what it was not told."""

import http.client
import time
from pathlib import Path

import pytest
from e2b import SandboxException
from tests.component.emulator_world import EmulatorWorld, emulator, shared, until, world

from execpool.emulator.ledger import Event, History

__all__ = ["shared", "world"]


def test_a_life_is_told_from_its_creation_to_its_end(world: EmulatorWorld) -> None:
    sandbox = world.create(template="base", metadata={"tag": "a life"}, timeout=60)
    sandbox.set_timeout(100)
    sandbox.pause()
    time.sleep(0.3)
    sandbox.connect(timeout=50)
    sandbox.kill()
    history = world.history()
    mine = [entry for entry in history.entries if entry.sandbox_id == sandbox.sandbox_id]
    assert [entry.event for entry in mine] == [
        Event.CREATED,
        Event.EXTENDED,
        Event.PAUSED,
        Event.RESUMED,
        Event.KILLED,
    ]
    assert all(entry.request_id and entry.metadata == {"tag": "a life"} for entry in mine)
    life = history.lives[sandbox.sandbox_id]
    assert round(life.deadline - mine[3].time) == 50
    whole = mine[-1].time - mine[0].time
    assert life.seconds(time.time()) < whole - 0.29


def test_a_request_is_named_in_the_ledger_as_in_its_answer(world: EmulatorWorld) -> None:
    reply = world.rest("POST", "/v2/sandboxes", {"templateID": "base"}, headers={"Idempotency-Key": "k1"})
    entry = world.history().created()[-1]
    assert (entry.request_id, entry.idempotency_key) == (reply.headers["x-request-id"], "k1")


def test_who_is_alive_follows_from_the_ledger_and_is_what_the_list_says(world: EmulatorWorld) -> None:
    before = time.time()
    made = [world.create(template="base") for _ in range(3)]
    made[0].kill()
    history = world.history()
    assert history.alive(before) == set()
    assert history.alive(time.time()) == {sandbox.sandbox_id for sandbox in made[1:]} == set(world.listed())
    assert history.most_alive() >= 3


def test_duplicates_are_those_that_were_created_with_the_same_tag(world: EmulatorWorld) -> None:
    ids = [world.create(template="base", metadata={"slot": slot}).sandbox_id for slot in ("one", "two", "two")]
    assert world.history().duplicates("slot") == {"two": ids[1:]}


def test_refusals_are_told_with_their_status(world: EmulatorWorld) -> None:
    with pytest.raises(SandboxException):
        world.create(template="nothing")
    assert world.rest("GET", "/v2/sandboxes", key="e2b_ffff").status == 401
    assert world.history().refusals()[-2:] == [("create", 404), ("list", 401)]


def test_the_ledger_can_be_read_over_http_too(world: EmulatorWorld) -> None:
    world.create(template="base")
    text = world.admin("GET", "/ledger").body
    assert text == world.ledger.read_bytes()


def test_time_and_money_are_counted_for_what_ran(world: EmulatorWorld) -> None:
    sandbox = world.create()
    time.sleep(0.5)
    sandbox.kill()
    history = world.history()
    life = history.lives[sandbox.sandbox_id]
    alone = History([entry for entry in history.entries if entry.sandbox_id == sandbox.sandbox_id])
    seconds = alone.sandbox_seconds(time.time())
    assert 0.5 <= seconds == life.seconds(time.time()) < 1.5
    # 2 vCPU at $0.000014 and 2 GiB at $0.0000045 a second
    assert alone.cost_microusd(time.time()) == pytest.approx(seconds * 37)


def test_a_creation_goes_on_when_its_caller_does_not_wait_and_is_in_the_ledger(world: EmulatorWorld) -> None:
    world.fault("create", "hang", after_commit=True, seconds=2)
    with pytest.raises(TimeoutError):
        impatient(world)
    until(lambda: world.history().created()[-1].metadata == {"tag": "orphan"})
    assert world.history().created()[-1].sandbox_id in world.listed()


def impatient(world: EmulatorWorld) -> None:
    client = http.client.HTTPConnection("127.0.0.1", world.port, timeout=0.2)
    body = b'{"templateID": "base", "metadata": {"tag": "orphan"}}'
    try:
        client.request("POST", "/v2/sandboxes", body, {"X-API-Key": "e2b_00"})
        client.getresponse()
    finally:
        client.close()


def test_an_emulator_that_starts_again_adds_to_its_ledger_and_nothing_is_alive(tmp_path: Path) -> None:
    with emulator(tmp_path, warm=0) as world:
        first = world.create(template="base").sandbox_id
        world.process.kill()
        world.process.wait()
    with emulator(tmp_path, warm=0) as world:
        second = world.create(template="base").sandbox_id
        assert world.history().alive(time.time()) == {second}
        assert {entry.sandbox_id for entry in world.history().created()} == {first, second}
    assert History.load(world.ledger).alive(time.time()) == set()
