"""What only a whole operator shows: its process, its API server, and an emulator whose ledger says what was asked of it."""

from itertools import pairwise
from pathlib import Path

from tests.campaigns.matrix import CALLS
from tests.campaigns.pace import Pace
from tests.campaigns.world import Options, World, world

from execpool.emulator.ledger import Event
from execpool.kube.kinds import ACCOUNTS, POOLS

MOST_OF_HOBBY = 20
SHARE = 10
"""What 50 % of headroom leave of it to us."""
PACE_SLACK_SECONDS = 0.05


def stalled(one: World) -> dict[str, str]:
    (account,) = one.kube.peek(ACCOUNTS)
    conditions = account.get("status", {}).get("conditions", [])
    return next((condition for condition in conditions if condition["type"] == "Stalled"), {})


def sent(one: World, *effects: str) -> list[float]:
    return sorted(noted.time for noted in one.requests() if noted.what == "sent" and noted.effect in effects)


async def test_a_refused_key_stalls_the_account_and_is_not_tried_for_a_minute_and_a_mended_secret_heals_in_ten_seconds(
    tmp_path: Path,
):
    async with world(Pace(5), tmp_path, Options(key="e2b_ff")) as one:
        one.apply_pool(2)
        await one.until(lambda: bool(stalled(one)), "Stalled")
        assert (stalled(one)["reason"], "Secret e2b" in stalled(one)["message"]) == ("CredentialInvalid", True)
        (refused,) = [entry for entry in one.history().of(Event.REFUSED) if entry.status == 401]
        await one.sleep(refused.time + 57 - one.pace.now())
        assert len(sent(one, *CALLS)) == 1
        assert len(one.history().of(Event.REFUSED)) == 1

        mended_at = one.pace.now()
        one.apply_secret()
        await one.until(lambda: one.is_settled(2), "2 ready", 30)
        first = next(life.created.time for life in one.history().lives.values() if life.created.call and _is_ours(life))
        assert first - mended_at <= 10
        await one.until(lambda: not stalled(one), "all well", 10)


def _is_ours(life) -> bool:
    return "execpool-cluster" in life.created.metadata


async def two_pools(one: World) -> None:
    one.apply_pool(8)
    one.apply_pool(8, namespace="team")


def keeps_its_limits(one: World, slack: float) -> None:
    """By the ledger never more sandboxes than are ours, and no two creations asked for within a second."""
    assert one.history().most_alive() <= SHARE < MOST_OF_HOBBY
    asked = sent(one, "create")
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 1.0 - slack


HOBBY = Options(
    account={"plan": "Hobby", "limits": {}, "headroomPercent": 50, "allowedNamespaces": ["team"]},
    emulator={"plan": "hobby"},
    foreign=0,
)


async def test_two_pools_of_two_namespaces_keep_one_accounts_limits_together(tmp_path: Path):
    async with world(Pace(1), tmp_path, HOBBY) as one:
        await two_pools(one)
        await one.until(lambda: len(one.history().created()) >= SHARE, "all that there may be", 60)
        await one.sleep(3)
        keeps_its_limits(one, slack=0.05)
        assert {record["metadata"]["namespace"] for record in one.records()} == {"agents", "team"}
        conditions = [condition for pool in one.kube.peek(POOLS) for condition in pool["status"]["conditions"]]
        assert "AccountFull" in {one["reason"] for one in conditions if one["type"] == "WarmPoolFilled"}


async def test_operators_that_are_killed_one_after_another_keep_them_too(tmp_path: Path):
    """A restart costs what may have been asked for a minute of looking, and never a creation too many."""
    async with world(Pace(8), tmp_path, HOBBY) as one:
        await two_pools(one)
        for number in (2, 4, 6):
            await one.until(lambda number=number: len(one.history().created()) >= number, "creations", 200)
            one.operators.kill()
        await one.until(lambda: len(one.history().created()) >= SHARE, "all that there may be", 200)
        await one.sleep(3)
        keeps_its_limits(one, slack=0.1)
        assert one.operators.died == 3
