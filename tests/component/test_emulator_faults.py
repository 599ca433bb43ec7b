"""Ordered faults: what the SDK makes of them, and that their effects are, or are not, there."""

import time
from typing import Any

import httpx
import pytest
from e2b import RateLimitException, SandboxException, ServiceBusyException, TimeoutException
from e2b_code_interpreter import AsyncSandbox
from tests.component.emulator_world import EmulatorWorld, needs_private_places, shared, until, world

from execpool.emulator.ledger import Event

__all__ = ["shared", "world"]


def made(world: EmulatorWorld, tag: str) -> int:
    return sum(entry.metadata.get("tag") == tag for entry in world.history().created())


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"kind": "status", "status": 500}, SandboxException),
        ({"kind": "status", "status": 503}, ServiceBusyException),
        ({"kind": "status", "status": 429, "retry_after": 100}, RateLimitException),
        ({"kind": "status", "status": 504}, SandboxException),
        ({"kind": "reset"}, httpx.HTTPError),
        ({"kind": "hang"}, httpx.TimeoutException),
        ({"kind": "malformed"}, ValueError),
    ],
    ids=["500", "503", "429", "504", "reset", "hang", "malformed"],
)
@pytest.mark.parametrize("after_commit", [False, True], ids=["before the effect", "after it"])
def test_a_creation_that_fails_has_made_a_sandbox_or_not(
    world: EmulatorWorld, fault: dict[str, Any], error: type[Exception], after_commit: bool
) -> None:
    tag = f"{fault}{after_commit}"
    world.fault("create", after_commit=after_commit, **{"seconds": 5, **fault})
    with pytest.raises(error):
        world.create(template="base", metadata={"tag": tag}, retries=0, request_timeout=1)
    until(lambda: made(world, tag) == int(after_commit))
    assert world.history().of(Event.FAULTED)[-1].call == "create"
    world.create(template="base", metadata={"tag": tag}).kill()
    assert made(world, tag) == 1 + after_commit


def test_a_client_that_repeats_a_creation_whose_answer_was_lost_makes_two(world: EmulatorWorld) -> None:
    world.fault("create", "status", status=502, after_commit=True)
    world.create(template="base", metadata={"tag": "twice"})
    assert len(world.history().duplicates("tag")["twice"]) == 2


def test_a_fault_is_given_as_often_as_it_was_ordered(world: EmulatorWorld) -> None:
    world.fault("list", "status", status=418, times=2)
    assert [world.rest("GET", "/v2/sandboxes").status for _ in range(3)] == [418, 418, 200]


def test_a_fault_can_hold_for_a_time_and_be_taken_back(world: EmulatorWorld) -> None:
    world.fault("*", "status", status=500, for_seconds=0.3)
    assert world.rest("GET", "/v2/sandboxes").status == 500
    time.sleep(0.35)
    assert world.rest("GET", "/v2/sandboxes").status == 200
    world.fault("list", "status", times=None)
    ((number, _),) = world.admin("GET", "/faults").json().items()
    assert world.admin("DELETE", f"/faults/{number}").status == 204
    assert world.rest("GET", "/v2/sandboxes").status == 200
    for nonsense in ({"call": "list", "kind": "unknown"}, {"call": "unknown", "kind": "reset"}, {}):
        assert world.admin("POST", "/faults", nonsense).status == 400


def test_an_error_has_the_headers_that_were_ordered(world: EmulatorWorld) -> None:
    world.fault("get", "status", status=429, retry_after=7, should_retry=False, message="slow down")
    reply = world.rest("GET", "/sandboxes/i0")
    assert (reply.headers["retry-after"], reply.headers["should-retry"]) == ("7", "false")
    assert reply.json() == {"code": 429, "message": "slow down"}


