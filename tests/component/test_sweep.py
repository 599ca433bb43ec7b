"""What no event tells: dead watches and strays, on an API server in memory."""

from tests.component.operator_world import OperatorWorld

from execpool.controller.sweep import Sweep
from execpool.controller.tasks import PoolTasks
from execpool.kube.kinds import NETWORK_POLICIES, PODS, POOLS


async def swept(world: OperatorWorld) -> tuple[Sweep, PoolTasks]:
    tasks = PoolTasks(world.reconciler, on_fenced=lambda: None)
    return Sweep(world.kube, world.reconciler.effects, tasks, (), seconds=60.0, grace_seconds=0.0), tasks


async def test_a_pool_that_no_event_told_of_is_started_and_fails_the_health_check():
    world = OperatorWorld()
    ref = world.apply_pool()
    sweep, tasks = await swept(world)
    await sweep.once()
    assert (tasks.uids(), sweep.watch_is_dead) == ({ref.uid}, True)
    await tasks.close()


async def test_a_pool_that_an_event_told_of_is_no_proof_of_a_dead_watch():
    world = OperatorWorld()
    sweep, tasks = await swept(world)
    tasks.nudge(world.apply_pool())
    await sweep.once()
    assert not sweep.watch_is_dead
    await tasks.close()


async def test_executors_of_a_vanished_pool_are_retired_at_the_second_sweep_but_for_a_busy_one():
    world = OperatorWorld()
    await world.settle(world.apply_pool())
    busy = world.pods()[0]
    world.kubelet.executor_of(busy).claim("p1", running=1)
    world.kube.drop(POOLS, "agents", "agents")
    sweep, _ = await swept(world)
    await sweep.once()
    assert len(world.pods()) == 3, "one list may be wrong"
    await sweep.once()
    assert world.pods() == [busy]
    world.kubelet.executor_of(busy).running = 0
    await sweep.once()
    await sweep.once()
    assert (world.pods(), world.kube.peek(NETWORK_POLICIES)) == ([], ())


async def test_a_namesake_made_later_does_not_save_the_strays_of_the_one_before():
    world = OperatorWorld()
    await world.settle(world.apply_pool())
    old = set(world.pods())
    world.kube.drop(POOLS, "agents", "agents")
    world.apply_pool()
    sweep, tasks = await swept(world)
    await sweep.once()
    await sweep.once()
    await tasks.close()
    assert not old & set(world.pods())


async def test_an_empty_list_of_pools_ends_nobodys_executors():
    world = OperatorWorld()
    await world.settle(world.apply_pool())
    before = world.pods()
    genuine = world.kube.list

    async def blind(kind, namespace=None, *, labels=""):
        listing = await genuine(kind, namespace, labels=labels)
        return type(listing)((), listing.resource_version) if kind is POOLS else listing

    world.kube.list = blind
    sweep, tasks = await swept(world)
    for _ in range(3):
        await sweep.once()
    await tasks.close()
    assert world.pods() == before


async def test_an_object_with_half_our_labels_neither_stops_the_sweep_nor_is_touched():
    world = OperatorWorld()
    world.kube.put(PODS, "agents", {"metadata": {"name": "forged", "labels": {"execpool.dev/pool-uid": "x"}}})
    sweep, _ = await swept(world)
    for _ in range(3):
        await sweep.once()
    assert world.pods() == ["forged"]


async def test_a_pool_deleted_while_the_list_travels_is_no_proof_of_a_dead_watch():
    world = OperatorWorld()
    world.apply_pool()
    genuine = world.kube.list

    async def late(kind, namespace=None, *, labels=""):
        listing = await genuine(kind, namespace, labels=labels)
        if kind is POOLS:
            world.kube.drop(POOLS, "agents", "agents")
        return listing

    world.kube.list = late
    sweep, _ = await swept(world)
    await sweep.once()
    assert not sweep.watch_is_dead
