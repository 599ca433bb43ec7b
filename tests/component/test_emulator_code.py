"""Code, contexts and their streams, through the emulator's data plane."""

import asyncio
import time

import pytest
from e2b import NotFoundException, SandboxException, TimeoutException
from tests.component.emulator_world import EmulatorWorld, emulator, later, shared, until, world

from execpool.emulator.ledger import Event

__all__ = ["shared", "world"]


def test_state_is_kept_between_runs_and_restarted_contexts_forget(world: EmulatorWorld) -> None:
    sandbox = world.create()
    context = sandbox.create_code_context()
    sandbox.run_code("x = 1", context=context)
    assert sandbox.run_code("x", context=context).text == "1"
    assert sandbox.run_code("x").error.name == "NameError"
    assert context.id in [each.id for each in sandbox.list_code_contexts()]
    sandbox.restart_code_context(context)
    assert sandbox.run_code("x", context=context).error.name == "NameError"
    sandbox.remove_code_context(context)
    with pytest.raises(NotFoundException):
        sandbox.run_code("x", context=context)


def test_results_have_their_forms_and_errors_their_traceback(world: EmulatorWorld) -> None:
    sandbox = world.create()
    run = sandbox.run_code("import pandas as pd\nprint('said')\npd.DataFrame({'a': [1, 2]})")
    assert run.logs.stdout == ["said\n"]
    assert "<table" in run.results[0].html
    assert run.results[0].is_main_result
    failed = sandbox.run_code("def f():\n    return 1 / 0\nf()")
    assert (failed.error.name, failed.error.value) == ("ZeroDivisionError", "division by zero")
    assert "f()" in failed.error.traceback


def test_output_arrives_while_the_program_goes_on(world: EmulatorWorld) -> None:
    sandbox = world.create()
    moments: list[float] = []
    sandbox.run_code(
        "import time\nfor n in range(3):\n    print(n, flush=True)\n    time.sleep(0.3)",
        on_stdout=lambda _: moments.append(time.monotonic()),
    )
    assert len(moments) == 3
    assert moments[2] - moments[0] > 0.5


def test_another_language_runs_or_says_that_it_does_not(world: EmulatorWorld) -> None:
    sandbox = world.create()
    assert sandbox.run_code("echo $((6 * 7))", language="bash").logs.stdout == ["42\n"]
    with pytest.raises(SandboxException, match="500"):
        sandbox.run_code("1", language="r")


def test_a_caller_that_gives_up_interrupts_what_ran_for_it(world: EmulatorWorld) -> None:
    sandbox = world.create()
    sandbox.run_code("import time")
    with pytest.raises(TimeoutException):
        sandbox.run_code("time.sleep(60)", timeout=0.3)
    began = time.monotonic()
    assert sandbox.run_code("'here'").text == "here"
    assert time.monotonic() - began < 5


def test_a_sandbox_that_is_killed_ends_the_run_in_it(world: EmulatorWorld) -> None:
    sandbox = world.create()
    with later(0.7, sandbox.kill), pytest.raises(TimeoutException, match="killed"):
        sandbox.run_code("print('begun', flush=True)\nimport time; time.sleep(60)")


async def test_many_runs_go_on_at_once_in_sandboxes_of_their_own(world: EmulatorWorld) -> None:
    sandboxes = await asyncio.gather(*(world.acreate() for _ in range(4)))
    began = time.monotonic()
    runs = await asyncio.gather(*(each.run_code("import time; time.sleep(1); 1") for each in sandboxes))
    assert [run.text for run in runs] == ["1"] * 4
    assert time.monotonic() - began < 3


def test_a_private_sandbox_answers_only_with_its_traffic_token(world: EmulatorWorld) -> None:
    sandbox = world.create(network={"allow_public_traffic": False})
    assert sandbox.run_code("1 + 1").text == "2"
    assert len(sandbox.list_code_contexts()) >= 1
    inside = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49999"}
    bare = world.rest("GET", "/contexts", key=None, headers=inside)
    wrong = world.rest("GET", "/contexts", key=None, headers={**inside, "E2B-Traffic-Access-Token": "x"})
    assert (bare.status, wrong.status) == (403, 403)
    again = type(sandbox).connect(sandbox.sandbox_id, **world.connection)
    assert again.run_code("1 + 1").text == "2"


def test_hosts_name_a_sandbox_as_headers_do_and_other_ports_are_closed(world: EmulatorWorld) -> None:
    sandbox = world.create()
    host = {"Host": f"49999-{sandbox.sandbox_id}-6532622b.e2b.example"}
    assert world.rest("GET", "/health", key=None, headers=host).body == b"OK"
    closed = world.rest("GET", "/", key=None, headers={"Host": f"8080-{sandbox.sandbox_id}.e2b.example"})
    assert closed.status == 502
    assert closed.json() == {
        "code": 502,
        "message": "The sandbox is running but port is not open",
        "sandboxId": sandbox.sandbox_id,
        "port": 8080,
    }
    half = world.rest("GET", "/health", key=None, headers={"E2b-Sandbox-Id": sandbox.sandbox_id})
    assert (half.status, half.body) == (400, b"missing header")


def test_no_path_leads_to_an_executors_control_port_and_its_token_is_not_a_clients_to_choose(
    world: EmulatorWorld,
) -> None:
    sandbox = world.create()
    inside = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49901"}
    assert world.rest("GET", "/state", key=None, headers=inside).json()["message"].endswith("port is not open")
    own = {**inside, "E2b-Sandbox-Port": "49999", "X-Execpool-Token": "x", "X-Execpool-Epoch": "9"}
    assert world.rest("GET", "/contexts", key=None, headers=own).status == 200


def test_a_runner_that_dies_takes_its_contexts_along_and_the_sandbox_stays(world: EmulatorWorld) -> None:
    sandbox = world.create()
    sandbox.run_code("x = 1")
    sandbox.run_code("import os; os._exit(3)")
    until(lambda: sandbox.run_code("1").text == "1")
    assert sandbox.run_code("x").error.name == "NameError"


def test_every_execution_is_in_the_ledger_before_it_is_answered(world: EmulatorWorld) -> None:
    sandbox = world.create()
    for number in range(3):
        sandbox.run_code(str(number))
        assert (
            len([e for e in world.history().of(Event.EXECUTION_STARTED) if e.sandbox_id == sandbox.sandbox_id])
            == number + 1
        )


REACHES = "import socket\nsocket.create_connection(('127.0.0.1', {port})).close()\n'reached'"


def test_programs_have_a_network_only_where_both_the_account_and_the_sandbox_say_so(world: EmulatorWorld) -> None:
    code = REACHES.format(port=world.port)
    assert world.create().run_code(code).error.name == "OSError"
    with emulator(egress=True, warm=0) as open_world:
        assert open_world.create().run_code(code).text == "reached"
        assert open_world.create(allow_internet_access=False).run_code(code).error.name == "OSError"
