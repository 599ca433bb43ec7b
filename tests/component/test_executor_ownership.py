"""Who may use a local executor, and when it ends: claims, retirement, idleness, restarts of either process."""

import asyncio
import io
import json
import os
import signal
import time

import aiohttp
import pytest
from tests.component.executor_process import below, executor, wait_until_gone

from execpool import protocol
from execpool.protocol import Expect

BOB = "principal-bob"
SLEEP = "import time\nprint('up')\ntime.sleep(60)"


async def begin(running, code=SLEEP, execution_id=""):
    """Start a run in the background and wait until its first output."""
    started = asyncio.Event()

    async def follow():
        events = []
        async with running.post(code, execution_id=execution_id) as answer:
            assert answer.status == 200
            async for line in answer.content:
                events.append(json.loads(line))
                if len(events) == 2:
                    started.set()
        return events

    task = asyncio.create_task(follow())
    async with asyncio.timeout(5):
        await started.wait()
    return task


async def test_an_executor_proves_itself_is_claimed_and_tells_its_state():
    async with executor(slots=3) as running:
        warm = await running.state()
        assert (warm.phase, warm.slots, warm.claim, warm.egress) == ("Warm", 3, None, "Unknown")
        status, proof = await running.control("/challenge", {"nonce": "n", "pod_uid": running.pod_uid})
        assert (status, proof["executor_id"]) == (200, running.executor_id)
        hashed = protocol.secret_hash(running.secret)
        assert protocol.proof_holds(proof["proof"], hashed, "n", running.pod_uid, running.executor_id)
        status, grant = await running.control("/claim", {"secret": running.secret, "principal": "p"})
        assert (status, grant["epoch"], grant["slots"]) == (200, 1, 3)
        claim = (await running.state()).held_by()
        assert (claim.principal, claim.epoch, claim.running, claim.executions) == ("p", 1, 0, 0)
        (logged,) = running.server.said("claimed")
        assert (logged["principal"], logged["epoch"], logged["executor_id"]) == ("p", 1, running.executor_id)


async def test_every_refusal_has_its_status_and_starts_nothing():
    async with executor(slots=1) as running:
        assert (await running.control("/challenge", {"nonce": "n", "pod_uid": "another"}))[0] == 421
        assert (await running.control("/claim", {"secret": "guess", "principal": "p"}))[0] == 403
        assert (await running.control("/retire", {"secret": "guess", "expect": "Any"}))[0] == 403
        assert (await running.control("/claim", {"secret": running.secret}))[0] == 400
        assert (await running.control("/claim", {"secret": "x" * 20_000, "principal": "p"}))[0] == 413
        async with running.post("1") as answer:
            assert answer.status == 401
        await running.claim()
        assert (await running.control("/claim", {"secret": running.secret, "principal": BOB}))[0] == 409
        for size, reason in (((1 << 20) + 1, "TooLarge"), (2 << 20, "TooLarge")):
            body = io.BytesIO(json.dumps({"code": "x" * size}).encode())
            async with running.http.post(f"{running.data_url}/execute", data=body, headers=running.headers()) as answer:
                assert (answer.status, (await answer.json())["reason"]) == (413, reason)
        for body, status in (
            ("nonsense", 400),
            ('{"code": 1}', 400),
            ('{"code": "1", "context_id": "x"}', 404),
            ('{"code": "1", "language": "ruby"}', 500),
        ):
            async with running.http.post(f"{running.data_url}/execute", data=body, headers=running.headers()) as answer:
                assert answer.status == status
        assert (await running.state()).held_by().executions == 0
        task = await begin(running, execution_id="mine")
        async with running.post("1", execution_id="mine") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (409, "AlreadyStarted")
        async with running.post("1") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (429, "NoFreeSlot")
        task.cancel()
        assert (await running.state()).held_by().executions == 1


async def test_control_paths_cannot_be_reached_through_the_data_port():
    async with executor() as running:
        for path in ("/state", "/readyz", "/claim", "/retire", "/challenge"):
            for method in ("GET", "POST"):
                async with running.http.request(method, f"{running.data_url}{path}") as answer:
                    assert answer.status == 404
        async with running.http.get(f"{running.data_url}/health") as answer:
            assert (answer.status, await answer.text()) == (200, "OK")
        async with running.http.post(f"{running.control_url}/execute") as answer:
            assert answer.status == 404


