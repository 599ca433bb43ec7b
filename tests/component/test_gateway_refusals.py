"""Every refusal, its status, and what it tells."""

import json
from typing import Any

import pytest
from tests.component.gateway_world import OTHER_SECRET, SECRET, Identity, gateway_world, key, pool
from tests.component.scripted_executor import ScriptedExecutor, answering, scripted

from execpool.kube.kinds import KEYS, POOLS

CODE = {"code": "1"}
UNKNOWN = (("GET", "/v1/executions", 405), ("POST", "/v1/nothing", 404), ("POST", "/v1/executions/", 404))


def check_problem(reply: Any, status: int, reason: str) -> None:
    """A problem answer has the form of RFC 9457 and our reason."""
    assert (reply.status, reply.body["status"], reply.body["reason"]) == (status, status, reason)
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.body["type"] == f"https://execpool.dev/problems/{reason}"
    assert reply.body["title"]
    assert reply.body["detail"]
    assert reply.body["requestId"] == reply.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ({"disabled": True}, "disabled"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "expired"),
        ({"keyHash": "0" * 64}, "not known"),
    ],
)
async def test_a_key_that_is_not_valid_is_denied(spec: dict[str, Any], detail: str) -> None:
    async with gateway_world(keys=[key(**spec) if "keyHash" not in spec else key(OTHER_SECRET)]) as world:
        reply = await world.post(CODE)
        check_problem(reply, 401, "Unauthenticated")
        assert detail in reply.body["detail"]
        assert reply.headers["WWW-Authenticate"].startswith("Bearer ")


async def test_a_request_without_a_key_is_denied_before_its_body_is_looked_at() -> None:
    async with gateway_world() as world:
        check_problem(await world.post(b"not json", secret=None), 401, "Unauthenticated")


async def test_keys_follow_the_watch() -> None:
    async with gateway_world() as world:
        check_problem(await world.post(CODE, secret=OTHER_SECRET), 401, "Unauthenticated")
        world.kube.put(KEYS, "team", key(OTHER_SECRET, name="second"))
        await world.kube.notify()
        await world.until(lambda: len(world.kube.peek(KEYS)) == 2)
        reply = await world.post({**CODE, "maxWaitSeconds": 0}, secret=OTHER_SECRET)
        assert reply.body["reason"] == "WaitTooLong"
        world.kube.drop(KEYS, "team", "second")
        await world.kube.notify()
        check_problem(await world.post(CODE, secret=OTHER_SECRET), 401, "Unauthenticated")


async def test_a_hash_copied_into_another_namespace_neither_gains_nor_denies_anything() -> None:
    async with gateway_world() as world:
        world.kube.put(KEYS, "thief", key())
        await world.kube.notify()
        reply = await world.post({**CODE, "maxWaitSeconds": 0})
        check_problem(reply, 429, "WaitTooLong")
        world.kube.put(KEYS, "team", key(name="copy"))
        await world.kube.notify()
        check_problem(await world.post(CODE), 401, "Unauthenticated")


async def test_a_pool_the_key_does_not_see_is_not_found_and_the_known_are_listed() -> None:
    pools = [pool(), pool(name="other", uid="u2"), pool(name="hidden", uid="u3")]
    async with gateway_world(pools=pools, keys=[key(pools=["agents", "other"])]) as world:
        world.kube.put(POOLS, "elsewhere", pool(name="theirs", uid="u4"))
        await world.kube.notify()
        for name in ("hidden", "theirs", "missing"):
            reply = await world.post({**CODE, "pool": name})
            check_problem(reply, 404, "PoolNotFound")
            assert reply.body["pools"] == ["agents", "other"]
        reply = await world.post(CODE)
        check_problem(reply, 400, "InvalidRequest")
        assert reply.body["pools"] == ["agents", "other"]


async def test_a_key_without_any_pool_is_told_so() -> None:
    async with gateway_world(keys=[key(pools=["gone"])]) as world:
        check_problem(await world.post(CODE), 404, "PoolNotFound")


