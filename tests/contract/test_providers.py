"""What every provider promises, tried on pods in memory, on the real cluster and as processes, and on sandboxes: so the fakes cannot lie."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.contract.e2b_bench import e2b_bench
from tests.contract.provider_benches import Bench, MemoryBench, cluster_bench, processes_bench, until

from execpool.core.model import Phase
from execpool.protocol import Expect
from execpool.providers.base import Retirement

PODS = ["memory", "processes", pytest.param("cluster", marks=pytest.mark.cluster)]


@pytest.fixture(params=[*PODS, "e2b"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "memory":
        yield MemoryBench()
        return
    if request.param == "e2b":
        async with e2b_bench() as sandboxes:
            yield sandboxes
        return
    if request.param == "processes":
        async with processes_bench() as processes:
            yield processes
        return
    cluster, namespace = request.getfixturevalue("cluster"), request.getfixturevalue("namespace")
    async with cluster_bench(cluster, namespace) as real:
        yield real


def tier_of(bench: Bench):
    return bench.pool.spec.tiers[0]


async def test_an_executor_shows_from_the_moment_create_returns(bench: Bench):
    name = await bench.provider.create(bench.pool, tier_of(bench))
    (seen,) = await bench.provider.observe(bench.pool)
    assert (seen.name, seen.phase, seen.tier) == (name, Phase.STARTING, "local")
    assert seen.template_hash == bench.provider.template_hash(tier_of(bench))


async def test_an_executor_becomes_ready_is_claimed_and_says_by_whom(bench: Bench):
    await bench.provider.create(bench.pool, tier_of(bench))
    (ready,) = await until(bench, Phase.READY)
    await bench.claim(ready, "principal-one")
    (held,) = await until(bench, Phase.CLAIMED)
    assert (held.claim.principal, held.claim.epoch) == ("principal-one", 1)


async def test_retiring_a_warm_one_ends_it(bench: Bench):
    await bench.provider.create(bench.pool, tier_of(bench))
    (ready,) = await until(bench, Phase.READY)
    assert await bench.provider.retire(bench.pool, ready, Expect.WARM) is Retirement.RETIRED
    async with asyncio.timeout(30):
        while [executor for executor in await bench.provider.observe(bench.pool) if executor.phase is not Phase.ENDED]:
            await bench.pass_time()


async def test_retiring_one_that_was_claimed_meanwhile_changes_nothing(bench: Bench):
    await bench.provider.create(bench.pool, tier_of(bench))
    (ready,) = await until(bench, Phase.READY)
    await bench.claim(ready, "principal-one")
    assert await bench.provider.retire(bench.pool, ready, Expect.WARM) is Retirement.HELD
    await until(bench, Phase.CLAIMED)


async def test_an_executor_that_nobody_can_know_to_be_idle_is_not_retired_as_idle():
    async with e2b_bench() as bench:
        await bench.provider.create(bench.pool, tier_of(bench))
        (ready,) = await until(bench, Phase.READY)
        await bench.claim(ready, "principal-one")
        (held,) = await until(bench, Phase.CLAIMED)
        assert held.claim.running > 0, "so that no plan takes it for idle"
        assert await bench.provider.retire(bench.pool, held, Expect.IDLE) is Retirement.HELD


@pytest.mark.parametrize("bench", PODS, indirect=True)
async def test_retiring_an_idle_claim_needs_its_latest_epoch(bench: Bench):
    await bench.provider.create(bench.pool, tier_of(bench))
    (ready,) = await until(bench, Phase.READY)
    await bench.claim(ready, "principal-one")
    (seen,) = await until(bench, Phase.CLAIMED)
    await bench.claim(seen, "principal-one")
    assert await bench.provider.retire(bench.pool, seen, Expect.IDLE) is Retirement.HELD
    (latest,) = await until(bench, Phase.CLAIMED)
    assert await bench.provider.retire(bench.pool, latest, Expect.IDLE) is Retirement.RETIRED


async def test_retiring_one_that_is_gone_says_so_and_removing_it_is_no_error(bench: Bench):
    await bench.provider.create(bench.pool, tier_of(bench))
    (ready,) = await until(bench, Phase.READY)
    await bench.provider.remove(ready, bench.pool.namespace)
    async with asyncio.timeout(40):
        while await bench.provider.observe(bench.pool):
            await bench.pass_time()
    assert await bench.provider.retire(bench.pool, ready, Expect.WARM) is Retirement.GONE
    await bench.provider.remove(ready, bench.pool.namespace)


@pytest.mark.parametrize("bench", PODS, indirect=True)
async def test_policies_are_as_wanted_once_applied_and_gone_once_removed(bench: Bench):
    assert not await bench.provider.policies_current(bench.pool)
    await bench.provider.apply_policies(bench.pool)
    assert await bench.provider.policies_current(bench.pool)
    await bench.provider.remove_policies(bench.pool)
    assert not await bench.provider.policies_current(bench.pool)


async def test_what_a_vanished_pool_left_behind_is_found(bench: Bench):
    await bench.provider.create(bench.pool, tier_of(bench))
    strays = await bench.provider.stray_pools([])
    assert bench.pool.uid in {stray.uid for stray in strays}
    assert bench.pool.uid not in {stray.uid for stray in await bench.provider.stray_pools([bench.pool.uid])}
