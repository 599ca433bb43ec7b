"""Who holds which sandbox: records as compare-and-set, under races, lost answers, restarts and forgeries."""

import asyncio
from typing import Any

import pytest
from tests.component.e2b_sandboxes import (
    COUNT,
    END,
    Sandbox,
    e2b_pool,
    e2b_tier,
    edge,
    kube_with,
    record_writes,
    streaming,
)
from tests.component.gateway_world import gateway_world

from execpool.core.proof import RootKey, principal_id
from execpool.kube.errors import UnreachableError
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import POOLS, SANDBOXES

ANN, BOB = principal_id("acme", "ann"), principal_id("acme", "bob")


def claimed(principal: str, *, gateway: str = "gw-0", epoch: int = 1) -> dict[str, Any]:
    claim = {"principal": principal, "gateway": gateway, "epoch": epoch, "claimedAt": "2026-01-01T00:00:00Z"}
    return {"phase": "Claimed", "claim": claim}


def change(kube: FakeKube, sandbox: Sandbox, **fields: Any) -> None:
    """Write a record as somebody else would."""
    kube.put(SANDBOXES, "team", sandbox.record(**fields))


def is_claim(call: Call) -> bool:
    return call.verb == "patch" and call.plural == SANDBOXES.plural


def deletes(kube: FakeKube) -> list[str]:
    return [call.name for call in record_writes(kube) if call.verb == "delete"]


async def test_two_principals_never_share_a_sandbox() -> None:
    async with edge() as account:
        sandboxes = [account.scripted(name) for name in ("one", "two", "three")]
        kube = kube_with(*sandboxes)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            codes = [{"code": user, "user": user} for user in ("ann", "bob", "cay")]
            replies = await asyncio.gather(*(world.post(code) for code in codes))
            replies += await asyncio.gather(*(world.post(code) for code in codes * 4))
            refused = await world.refused("dan", user="dan", maxWaitSeconds=0)
    assert [reply.status for reply in replies] == [200] * 15
    assert refused.body["reason"] == "WaitTooLong"
    for sandbox in sandboxes:
        assert len({body["code"] for body in sandbox.bodies}) == 1
    assert len(record_writes(kube)) == 3, "one write for each claim, and none for the executions after it"


async def test_one_sandbox_runs_one_execution_at_a_time() -> None:
    async with edge() as account:
        one = account.scripted("one", *[streaming(COUNT, END, hold=0.05) for _ in range(4)])
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            running: list[int] = []
            asked = [asyncio.create_task(world.run("1")) for _ in range(4)]
            while not all(task.done() for task in asked):
                running.append(one.running)
                await asyncio.sleep(0.005)
            await asyncio.gather(*asked)
    assert max(running) == 1


async def test_who_loses_the_race_for_a_record_takes_the_next() -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        kube = kube_with(one, two)
        claims_of_others = iter((True,))

        def overtake(call: Call) -> None:
            if is_claim(call) and call.name == "one" and next(claims_of_others, False):
                change(kube, one, **claimed(BOB, gateway="gw-1"))

        kube.before = overtake
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            answer = await world.run("1", user="ann")
            assert answer["route"]["executor"] == "two"
            mine = await world.run("1", user="bob")
    assert mine["route"]["executor"] == "one"
    assert one.bodies[0]["code"] == "1"


async def test_a_record_that_the_operator_has_renewed_is_claimed_all_the_same() -> None:
    async with edge() as account:
        one = account.scripted("one")
        kube = kube_with(one)
        renewals = iter((600.0, 700.0))

        def renew(call: Call) -> None:
            if is_claim(call) and (seconds := next(renewals, None)) is not None:
                change(kube, one, expires_in=seconds)

        kube.before = renew
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            assert (await world.run("1"))["status"] == "Succeeded"
    assert [call.verb for call in record_writes(kube)] == ["patch"] * 3


async def test_a_claim_whose_answer_was_lost_is_looked_up() -> None:
    async with edge() as account:
        one = account.scripted("one")
        kube = kube_with(one)

        def lose(call: Call) -> None:
            if is_claim(call):
                raise UnreachableError("timed out")

        kube.after = lose
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            assert (await world.run("1"))["status"] == "Succeeded"
    assert len(record_writes(kube)) == 1


