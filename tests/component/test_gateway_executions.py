"""The gateway in front of real executor processes."""

from collections.abc import Iterator

import pytest
from tests.component.gateway_world import Identity, RealExecutor, gateway_world, real_executors


@pytest.fixture(scope="module")
def executors() -> Iterator[list[RealExecutor]]:
    """Executors that serve one principal each for the whole module; a new gateway claims them again."""
    with real_executors(Identity("one"), Identity("two")) as started:
        yield started


async def test_one_and_one_is_two(executors: list[RealExecutor]) -> None:
    async with gateway_world(executors[0].identity) as world:
        answer = await world.run("1+1")
        assert answer["status"] == "Succeeded"
        assert answer["results"][0]["text"] == "2"
