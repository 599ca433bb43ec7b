"""A tier of Monty before one of Python: simple programs stay there, the others are run by CPython, once."""

from collections.abc import Iterator

import pytest
from tests.component.gateway_world import Identity, RealExecutor, gateway_world, pool, real_executors
from tests.component.scripted_executor import FINISH, OK, ScriptedExecutor, chunk, end, scripted, sending

TIERS = [
    {"name": "math", "pods": {"runtime": "Monty", "max": 2}},
    {"name": "local", "pods": {"max": 2, "warm": 1}},
]
POOL = pool(tiers=TIERS, scaledTier="math")
ONLY_MONTY = pool(tiers=TIERS[:1])
STDOUT = b'{"type":"stdout","text":"x"}'
NOT_SUPPORTED = end("NotSupported", message="yield is not supported")


def identity(tier: str) -> Identity:
    return Identity(tier, tier=tier, runtime="Monty" if tier == "math" else "Python")


@pytest.fixture(scope="module")
def real() -> Iterator[list[RealExecutor]]:
    with real_executors(identity("math"), identity("local")) as started:
        yield started


async def test_a_simple_program_stays_in_monty(real: list[RealExecutor]) -> None:
    async with gateway_world(*(one.identity for one in real), pools=[POOL]) as world:
        answer = await world.run("print('sum')\nsum(range(101))")
    assert (answer["status"], answer["stdout"], answer["results"][0]["text"]) == ("Succeeded", "sum\n", "5050")
    assert answer["route"]["tier"] == "math"


async def test_what_monty_lacks_is_run_by_cpython_and_the_answer_says_why(real: list[RealExecutor]) -> None:
    code = "print('once')\nimport statistics\nstatistics.mean([1, 2, 6])"
    async with gateway_world(*(one.identity for one in real), pools=[POOL]) as world:
        answer = await world.run(code)
        lines = await world.lines(code)
    assert (answer["status"], answer["stdout"], answer["results"][0]["text"]) == ("Succeeded", "once\n", "3")
    assert answer["route"]["tier"] == "local"
    assert any(reason.startswith("not on math: ") and "statistics" in reason for reason in answer["route"]["reasons"])
    assert [line["text"] for line in lines if line["type"] == "stdout"] == ["once\n"]


async def test_an_error_of_the_program_is_told_by_cpython(real: list[RealExecutor]) -> None:
    async with gateway_world(*(one.identity for one in real), pools=[POOL]) as world:
        answer = await world.run("{}['missing']")
    assert (answer["status"], answer["error"]["name"], answer["route"]["tier"]) == ("Failed", "KeyError", "local")


async def test_a_pool_of_monty_alone_refuses_what_it_lacks_and_names_the_way_out(real: list[RealExecutor]) -> None:
    async with gateway_world(real[0].identity, pools=[ONLY_MONTY]) as world:
        refusal = await world.refused("import statistics\nprint(statistics.mean([1]))")
        assert (refusal.status, refusal.body["reason"], refusal.body["field"]) == (422, "NotSupported", "code")
        assert "not on math" in refusal.body["detail"]
        assert "runtime Python" in refusal.body["detail"]


async def test_isolation_above_interpreter_excludes_monty(real: list[RealExecutor]) -> None:
    async with gateway_world(*(one.identity for one in real), pools=[POOL]) as world:
        answer = await world.run("1", minIsolation="Container")
    assert answer["route"]["tier"] == "local"


async def test_not_supported_after_output_is_unknown_and_not_run_again() -> None:
    liar = ScriptedExecutor(identity("math"), script=sending(OK + chunk(STDOUT, NOT_SUPPORTED) + FINISH))
    honest = ScriptedExecutor(identity("local"))
    async with scripted(liar, honest), gateway_world(liar.identity, honest.identity, pools=[POOL]) as world:
        answer = await world.run("1")
        assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorMisbehaved")
        assert honest.executions == []


async def test_an_executor_of_cpython_cannot_call_a_run_not_supported() -> None:
    liar = ScriptedExecutor(identity("local"), script=sending(OK + chunk(NOT_SUPPORTED) + FINISH))
    other = ScriptedExecutor(identity("math"), script=sending(OK + chunk(NOT_SUPPORTED) + FINISH))
    async with scripted(liar, other), gateway_world(liar.identity, other.identity, pools=[POOL]) as world:
        answer = await world.run("1")
        assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorMisbehaved")
        assert (len(other.executions), len(liar.executions)) == (1, 1)