@pytest.mark.parametrize(
    ("body", "reason", "named"),
    [
        ({"code": "1", "timeout": 3}, "InvalidRequest", "timeout"),
        ({"code": "1", "tier": "gpu"}, "InvalidRequest", "local"),
        ({"code": "1", "files": {}}, "UnsupportedOption", "files"),
        ({"code": "1", "minIsolation": "MicroVM"}, "UnsupportedOption", "local Container"),
        ({"user": "x"}, "InvalidRequest", "code"),
    ],
)
async def test_a_request_that_cannot_be_honoured_names_the_field(body: dict[str, Any], reason: str, named: str) -> None:
    async with gateway_world() as world:
        reply = await world.post(body)
        check_problem(reply, 400, reason)
        assert named in reply.body["detail"]
        assert "Retry-After" not in reply.headers


async def test_the_isolation_that_the_operator_reports_counts() -> None:
    reported = {"name": "local", "kind": "pods", "isolation": "UserNamespace"}
    counts = dict.fromkeys(("desired", "ready", "starting", "claimed", "terminating"), 0)
    one = pool() | {"status": {"tiers": [reported | counts]}}
    async with gateway_world(pools=[one]) as world:
        reply = await world.post({**CODE, "minIsolation": "UserNamespace", "maxWaitSeconds": 0})
        check_problem(reply, 429, "WaitTooLong")
        check_problem(await world.post({**CODE, "minIsolation": "Sandboxed"}), 400, "UnsupportedOption")


async def test_a_tier_that_became_stronger_does_not_lend_its_rank_to_its_old_executors() -> None:
    """The spec has a RuntimeClass by now, and the operator reports it; the executor was made before."""
    tier = {"name": "local", "pods": {"max": 8, "slots": 1, "runtimeClassName": "gvisor"}}
    old = ScriptedExecutor(Identity("old", slots=1))
    new = ScriptedExecutor(Identity("new", slots=1, template="t2", spec={"runtimeClassName": "gvisor"}))
    async with scripted(old, new), gateway_world(old.identity, pools=[pool(tiers=[tier])]) as world:
        assert (await world.run("1"))["route"]["executor"] == "old"
        reply = await world.post({**CODE, "minIsolation": "Sandboxed", "maxWaitSeconds": 0})
        check_problem(reply, 429, "WaitTooLong")
        await world.put(new.identity)
        assert (await world.run("1", minIsolation="Sandboxed"))["route"]["executor"] == "new"


async def test_bodies_beyond_the_limits_are_too_large() -> None:
    async with gateway_world(max_body_bytes=2 << 20) as world:
        check_problem(await world.post({"code": "x" * ((1 << 20) + 1)}), 413, "RequestTooLarge")
        reply = await world.post({"code": "x" * (2 << 20)})
        check_problem(reply, 413, "RequestTooLarge")
        assert reply.headers["Connection"] == "close"

        async def endless() -> Any:
            for _ in range(40):
                yield b"x" * 100_000

        headers = {"Authorization": f"Bearer {SECRET}"}
        async with world.http.post(world.url, data=endless(), headers=headers) as response:
            assert response.status == 413


async def test_a_suspended_pool_and_one_that_is_deleted_say_so() -> None:
    async with gateway_world(pools=[pool(suspend=True)]) as world:
        check_problem(await world.post(CODE), 503, "PoolSuspended")
        deleting = pool()
        deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        world.kube.put(POOLS, "team", deleting)
        await world.kube.notify()
        check_problem(await world.post(CODE), 503, "Draining")
        world.kube.drop(POOLS, "team", "agents")
        await world.kube.notify()
        check_problem(await world.post(CODE), 404, "PoolNotFound")