async def test_a_new_claim_of_the_same_principal_fences_the_one_before():
    async with executor() as running:
        token, epoch = await running.claim()
        assert await running.claim() == (token, epoch + 1)
        assert (await running.execute("1"))[-1]["status"] == "Succeeded"
        running.epoch = epoch
        async with running.post("1") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (412, "StaleEpoch")


async def test_of_many_claims_at_once_one_principal_wins():
    async with executor() as running:
        asked = [running.control("/claim", {"secret": running.secret, "principal": f"p{i % 8}"}) for i in range(40)]
        answers = await asyncio.gather(*asked)
        assert {status for status, _ in answers} == {200, 409}
        epochs = [grant["epoch"] for status, grant in answers if status == 200]
        assert sorted(epochs) == list(range(1, 6))


async def test_retire_is_compare_and_set():
    async with executor() as running:
        await running.claim()
        assert (await running.retire(Expect.WARM))[0] == 409
        assert (await running.retire(Expect.IDLE, epoch=99))[0] == 409
        task = await begin(running)
        assert (await running.retire(Expect.IDLE, epoch=1))[0] == 409
        assert (await running.retire(Expect.ANY))[0] == 200
        events = await task
        assert (events[-1]["status"], events[-1]["reason"]) == ("Killed", "Retired")
        assert await running.server.exit_status() == 0
        assert await running.runner.exit_status() == 0
        assert running.server.said("exiting")[0]["why"] == "Retired"


@pytest.mark.parametrize("expect", [Expect.WARM, Expect.ANY])
async def test_a_warm_executor_retires_at_once(expect):
    async with executor() as running:
        began = time.monotonic()
        assert (await running.retire(expect))[0] == 200
        assert await running.server.exit_status() == 0
        assert await running.runner.exit_status() == 0
        assert time.monotonic() - began < 2
        assert running.server.said("retired")


async def test_an_idle_executor_is_retired_at_its_latest_epoch():
    async with executor() as running:
        await running.claim()
        assert (await running.retire(Expect.IDLE, epoch=1))[0] == 200
        assert await running.server.exit_status() == 0


async def test_a_claimed_executor_ends_when_it_was_idle_for_long_enough():
    async with executor(idle_seconds=0.8) as running:
        await running.claim()
        await running.execute("import time; time.sleep(1)")
        await asyncio.sleep(0.3)
        assert await running.readiness() == 200
        assert await running.server.exit_status(3) == 0
        assert await running.runner.exit_status(3) == 0
        assert running.server.said("exiting")[0]["why"] == "Idle"


async def test_an_unclaimed_executor_ends_by_age():
    async with executor(max_age_seconds=0.5, wait_ready=False) as running:
        assert await running.server.exit_status(3) == 0
        assert await running.runner.exit_status(5) == 0
        assert running.server.said("exiting")[0]["why"] == "Age"


async def test_sigterm_ends_runs_with_an_end_line_and_exits_well():
    async with executor() as running:
        await running.claim()
        task = await begin(running)
        began = time.monotonic()
        running.server.process.send_signal(signal.SIGTERM)
        running.runner.process.send_signal(signal.SIGTERM)
        events = await task
        assert (events[-1]["status"], events[-1]["reason"]) == ("Killed", "Retired")
        assert await running.server.exit_status() == 0
        assert await running.runner.exit_status() == 0
        assert time.monotonic() - began < 3


async def test_a_lost_runner_ends_its_runs_as_unknown_and_is_found_again():
    async with executor() as running:
        await running.claim()
        task = await begin(running)
        running.runner.process.kill()
        events = await task
        assert (events[-1]["status"], events[-1]["reason"]) == ("Unknown", "RunnerLost")
        await running.wait_ready(ready=False)
        async with running.post("1") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (503, "RunnerNotReady")
        state = await running.state()
        assert (state.phase, state.held_by().running) == ("Claimed", 0)
        await running.runner.exit_status()
        await running.restart_runner()
        await running.wait_ready()
        assert (await running.execute("1+1"))[1]["text"] == "2"
        await wait_until_gone(lambda: list(running.work_dir.glob("run-*"))[10:])