@pytest.mark.parametrize("call", ["timeout", "kill", "connect", "pause"])
def test_an_answer_that_is_withheld_does_not_undo_the_effect(world: EmulatorWorld, call: str) -> None:
    sandbox = world.create(template="base", timeout=100)
    world.fault(call, "reset", after_commit=True)
    act = {
        "timeout": lambda: sandbox.set_timeout(50),
        "kill": sandbox.kill,
        "connect": lambda: sandbox.connect(timeout=200),
        "pause": sandbox.pause,
    }[call]
    with pytest.raises(httpx.HTTPError):
        act()
    event = {"timeout": Event.EXTENDED, "kill": Event.KILLED, "connect": Event.EXTENDED, "pause": Event.PAUSED}[call]
    assert world.history().of(event)[-1].sandbox_id == sandbox.sandbox_id


@needs_private_places
def test_an_execution_whose_answer_is_reset_has_run(world: EmulatorWorld) -> None:
    sandbox = world.create()
    world.fault("execute", "reset", after_commit=True)
    with pytest.raises(httpx.HTTPError):
        sandbox.run_code("print('begun', flush=True)\nopen('/home/user/ran', 'w').close()\nimport time; time.sleep(1)")
    assert sandbox.files.exists("ran")


def test_an_execution_that_is_refused_before_it_began_has_not(world: EmulatorWorld) -> None:
    sandbox = world.create()
    world.fault("execute", "status", status=500)
    with pytest.raises(SandboxException, match="500"):
        sandbox.run_code("open('/home/user/ran', 'w').close()")
    assert not sandbox.files.exists("ran")


def test_a_stream_that_is_cut_off_looks_like_success_to_the_sdk(world: EmulatorWorld) -> None:
    sandbox = world.create()
    sandbox.run_code("1")
    world.fault("execute", "truncate", bytes=0)
    run = sandbox.run_code("1 / 0")
    assert (run.error, run.results) == (None, [])


def test_an_answer_can_come_drop_by_drop_or_late(world: EmulatorWorld) -> None:
    world.create(template="base")
    world.fault("list", "drip", bytes=100, seconds=0.1)
    began = time.monotonic()
    assert len(world.listed()) == 1
    assert time.monotonic() - began > 0.3
    world.fault("list", "delay", seconds=0.4)
    began = time.monotonic()
    assert len(world.listed()) == 1
    assert time.monotonic() - began > 0.4


@pytest.mark.parametrize("call", ["files", "filesystem", "process"])
def test_files_and_commands_can_fail_too(world: EmulatorWorld, call: str) -> None:
    sandbox = world.create()
    act = {
        "files": lambda: sandbox.files.write("a", "x"),
        "filesystem": lambda: sandbox.files.list("."),
        "process": lambda: sandbox.commands.run("true"),
    }[call]
    world.fault(call, "status", status=429)
    with pytest.raises(RateLimitException):
        act()
    act()


def test_a_sandbox_can_be_lost_on_demand(world: EmulatorWorld) -> None:
    sandbox = world.create()
    assert world.admin("POST", f"/sandboxes/{sandbox.sandbox_id}/lose").status == 204
    assert not sandbox.is_running()
    with pytest.raises(TimeoutException):
        sandbox.run_code("1")
    assert world.history().of(Event.LOST)[-1].sandbox_id == sandbox.sandbox_id
    assert world.admin("POST", f"/sandboxes/{sandbox.sandbox_id}/lose").status == 404


async def test_a_share_of_sandboxes_is_lost_early(world: EmulatorWorld) -> None:
    world.admin("PATCH", "/knobs", {"loss_probability": 1, "loss_within_seconds": 0.5})
    sandbox: AsyncSandbox = await world.acreate(template="base")
    world.admin("PATCH", "/knobs", {"loss_probability": 0})
    until(
        lambda: (
            world.history().of(Event.LOST)[-1:] and world.history().of(Event.LOST)[-1].sandbox_id == sandbox.sandbox_id
        )
    )
    assert not await sandbox.is_running()
