"""Sandboxes from their creation to their end, by the real SDK; what their processes do is checked too."""

import time
from typing import Any

import pytest
from e2b import AuthenticationException, NotFoundException, SandboxException, SandboxNotFoundException, SandboxState
from e2b_code_interpreter import AsyncSandbox, Sandbox
from tests.component.emulator_world import (
    KEY,
    OTHER_KEY,
    EmulatorWorld,
    emulator,
    needs_private_places,
    shared,
    until,
    world,
)
from tests.component.watching import is_running

from execpool.emulator.ledger import Event

__all__ = ["shared", "world"]


def processor_seconds(world: EmulatorWorld, sandbox_id: str) -> float:
    (found,) = [each for each in world.admin("GET", "/sandboxes").json() if each["id"] == sandbox_id]
    return found["usage"]["cpu_seconds"]


def test_a_sandbox_is_created_runs_code_and_is_gone_when_it_is_killed(world: EmulatorWorld) -> None:
    sandbox = world.create(metadata={"who": "me"}, timeout=60)
    assert sandbox.run_code("21 * 2").text == "42"
    assert sandbox.is_running()
    assert sandbox.kill() is True
    assert not sandbox.is_running()
    assert sandbox.kill() is False
    with pytest.raises(SandboxNotFoundException):
        sandbox.get_info()
    assert world.listed() == []


async def test_the_asynchronous_sdk_does_the_same(world: EmulatorWorld) -> None:
    sandbox = await world.acreate()
    assert (await sandbox.run_code("21 * 2")).text == "42"
    assert (await sandbox.get_info()).state == SandboxState.RUNNING
    again = await AsyncSandbox.connect(sandbox.sandbox_id, **world.connection)
    assert (await again.run_code("2 * 3")).text == "6"
    assert await sandbox.kill() is True
    assert not await sandbox.is_running()


def test_info_says_what_was_asked_for(world: EmulatorWorld) -> None:
    sandbox = world.create(metadata={"a": "b"}, timeout=100)
    info = sandbox.get_info()
    assert (info.template_id, info.metadata, info.cpu_count, info.memory_mb) == (
        "code-interpreter-v1",
        {"a": "b"},
        2,
        2048,
    )
    assert (info.end_at - info.started_at).total_seconds() == pytest.approx(100, abs=0.1)
    assert info.lifecycle == {"on_timeout": "kill", "auto_resume": False}


def test_a_bare_creation_lives_for_five_minutes_and_the_old_api_for_fifteen_seconds(world: EmulatorWorld) -> None:
    made = {path: world.rest("POST", path, {"templateID": "base"}) for path in ("/v2/sandboxes", "/sandboxes")}
    assert [reply.status for reply in made.values()] == [201, 201]
    lives = [world.history().lives[reply.json()["sandboxID"]] for reply in made.values()]
    assert [round(life.deadline - life.created.time) for life in lives] == [300, 15]


def test_a_sandbox_is_gone_at_its_deadline_and_its_processes_soon_after(world: EmulatorWorld) -> None:
    before = len(world.processes())
    sandbox = world.create(timeout=1)
    deadline = world.history().created()[-1].deadline
    while sandbox.is_running():
        assert time.time() < deadline + 0.2
        time.sleep(0.02)
    assert time.time() >= deadline
    until(lambda: world.history().of(Event.EXPIRED))
    assert world.history().of(Event.EXPIRED)[-1].time == deadline
    until(lambda: len(world.processes()) <= before + 2)


def test_a_timeout_moves_the_deadline_either_way_and_connecting_only_to_later(world: EmulatorWorld) -> None:
    sandbox = world.create(timeout=100)
    moments = []
    for change in (
        lambda: sandbox.set_timeout(50),
        lambda: sandbox.connect(timeout=20),
        lambda: sandbox.connect(timeout=80),
    ):
        change()
        moments.append(round(sandbox.get_info().end_at.timestamp() - time.time()))
    assert moments == pytest.approx([50, 50, 80], abs=1)


def test_a_timeout_of_nothing_ends_it_now(world: EmulatorWorld) -> None:
    sandbox = world.create()
    sandbox.set_timeout(0)
    assert not sandbox.is_running()


def test_lives_are_as_long_as_the_plan_allows() -> None:
    with emulator(plan="hobby") as world:
        with pytest.raises(SandboxException, match="Timeout cannot be greater than 1 hours"):
            world.create(timeout=3601)
        time.sleep(1.0)  # the refused one counted against the rate
        sandbox = world.create(timeout=10)
        sandbox.set_timeout(86_400)
        info = sandbox.get_info()
        assert (info.end_at - info.started_at).total_seconds() == 3600


def test_a_paused_sandbox_stands_still_and_goes_on_where_it_was(world: EmulatorWorld) -> None:
    sandbox = world.create(timeout=60)
    sandbox.run_code("import threading, itertools\ncounter = itertools.count()\n")
    sandbox.commands.run("while true; do :; done", background=True)
    sandbox.run_code("value = 41")
    assert sandbox.pause() is True
    assert sandbox.pause() is False
    assert sandbox.get_info().state == SandboxState.PAUSED
    used = processor_seconds(world, sandbox.sandbox_id)
    time.sleep(0.3)
    assert processor_seconds(world, sandbox.sandbox_id) == used
    assert not sandbox.is_running()
    sandbox.connect(timeout=30)
    assert sandbox.run_code("value + 1").text == "42"
    until(lambda: processor_seconds(world, sandbox.sandbox_id) > used)
    assert round(sandbox.get_info().end_at.timestamp() - time.time()) in (29, 30)


