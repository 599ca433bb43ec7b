"""Each rule of the slot protocol is left out once, and something of the other tests' must see it: so they test something."""

from collections.abc import Sequence

import pytest
from tests.campaigns.planted import (
    AsksAgainBlindly,
    AsksWithoutIntent,
    BelievesEveryList,
    ReadsOnePage,
    RecordsLater,
    TakesAllForOurs,
    never_full,
)
from tests.component.account_world import AccountWorld, Parts, account_world
from tests.component.scripted_e2b import Hang, Reset

from execpool.core.learning import LearnedNumber
from execpool.core.slots import LONG_TTL_SECONDS
from execpool.kube.client import Listing
from execpool.kube.kinds import SANDBOXES
from execpool.providers.e2b.client import E2BClient
from execpool.providers.e2b.slot_driver import SlotDriver
from execpool.providers.e2b.sweeping import Sweeper
from execpool.providers.e2b.tags import Tagger


async def growing(world: AccountWorld, seconds: float = 100) -> None:
    world.apply_pool(2)
    await world.run(seconds, step=2)


async def test_a_sandbox_without_a_record_is_seen():
    async with account_world(Parts(provider=AsksWithoutIntent)) as world:
        await growing(world)
        assert world.unannounced > 0


@pytest.mark.parametrize(("driver", "unrecorded"), [(SlotDriver, 0), (RecordsLater, 1)])
async def test_an_id_that_is_not_recorded_at_once_is_seen(driver: type[SlotDriver], unrecorded: int):
    async with account_world(Parts(driver=driver)) as world:
        await growing(world, 20)
        assert min(world.unrecorded, 1) == unrecorded


@pytest.mark.parametrize(("options", "lives"), [({}, False), ({"short_ttl": LONG_TTL_SECONDS}, True)])
async def test_a_long_first_deadline_is_seen(options: dict, lives: bool):
    async with account_world(Parts(driver_options=options)) as world:
        world.apply_pool(1)
        world.crash = lambda name, after: (name, after) == ("e2b create", True)
        world.comes_back = False
        await world.run(126)
        assert world.crashes == 1
        assert bool(world.e2b.alive()) is lives


@pytest.mark.parametrize(("client", "most"), [(E2BClient, 1), (ReadsOnePage, 2)])
async def test_a_list_that_is_not_read_to_its_end_is_seen(client: type[E2BClient], most: int):
    async with account_world(Parts(client=client)) as world:
        world.e2b.page = 2
        for _ in range(5):
            world.e2b.make("base", {}, 3600)
        lost = [Reset(commits=True)]
        world.e2b.fault = lambda name: lost.pop() if name == "create" and lost else None
        await growing(world)
        assert world.e2b.most_of_one_record == most


@pytest.mark.parametrize(("driver", "most"), [(SlotDriver, 1), (AsksAgainBlindly, 2)])
async def test_asking_again_after_a_time_out_is_seen(driver: type[SlotDriver], most: int):
    async with account_world(Parts(driver=driver)) as world:
        lost = [Hang(commits=True)]
        world.e2b.fault = lambda name: lost.pop() if name == "create" and lost else None
        await growing(world, 30)
        assert world.e2b.most_of_one_record == most


@pytest.mark.parametrize("planted", [False, True])
async def test_asking_a_full_account_again_and_again_is_seen(planted: bool, monkeypatch: pytest.MonkeyPatch):
    if planted:
        monkeypatch.setattr(LearnedNumber, "full", never_full)
    async with account_world() as world:
        world.e2b.cap = 1
        await growing(world, 28)
        assert (world.e2b.count("create") > 2) is planted


@pytest.mark.parametrize(("tagger", "survive"), [(Tagger, 3), (TakesAllForOurs, 0)])
async def test_ending_what_is_not_ours_is_seen(tagger: type[Tagger], survive: int):
    async with account_world(Parts(tagger=tagger)) as world:
        others: Sequence[str] = [world.e2b.make("base", {}, 3600).id for _ in range(3)]
        await growing(world, 220)
        assert sum(name in world.e2b.alive() for name in others) == survive


@pytest.mark.parametrize(("sweeper", "killed"), [(Sweeper, False), (BelievesEveryList, True)])
async def test_believing_an_empty_list_of_records_is_seen(sweeper: type[Sweeper], killed: bool):
    async with account_world(Parts(sweeper=sweeper)) as world:
        await growing(world, 20)
        assert world.e2b.count("kill") == 0
        genuine = world.kube.list

        async def blind(kind, namespace=None, *, labels=""):
            listing = await genuine(kind, namespace, labels=labels)
            return Listing((), listing.resource_version) if kind is SANDBOXES and not labels else listing

        world.kube.list = blind
        await world.run(500, step=5)
        assert (world.e2b.count("kill") > 0) is killed
