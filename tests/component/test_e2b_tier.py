"""A pool with an e2b tier, its account and a scripted E2B: from records to sandboxes, and to their end."""

from tests.component.account_world import KEYS, account_world

from execpool.core.proof import KeyRing, RootKey
from execpool.core.sealing import unseal
from execpool.kube.kinds import POOLS


async def test_a_pool_gets_its_sandboxes_one_record_each_and_rests():
    async with account_world() as world:
        world.apply_pool(3)
        await world.run(12)
        assert (world.phases(), world.verdict(3)) == (["Ready"] * 3, (0, 0, 0))
        assert world.pool_condition("Ready")["status"] == "True"
        before = (len(world.kube.writes()), len(world.e2b.requests))
        await world.run(20)
        assert (len(world.kube.writes()), len(world.e2b.requests)) == before


async def test_the_record_comes_before_the_request_and_the_id_right_after_it():
    async with account_world() as world:
        world.apply_pool(1)
        await world.run(3)
        story = [one for one in world.effects if "e2bsandboxes" in one or one.startswith("e2b ")]
        assert story == [
            "create e2bsandboxes",
            "e2b create",
            "patch e2bsandboxes",
            "e2b extend",
            "patch e2bsandboxes",
        ]


async def test_a_gateway_can_open_what_a_record_holds_and_nobody_else_finds_a_token_in_it():
    async with account_world() as world:
        world.apply_pool(1)
        await world.run(3)
        (record,) = world.records()
        status = record["status"]
        access = unseal(KEYS, record["metadata"]["uid"], status["sandboxID"], status["sealedTokens"])
        assert (access.url, access.envd_token) == (world.e2b.url, f"envd-{access.sandbox_id}")
        assert "envd-" not in str(record)


async def test_scaling_down_and_deletion_leave_nothing():
    async with account_world() as world:
        ref = world.apply_pool(4)
        await world.run(6)
        world.apply_pool(1)
        await world.run(6)
        assert (world.phases(), world.verdict(1)) == (["Ready"], (0, 0, 0))
        world.delete_pool()
        await world.run(6, ref)
        assert (world.records(), world.e2b.alive(), world.kube.peek(POOLS)) == ([], {}, ())


async def test_sandboxes_whose_tokens_no_gateway_can_open_any_more_are_replaced():
    async with account_world() as world:
        world.apply_pool(2)
        await world.run(12)
        old = world.recorded()
        world.keys = KeyRing((RootKey(b"n" * 32),))
        await world.replace_operator()
        await world.run(60, step=2)
        assert not old & world.recorded()
        assert world.verdict(2) == (0, 0, 0)


async def test_two_generations_of_the_root_key_are_both_in_force():
    async with account_world() as world:
        world.apply_pool(2)
        await world.run(12)
        old = world.recorded()
        world.keys = KeyRing((RootKey(b"n" * 32), *KEYS.keys))
        await world.replace_operator()
        await world.run(60, step=2)
        assert world.recorded() == old


async def test_another_template_replaces_sandboxes_and_the_pool_never_stands_empty():
    async with account_world() as world:
        ref = world.apply_pool(3)
        await world.run(12)
        old = world.recorded()
        world.apply_pool(3, e2b={"template": "mine"})
        for _ in range(30):
            await world.run(1, ref)
            assert "Ready" in world.phases()
        assert not old & world.recorded()
        assert {one.template for one in world.e2b.alive().values()} == {"mine"}


async def test_a_waiting_execution_gets_a_sandbox_beyond_the_warm_ones():
    async with account_world() as world:
        world.apply_pool(1)
        await world.run(12)
        world.waiting["e2b"] = 2
        await world.run(6)
        assert world.verdict(3) == (0, 0, 0)
        world.waiting.clear()
        await world.run(10)
        assert world.verdict(1) == (0, 0, 0)