async def test_before_the_runner_is_there_the_executor_is_starting_and_cannot_be_claimed():
    async with executor(wait_ready=False) as running:
        running.runner.process.send_signal(signal.SIGSTOP)
        assert (await running.state()).phase == "Starting"
        assert await running.readiness() == 503
        assert (await running.control("/claim", {"secret": running.secret, "principal": "p"}))[0] == 503
        running.runner.process.send_signal(signal.SIGCONT)
        await running.wait_ready()
        assert (await running.state()).phase == "Warm"


async def test_a_server_that_comes_back_after_a_claim_serves_nobody():
    async with executor() as running:
        await running.claim()
        await running.execute("1")
        running.server.process.kill()
        await running.server.exit_status()
        assert await running.runner.exit_status() == 1
        await running.restart_server()
        assert await running.server.exit_status() == 0
        assert running.server.said("exiting")[0]["why"] == "ClaimedBefore"
        await running.restart_runner()
        assert await running.runner.exit_status() == 0


async def test_a_server_that_comes_back_unclaimed_is_warm_again():
    async with executor() as running:
        running.server.process.kill()
        await running.server.exit_status()
        assert await running.runner.exit_status() == 1
        await running.restart_server()
        await running.restart_runner()
        await running.learn_ports()
        await running.wait_ready()
        await running.claim(BOB)
        assert (await running.execute("1+1"))[1]["text"] == "2"


async def test_a_lost_server_takes_its_runs_with_it():
    async with executor() as running:
        await running.claim()
        task = await begin(running, code="import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
        pids = below(running)
        running.server.process.kill()
        with pytest.raises(aiohttp.ClientError):
            await task
        assert await running.runner.exit_status() == 1
        assert len(pids) > 5
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


async def test_the_runner_wipes_what_an_earlier_one_left():
    async with executor(wait_ready=False) as running:
        running.runner.process.kill()
        await running.runner.exit_status()
        (running.work_dir / "run-old").mkdir()
        (running.work_dir / "run-old" / "secret").write_text("x")
        (running.directory / "shm" / "left").write_text("x")
        await running.restart_runner()
        await running.wait_ready()
        assert not (running.work_dir / "run-old").exists()
        assert not (running.directory / "shm" / "left").exists()


async def test_the_egress_check_tells_whether_the_api_server_can_be_reached():
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    for variables, expected in (
        ({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port)}, "Open"),
        ({"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}, "Closed"),
    ):
        async with executor(server_variables=variables, wait_ready=False) as running:
            await running.server.wait_for("egress checked")
            assert (await running.state()).egress == expected
    listener.close()
    await listener.wait_closed()


async def test_a_second_runner_finds_no_socket_and_a_program_could_not_list_its_directory():
    async with executor() as running:
        await running.claim()
        assert list(running.socket_dir.glob("*.sock")) == []
        await running.runner.end()
        async with asyncio.timeout(5):
            while not (names := [path.name for path in running.socket_dir.glob("*.sock")]):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)
        assert len(names[0]) > 32
        await running.restart_runner()
        await running.wait_ready()
        events = await running.execute(f"import os\nos.listdir({str(running.socket_dir)!r})")
        assert [event["name"] for event in events if event["type"] == "error"] == ["PermissionError"]


async def test_bad_settings_are_told_and_end_the_process():
    async with executor(wait_ready=False) as running:
        running.server_environment["EXECPOOL_SLOTS"] = "none"
        await running.server.end()
        await running.restart_server()
        assert await running.server.exit_status() == 2
        assert "EXECPOOL_SLOTS" in running.server.said("bad settings")[0]["reason"]


async def test_logs_hold_no_code_output_or_token():
    async with executor() as running:
        await running.claim()
        await running.execute("print('se' + 'cret-output')  # secret-code", env_vars={"V": "secret-variable"})
        await running.server.wait_for("run ended")
        logged = json.dumps([*running.server.log, *running.runner.log])
        for word in ("secret-code", "secret-output", "secret-variable", running.token, running.secret):
            assert word not in logged
        (started,) = running.server.said("run started")
        assert (started["principal"], len(started["execution_id"])) == ("principal-alice", 16)