async def test_a_claim_of_which_nothing_is_known_is_made_again_once_the_watch_shows_it() -> None:
    async with edge() as account:
        one = account.scripted("one")
        kube = kube_with(one)
        down = True

        def lose(call: Call) -> None:
            if down and is_claim(call):
                raise UnreachableError("timed out")

        def refuse(call: Call) -> None:
            if down and call.verb == "get":
                raise UnreachableError("no connection")

        kube.before, kube.after = refuse, lose
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            waiting = asyncio.create_task(world.run("1", user="ann"))
            await world.until(lambda: len(record_writes(kube)) >= 1)
            down = False
            assert (await waiting)["status"] == "Succeeded"
    assert record_writes(kube)[-1].body["status"]["claim"]["epoch"] == 2


async def test_a_gateway_that_starts_again_keeps_its_claims_with_a_higher_epoch() -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        kube = kube_with(one, two)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            first = await world.run("1", user="ann")
        async with gateway_world(kube=kube, pools=[e2b_pool()], pod_name="gw-9") as world:
            other = await world.run("1", user="bob")
            again = await world.run("1", user="ann")
    assert (first["route"]["executor"], again["route"]["executor"], other["route"]["executor"]) == ("one", "one", "two")
    claim = record_writes(kube)[-1].body["status"]["claim"]
    assert (claim["epoch"], claim["gateway"], claim["principal"]) == (2, "gw-9", ANN)
    assert deletes(kube) == []


# Records that are not what they say


def foreign(one: Sandbox, _: Sandbox) -> dict[str, Any]:
    return {"sealedTokens": one.sealed(RootKey(bytes(32)))}


def moved(_: Sandbox, other: Sandbox) -> dict[str, Any]:
    return {"sealedTokens": other.sealed(), "sandboxID": other.sandbox_id}


def renamed(_: Sandbox, other: Sandbox) -> dict[str, Any]:
    return {"sandboxID": other.sandbox_id}


def altered(one: Sandbox, _: Sandbox) -> dict[str, Any]:
    sealed = one.sealed()
    return {"sealedTokens": sealed[:-20] + ("A" if sealed[-20] != "A" else "B") + sealed[-19:]}


def absent(_one: Sandbox, _: Sandbox) -> dict[str, Any]:
    return {"sealedTokens": ""}


def without_a_deadline(_one: Sandbox, _: Sandbox) -> dict[str, Any]:
    return {"expiresAt": None}


def claimed_by_nobody(_one: Sandbox, _: Sandbox) -> dict[str, Any]:
    return {"phase": "Claimed"}


def in_a_phase_that_is_not_there(_one: Sandbox, _: Sandbox) -> dict[str, Any]:
    return {"phase": "Warm"}