async def test_a_pool_that_is_gone_has_no_gauges() -> None:
    good = ScriptedExecutor(Identity("good"))
    async with scripted(good), gateway_world(good.identity) as world:
        await world.run("1")
        gauges = ("execpool_waiting_executions", "execpool_running_executions", "execpool_claims_held")
        _, before = await world.health("metrics")
        assert all(f'{gauge}{{namespace="team",pool="agents"}}' in before for gauge in gauges)
        world.kube.drop(POOLS, "team", "agents")
        await world.kube.notify()
        _, after = await world.health("metrics")
        assert not any(f'{gauge}{{namespace="team",pool="agents"}}' in after for gauge in gauges)


async def test_nothing_free_and_no_wait_is_refused_at_once() -> None:
    async with gateway_world() as world:
        reply = await world.post({**CODE, "maxWaitSeconds": 0})
        check_problem(reply, 429, "WaitTooLong")
        assert int(reply.headers["Retry-After"]) == reply.body["retryAfterSeconds"] >= 1


async def test_a_wait_ends_at_its_deadline() -> None:
    async with gateway_world() as world:
        reply = await world.post({**CODE, "maxWaitSeconds": 0.2})
        check_problem(reply, 504, "DeadlinePassed")
        assert "0 of 0 ready executors are held" in reply.body["detail"]
        assert "Retry-After" in reply.headers


async def test_the_pools_longest_wait_bounds_what_is_asked_for() -> None:
    async with gateway_world(pools=[pool(queue={"maxWaitSeconds": 0})]) as world:
        check_problem(await world.post({**CODE, "maxWaitSeconds": 60}), 429, "WaitTooLong")


async def test_a_queue_without_room_refuses() -> None:
    async with gateway_world(pools=[pool(queue={"maxDepth": 0})]) as world:
        reply = await world.post(CODE)
        check_problem(reply, 429, "QueueFull")
        assert "allows 0" in reply.body["detail"]
        assert "Retry-After" in reply.headers


async def test_executors_that_all_turn_an_execution_away_are_no_capacity() -> None:
    turned = ScriptedExecutor(Identity("stale"), script=answering(401))
    async with scripted(turned), gateway_world(turned.identity) as world:
        check_problem(await world.post(CODE), 503, "NoCapacity")
        assert len(turned.executions) == 8
        assert turned.epoch == 8


async def test_a_request_that_an_executor_does_not_take_is_not_sent_to_others() -> None:
    strict = ScriptedExecutor(Identity("strict"), script=answering(413))
    async with scripted(strict), gateway_world(strict.identity) as world:
        check_problem(await world.post(CODE), 400, "InvalidRequest")
        assert len(strict.executions) == 1


async def test_unknown_paths_and_methods_are_problems_too() -> None:
    async with gateway_world() as world:
        for method, path, status in UNKNOWN:
            url = f"http://127.0.0.1:{world.service.port}{path}"
            async with world.http.request(method, url, allow_redirects=False) as response:
                assert response.status == status
                assert response.headers["Content-Type"] == "application/problem+json"


async def test_the_openapi_document_is_served() -> None:
    async with (
        gateway_world() as world,
        world.http.get(f"http://127.0.0.1:{world.service.port}/openapi.json") as response,
    ):
        assert "/v1/executions" in json.loads(await response.read())["paths"]


async def test_refusals_are_counted_by_reason_and_logged_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    async with gateway_world() as world:
        before = await world.metric("execpool_refusals_total", reason="WaitTooLong")
        with caplog.at_level("INFO", logger="execpool.audit"):
            await world.post({"code": "print('private')", "user": "ann", "maxWaitSeconds": 0})
            await world.post(CODE, secret="ep_wrong")
        assert await world.metric("execpool_refusals_total", reason="WaitTooLong") == before + 1
    refusal, denial = (record.__dict__ for record in caplog.records)
    assert (refusal["tenant"], refusal["user"], refusal["reason"]) == ("acme", "ann", "WaitTooLong")
    assert len(refusal["code_sha256"]) == 64
    assert denial["message"] == "denial"
    assert not any(word in str(one) for one in (refusal, denial) for word in ("private", SECRET, "ep_wrong"))
