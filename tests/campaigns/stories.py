"""What is done to a pool, one story each; returns how many sandboxes are wanted at its end."""

from collections.abc import Awaitable, Callable

from execpool.kube.kinds import POOLS
from tests.campaigns.world import World

Story = Callable[[World], Awaitable[int]]


async def create(world: World) -> int:
    world.apply_pool(3)
    await _settled(world, 3)
    return 3


async def scale(world: World) -> int:
    world.apply_pool(0)
    await world.sleep(3)
    world.apply_pool(8)
    await _settled(world, 8)
    world.apply_pool(3)
    await _settled(world, 3)
    return 3


async def template(world: World) -> int:
    world.apply_pool(3)
    await _settled(world, 3)
    world.apply_pool(3, e2b={"template": "base"})
    await _settled(world, 3, "base")
    return 3


async def delete_busy(world: World) -> int:
    """One is claimed; the pool waits for it for as long as its drain may take, and no longer."""
    world.apply_pool(3, deletion={"policy": "Drain", "timeoutSeconds": 60})
    await _settled(world, 3)
    world.claim()
    world.delete_pool()
    await _gone(world)
    return 0


async def delete_idle(world: World) -> int:
    world.apply_pool(3)
    await _settled(world, 3)
    world.delete_pool()
    await _gone(world)
    return 0


STORIES: dict[str, Story] = {
    "create": create,
    "scale": scale,
    "template": template,
    "delete-busy": delete_busy,
    "delete-idle": delete_idle,
}


async def _settled(world: World, count: int, template: str = "") -> None:
    await world.until(lambda: world.is_settled(count, template), " ".join(f"{count} ready {template}".split()))


async def _gone(world: World) -> None:
    await world.until(lambda: world.kube.peek(POOLS) == (), "the pool's end")