@pytest.mark.parametrize(
    "forge",
    [
        foreign,
        moved,
        renamed,
        altered,
        absent,
        without_a_deadline,
        claimed_by_nobody,
        in_a_phase_that_is_not_there,
    ],
)
async def test_a_record_that_was_not_written_by_the_operator_for_this_sandbox_is_never_used(
    forge: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with edge() as account:
        one, other = account.scripted("one"), account.scripted("other")
        kube = kube_with()
        change(kube, one, **forge(one, other))
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            change(kube, one, **forge(one, other))
            await kube.notify()
            refused = await world.refused(maxWaitSeconds=0)
    assert refused.body["reason"] == "WaitTooLong"
    assert (one.calls, other.calls, record_writes(kube)) == ([], [], [])
    assert sum(record.message == "record not used" for record in caplog.records) <= 1


async def test_a_record_that_names_another_principal_than_the_one_it_served_serves_neither() -> None:
    async with edge() as account:
        one = account.scripted("one")
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            await world.run("secret of ann", user="ann")
            change(kube, one, **claimed(BOB, epoch=7))
            await kube.notify()
            await world.until(lambda: deletes(kube) == ["one"])
            assert (await world.refused(user="bob", maxWaitSeconds=0)).status == 429
    assert [body["code"] for body in one.bodies] == ["secret of ann"]


async def test_a_record_that_is_being_deleted_or_ended_takes_no_more() -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        kube = kube_with(one, two)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            await world.run("1", user="ann")
            change(kube, one, **{**claimed(ANN), "phase": "Terminating"})
            await kube.notify()
            await asyncio.sleep(0.02)
            assert (await world.run("2", user="ann"))["route"]["executor"] == "two"


async def test_a_sandbox_that_ends_too_soon_for_a_run_is_not_used_for_it() -> None:
    async with edge() as account:
        short, long = account.scripted("short"), account.scripted("long")
        kube = kube_with()
        change(kube, short, expires_in=60)
        change(kube, long, expires_in=600)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            first = await world.run("1", timeoutSeconds=3600)
            second = await world.run("1", user="bob", timeoutSeconds=30)
    assert (first["route"]["executor"], second["route"]["executor"]) == ("long", "short")


# The end of a hold


async def test_a_hold_ends_after_its_idle_seconds_with_one_delete() -> None:
    async with edge() as account:
        one = account.scripted("one", streaming(COUNT, END, hold=1.0))
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            (served,) = world.service._pools.all()
            served._rooms = {"e2b": served._rooms["e2b"].__class__(16, 0.2)}
            running = asyncio.create_task(world.run("1"))
            await asyncio.sleep(0.9)
            served.end_holds()
            assert deletes(kube) == [], "not while something runs"
            await running
            await world.until(lambda: deletes(kube) == ["one"])
            await asyncio.sleep(1.2)
    assert [call.verb for call in record_writes(kube)] == ["patch", "delete"]


async def test_a_suspended_pool_lets_its_idle_sandboxes_go_at_once() -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two", streaming(COUNT, END, hold=0.5))
        kube = kube_with(one, two)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            await world.run("1", user="ann")
            running = asyncio.create_task(world.run("1", user="bob"))
            await world.until(lambda: two.running == 1)
            kube.put(POOLS, "team", e2b_pool(suspend=True))
            await kube.notify()
            (served,) = world.service._pools.all()
            await world.until(lambda: served.refusal() is not None)
            served.end_holds()
            await world.until(lambda: deletes(kube) == ["one"])
            assert (await running)["status"] == "Succeeded"
            served.end_holds()
            await world.until(lambda: deletes(kube) == ["one", "two"])


async def test_an_end_that_the_api_server_did_not_hear_is_told_again() -> None:
    async with edge() as account:
        one = account.scripted("one")
        kube = kube_with(one)
        lost = iter((True, True))

        def refuse(call: Call) -> None:
            if call.verb == "delete" and call.plural == SANDBOXES.plural and next(lost, False):
                raise UnreachableError("down")

        kube.before = refuse
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            await world.run("1")
            (served,) = world.service._pools.all()
            served.claims.spend(one.uid)
            assert (await world.refused(maxWaitSeconds=0)).status == 429
            await world.until(lambda: len(deletes(kube)) == 3)
            await asyncio.sleep(1.1)
    assert len(deletes(kube)) == 3


async def test_the_longest_idle_hold_makes_room_for_those_who_wait() -> None:
    async with edge() as account:
        one, two, new = (account.scripted(name) for name in ("one", "two", "new"))
        kube = kube_with(one, two)
        async with gateway_world(kube=kube, pools=[e2b_pool(tier=e2b_tier(max=2))]) as world:
            await world.run("1", user="ann")
            await world.run("1", user="bob")
            await world.run("1", user="ann")
            (served,) = world.service._pools.all()
            waiting = asyncio.create_task(world.run("1", user="cay"))
            await world.until(lambda: world.waiting() == 1)
            served.end_holds()
            assert deletes(kube) == [], "held for less than five seconds"
            for entry in served.claims._entries.values():
                entry.held_since -= 5
            served.end_holds()
            await world.until(lambda: deletes(kube) == ["two"])
            change(kube, new)
            await kube.notify()
            assert (await waiting)["route"]["executor"] == "new"
    assert deletes(kube) == ["two"]


async def test_with_the_api_server_down_what_is_held_goes_on() -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        kube = kube_with(one, two)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            await world.run("1", user="ann")
            kube.before = _down
            assert (await world.run("2", user="ann"))["status"] == "Succeeded"
            refused = await world.refused(user="bob", maxWaitSeconds=0.3)
            kube.before = lambda _: None
    assert (refused.status, refused.body["reason"]) == (503, "ControlPlaneUnavailable")
    assert two.bodies == []


def _down(_call: Call) -> None:
    raise UnreachableError("down")


async def test_a_tier_of_sandboxes_serves_what_no_pod_is_there_for() -> None:
    async with edge() as account:
        one = account.scripted("one")
        local = {"name": "local", "pods": {"max": 2}}
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool(local)]) as world:
            answer = await world.run("1")
    assert answer["route"] == {"tier": "e2b", "executor": "one", "reasons": ["tiers in the pool's order"]}
