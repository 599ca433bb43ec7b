"""A session has an executor alone, until a deadline that the executor keeps by itself."""

import pytest
from tests.component.executor_process import executor

from execpool.protocol import Expect

SESSION = "i7qy1c0example00000000"


async def hold(running, seconds: float, session: str = SESSION, **fields: object) -> tuple[int, dict]:
    url = f"{running.control_url}/session"
    body = {"session": session, "ends_in_seconds": seconds, **fields}
    async with running.http.post(url, json=body, headers=running.headers()) as answer:
        return answer.status, await answer.json()


async def test_a_session_is_told_in_the_state_with_what_its_gateway_wants_to_know_again():
    async with executor() as running:
        await running.claim()
        assert (await hold(running, 600, about={"metadata": {"user": "ada"}}))[0] == 200
        session = (await running.state()).of_session()
        assert (session.id, session.about) == (SESSION, {"metadata": {"user": "ada"}})
        assert 590 < session.left_seconds <= 600
        await running.claim()  # another gateway, after the first one was lost
        assert (await hold(running, 900))[0] == 200
        assert (await running.state()).of_session().left_seconds > 890


async def test_an_idle_session_is_kept_until_its_deadline_and_no_longer():
    async with executor(idle_seconds=0.3) as running:
        await running.claim()
        await hold(running, 1.5)
        with pytest.raises(TimeoutError):
            await running.server.exit_status(0.9)
        assert await running.server.exit_status(3) == 0
        assert await running.runner.exit_status(3) == 0
        assert running.server.said("exiting")[0]["why"] == "SessionOver"


async def test_the_deadline_of_a_session_ends_what_runs_in_it():
    async with executor() as running:
        await running.claim()
        await hold(running, 2.0)
        events = await running.execute("import time\nprint('up')\ntime.sleep(60)", stateless=False)
        assert (events[-1]["status"], events[-1]["reason"]) == ("Killed", "Retired")
        assert await running.server.exit_status(3) == 0


async def test_a_session_is_over_at_once_when_it_is_told_so():
    async with executor() as running:
        await running.claim()
        await hold(running, 600)
        assert (await hold(running, 0))[0] == 200
        assert await running.server.exit_status(3) == 0


async def test_what_a_session_has_is_for_nobody_else():
    async with executor(slots=2) as running:
        await running.claim()
        await hold(running, 600)
        async with running.post("1 + 1") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (409, "HeldBySession")
        assert (await hold(running, 600, session="another"))[1]["reason"] == "HeldBySession"
        assert (await running.retire(Expect.IDLE, epoch=1))[0] == 409
        assert (await running.execute("1 + 1", stateless=False))[-1]["status"] == "Succeeded"


async def test_an_executor_that_has_run_something_becomes_nobodys_session():
    async with executor() as running:
        await running.claim()
        await running.execute("1 + 1")
        status, refusal = await hold(running, 600)
        assert (status, refusal["reason"]) == (409, "NotFresh")


async def test_a_session_gives_its_variables_to_all_that_runs_in_it():
    async with executor() as running:
        await running.claim()
        await hold(running, 600, env_vars={"TEAM": "blue"})
        events = await running.execute("import os\nos.environ['TEAM']", stateless=False)
        assert [event["text"] for event in events if event["type"] == "result"] == ["blue"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"session": "Not an id"}, "session is an id"),
        ({"ends_in_seconds": "soon"}, "ends_in_seconds is a number"),
        ({"ends_in_seconds": 1e9}, "up to 86400"),
        ({"about": ["list"]}, "about is a JSON object"),
        ({"env_vars": {"1": ""}}, "names in env_vars"),
    ],
)
async def test_a_session_that_makes_no_sense_changes_nothing(fields, said):
    async with executor() as running:
        await running.claim()
        status, refusal = await hold(running, **({"seconds": 60} | _renamed(fields)))
        assert status == 400
        assert said in refusal["message"]
        assert (await running.state()).session is None


async def test_without_the_claims_token_there_is_no_session():
    async with executor() as running:
        await running.claim()
        running.token = "guess"
        assert (await hold(running, 60))[0] == 401
        assert (await running.state()).session is None


def _renamed(fields: dict) -> dict:
    return {"seconds" if name == "ends_in_seconds" else name: value for name, value in fields.items()}