def test_a_paused_sandbox_can_be_killed(world: EmulatorWorld) -> None:
    sandbox = world.create()
    sandbox.pause()
    assert sandbox.kill() is True
    assert world.listed() == []


def test_one_that_is_to_pause_at_its_deadline_does_and_wakes_when_it_is_called(world: EmulatorWorld) -> None:
    sandbox = world.create(timeout=1, lifecycle={"on_timeout": "pause", "auto_resume": True})
    sandbox.run_code("x = 7")
    until(lambda: sandbox.get_info().state == SandboxState.PAUSED)
    assert sandbox.run_code("x").text == "7"
    assert sandbox.get_info().state == SandboxState.RUNNING
    assert [entry.call for entry in world.history().of(Event.RESUMED)][-1] == "auto_resume"


def test_the_variables_of_a_sandbox_are_there_for_code_and_for_commands(world: EmulatorWorld) -> None:
    sandbox = world.create(envs={"GREETING": "hello"})
    assert sandbox.run_code("import os; os.environ['GREETING']").text == "hello"
    assert sandbox.commands.run("echo $GREETING").stdout == "hello\n"


@needs_private_places
def test_two_sandboxes_share_nothing(world: EmulatorWorld) -> None:
    one, other = world.create(), world.create()
    one.files.write("/home/user/secret.txt", "x")
    one.files.write("/tmp/secret.txt", "x")
    one.run_code("x = 1")
    assert not other.files.exists("/home/user/secret.txt")
    assert not other.files.exists("/tmp/secret.txt")
    assert other.run_code("x").error.name == "NameError"


def test_every_key_of_the_account_is_taken_and_no_other(world: EmulatorWorld) -> None:
    options: dict[str, Any] = {**world.connection, "api_key": OTHER_KEY}
    Sandbox.create(**options).kill()
    with pytest.raises(AuthenticationException, match="Cannot get the team for the given API key"):
        Sandbox.create(**{**options, "api_key": "e2b_ffff"})
    replies = [world.rest("GET", "/v2/sandboxes", key=key) for key in ("wrong", None)]
    assert [(reply.status, reply.json()) for reply in replies] == [
        (401, {"code": 401, "message": "Invalid API key format"})
    ] * 2


def test_health_needs_no_key(world: EmulatorWorld) -> None:
    assert world.rest("GET", "/health", key=None).status == 200


def test_a_template_that_there_is_not_is_not_found(world: EmulatorWorld) -> None:
    with pytest.raises(SandboxException, match="404: template 'nothing' not found"):
        world.create(template="nothing")


def test_what_is_not_emulated_says_so(world: EmulatorWorld) -> None:
    sandbox = world.create()
    with pytest.raises(SandboxException, match="501"):
        sandbox.create_snapshot()
    with pytest.raises(SandboxException, match=r"not emulated: network\.allowOut"):
        world.create(network={"allow_out": ["1.1.1.1"]})


def test_metrics_and_logs_are_answered(world: EmulatorWorld) -> None:
    sandbox = world.create()
    (reading,) = sandbox.get_metrics()
    assert reading.mem_total == 2048 << 20
    assert 0 < reading.mem_used < reading.mem_total
    both = world.rest("GET", f"/sandboxes/metrics?sandbox_ids={sandbox.sandbox_id},unknown").json()
    assert list(both["sandboxes"]) == [sandbox.sandbox_id]
    assert world.rest("GET", f"/sandboxes/{sandbox.sandbox_id}/logs").json() == {"logs": [], "logEntries": []}
    assert world.rest("GET", f"/v2/sandboxes/{sandbox.sandbox_id}/logs").json() == {"logs": []}


def test_ids_with_the_suffix_of_old_clients_are_understood(world: EmulatorWorld) -> None:
    sandbox = world.create()
    assert world.rest("GET", f"/sandboxes/{sandbox.sandbox_id}-6532622b").status == 200
    assert world.rest("POST", f"/sandboxes/{sandbox.sandbox_id}/resume", {"timeout": 60}).status == 409


def test_a_creation_that_is_repeated_with_its_key_makes_nothing_new(world: EmulatorWorld) -> None:
    headers, body = {"Idempotency-Key": "record-1"}, {"templateID": "base"}
    first, again = (world.rest("POST", "/v2/sandboxes", body, headers=headers) for _ in range(2))
    assert first.json()["sandboxID"] == again.json()["sandboxID"]
    other = world.rest("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 9}, headers=headers)
    assert (other.status, other.json()["error_code"]) == (422, "idempotency_request_mismatch")


def test_everything_ends_with_the_emulator() -> None:
    with emulator() as world:
        world.create()
        pids = world.processes()
        assert len(pids) > 6
        world.process.kill()
        world.process.wait()
        until(lambda: not any(is_running(pid) for pid in pids))


def test_a_sandbox_that_is_not_found_is_told_so_on_both_planes(world: EmulatorWorld) -> None:
    reply = world.rest("GET", "/sandboxes/i0", key=KEY)
    assert reply.json() == {"code": 404, "message": "Sandbox \"i0\" doesn't exist or you don't have access to it"}
    reply = world.rest("GET", "/health", key=None, headers={"E2b-Sandbox-Id": "i0", "E2b-Sandbox-Port": "49983"})
    assert (reply.status, reply.json()["message"]) == (502, "The sandbox was not found")
    with pytest.raises(NotFoundException):
        Sandbox.connect("i0", **world.connection)
