"""The gateway in front of E2B's data plane: records are claimed, code runs, and nobody meets anybody else's sandbox."""

import asyncio
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.component.e2b_sandboxes import (
    COUNT,
    END,
    GONE,
    answering,
    e2b_pool,
    edge,
    kube_with,
    record_writes,
    said,
    streaming,
)
from tests.component.gateway_world import SECRET, Identity, RealExecutor, gateway_world, real_executors

from execpool.core.claiming import SandboxRecord, Target
from execpool.core.proof import principal_id
from execpool.core.sealing import SandboxAccess
from execpool.gateway import e2b_wire


@pytest.fixture(scope="module")
def executor() -> Iterator[RealExecutor]:
    with real_executors(Identity("one")) as (started,):
        yield started


def error(name: str) -> dict[str, Any]:
    return {"type": "error", "name": name, "value": "v", "traceback": "t"}


# What a caller gets


async def test_code_runs_in_the_sandbox_of_a_record_that_is_claimed_once(executor: RealExecutor) -> None:
    async with edge() as account:
        one = await account.in_front_of(executor.identity)
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            answers = [
                await world.run("x = 2", env={"WHO": "ann"}),
                await world.run("import os\nprint(os.environ.get('WHO'))\nglobals().get('x')"),
                await world.run("6 * 7"),
            ]
            failed = await world.run("print('before')\n1/0")
    assert [answer["status"] for answer in answers] == ["Succeeded"] * 3
    assert (answers[1]["stdout"], answers[1]["results"]) == ("None\n", [])
    assert answers[2]["results"] == [{"text": "42", "is_main_result": True}]
    assert (failed["status"], failed["stdout"]) == ("Failed", "before\n")
    assert failed["error"]["name"] == "ZeroDivisionError"
    assert answers[2]["route"]["tier"] == "e2b"
    assert 0 < answers[2]["timings"]["runSeconds"] <= answers[2]["timings"]["totalSeconds"]
    (claim,) = record_writes(kube)
    assert claim.body["status"]["claim"] | {"claimedAt": ""} == {
        "principal": principal_id("acme", ""),
        "gateway": "gw-0",
        "epoch": 1,
        "claimedAt": "",
    }


async def test_what_a_program_prints_arrives_while_it_runs(executor: RealExecutor) -> None:
    code = "import time\nprint('first', flush=True)\ntime.sleep(0.6)\nprint('second')"
    async with edge() as account:
        one = await account.in_front_of(executor.identity)
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            headers = {"Authorization": f"Bearer {SECRET}", "Accept": "application/x-ndjson"}
            arrived: dict[str, float] = {}
            async with world.http.post(world.url, json={"code": code}, headers=headers) as response:
                async for line in response.content:
                    arrived[line.decode()] = time.monotonic()
    at = {word: next(when for line, when in arrived.items() if f'"{word}\\n"' in line) for word in ("first", "second")}
    assert at["second"] - at["first"] > 0.4


async def test_a_request_carries_the_sandboxes_own_tokens_and_a_context_of_its_own() -> None:
    async with edge() as account:
        one = account.scripted("one")
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            await world.run("1", env={"A": "b"})
            await world.run("2")
            await world.until(lambda: len(one.calls) == 7)
    assert account.refused == []
    assert [body["code"] for body in one.bodies] == ["1", "2"]
    assert one.bodies[0]["env_vars"] == {"A": "b"}
    assert set(one.bodies[0]) == {"code", "context_id", "env_vars"}
    contexts = [body["context_id"] for body in one.bodies]
    assert len(set(contexts)) == 2
    assert [call for call in one.calls if call.startswith("DELETE")] == [f"DELETE /contexts/{one}" for one in contexts]
    assert len(one.contexts) == 1, "the spare"


async def test_a_context_is_ready_before_the_next_execution_asks_for_it() -> None:
    async def slow(_request: Any, _body: Any) -> Any:
        await asyncio.sleep(0.5)
        return web.json_response({"id": "slow"})

    async with edge() as account:
        one = account.scripted("one", *[streaming(COUNT, END) for _ in range(2)])
        one.context_scripts += [answering(200, {"id": "first"}), answering(200, None), slow]
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            await world.run("1")
            await world.until(lambda: len(one.calls) == 4)
            began = time.monotonic()
            await asyncio.sleep(0.4)
            await world.run("2")
            took = time.monotonic() - began
    assert [body["context_id"] for body in one.bodies] == ["first", "slow"]
    assert took < 0.7


async def test_a_spare_that_is_gone_costs_a_moment_and_no_execution() -> None:
    async with edge() as account:
        one = account.scripted("one")
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            await world.run("1")
            await world.until(lambda: len(one.contexts) == 1)
            one.contexts.clear()
            assert (await world.run("2"))["status"] == "Succeeded"


@pytest.mark.parametrize(
    ("events", "cut", "status", "reason"),
    [
        ((COUNT, said("x"), END), False, "Succeeded", ""),
        ((COUNT, error("ValueError"), END), False, "Failed", ""),
        ((COUNT, error("UnexpectedEndOfExecution")), False, "Failed", ""),
        ((COUNT, said("x")), False, "Unknown", "ExecutorLost"),
        ((COUNT, said("x")), True, "Unknown", "ExecutorLost"),
        ((COUNT, {**END, "status": "TimedOut", "wall_seconds": 1e9}), False, "Succeeded", ""),
        ((COUNT, b"not json"), False, "Unknown", "ExecutorMisbehaved"),
        ((COUNT, b"[1]", END), False, "Unknown", "ExecutorMisbehaved"),
        ((COUNT, {"type": "result", "text": 1}, END), False, "Unknown", "ExecutorMisbehaved"),
        ((COUNT, {"type": ["error"]}, {"type": {}}, END), False, "Succeeded", ""),
    ],
)
async def test_how_a_run_ended_is_read_from_the_stream(events: Any, cut: bool, status: str, reason: str) -> None:
    async with edge() as account:
        one = account.scripted("one", streaming(*events, cut=cut))
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            answer = await world.run("1")
    assert (answer["status"], answer["reason"]) == (status, reason)


# Limits


async def test_a_run_that_reaches_its_limit_ends_with_its_sandbox(executor: RealExecutor) -> None:
    async with edge() as account:
        one = await account.in_front_of(executor.identity)
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            began = time.monotonic()
            answer = await world.run("print('here', flush=True)\nwhile True: pass", timeoutSeconds=0.5)
            took = time.monotonic() - began
            await world.until(lambda: len(record_writes(kube)) == 2)
            refused = await world.refused(maxWaitSeconds=0)
    assert (answer["status"], answer["reason"], answer["stdout"]) == ("TimedOut", "TimeLimit", "here\n")
    assert 0.5 <= took < 1.5
    assert [call.verb for call in record_writes(kube)] == ["patch", "delete"]
    assert refused.body["reason"] == "WaitTooLong"


async def test_a_sandbox_that_never_answers_a_run_is_timed_out_too() -> None:
    async def silent(_request: Any, _body: Any) -> Any:
        await asyncio.sleep(30)

    async with edge() as account:
        one = account.scripted("one", silent)
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            answer = await world.run("1", timeoutSeconds=0.3)
            await world.until(lambda: record_writes(kube)[-1].verb == "delete")
    assert (answer["status"], answer["reason"]) == ("TimedOut", "TimeLimit")


async def test_a_caller_that_goes_away_ends_the_run_and_its_context(executor: RealExecutor) -> None:
    async with edge() as account:
        one = await account.in_front_of(executor.identity)
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await world.post({"code": "import time\ntime.sleep(60)"})
            await world.until(lambda: not one.running and not one.contexts)
            await asyncio.sleep(0.1)
            assert not one.contexts, "nor is there a spare: nobody may ever come again"
            assert (await world.run("'still there'"))["status"] == "Succeeded"
    assert [call.verb for call in record_writes(kube)] == ["patch"]


async def test_a_caller_that_goes_away_while_its_context_is_made_leaves_none_behind() -> None:
    async def slow(_request: Any, _body: Any) -> Any:
        await asyncio.sleep(0.4)
        return web.json_response({"id": "late", "language": "python", "cwd": "/"})

    async with edge() as account:
        one = account.scripted("one")
        one.context_scripts.append(slow)
        async with gateway_world(kube=kube_with(one), pools=[e2b_pool()]) as world:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await world.post({"code": "1"})
            await world.until(lambda: "DELETE /contexts/late" in one.calls)
    assert one.bodies == []


async def test_a_sandbox_whose_context_cannot_be_deleted_is_ended() -> None:
    async with edge() as account:
        one = account.scripted("one", streaming(COUNT, END))
        one.context_scripts += [answering(200, {"id": "stays"}), answering(500)]
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            assert (await world.run("1"))["status"] == "Succeeded"
            await world.until(lambda: len(record_writes(kube)) == 2)
    assert record_writes(kube)[1].verb == "delete"


# What can be wrong with a sandbox


@pytest.mark.parametrize(
    ("script", "ends"),
    [
        (answering(502, GONE), True),
        (answering(502, {"message": "The sandbox is running but port is not open"}), False),
        (answering(429, headers={"Retry-After": "0"}), False),
        (answering(401), True),
        (answering(403), True),
        (answering(404), False),
        (answering(409), False),
    ],
)
@pytest.mark.parametrize("where", ["contexts", "execute"])
async def test_what_has_not_started_runs_in_another_sandbox(script: Any, ends: bool, where: str) -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        (one.scripts if where == "execute" else one.context_scripts).append(script)
        kube = kube_with(one, two)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            answer = await world.run("1")
            if ends:
                await world.until(lambda: any(call.verb == "delete" for call in record_writes(kube)))
    assert (answer["status"], answer["route"]["executor"]) == ("Succeeded", "two")
    assert [call.name for call in record_writes(kube) if call.verb == "delete"] == (["one"] if ends else [])


async def test_an_answer_about_a_context_that_is_too_large_to_read_has_started_nothing() -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        one.context_scripts.append(answering(500, {"message": "x" * 100_000}))
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool()]) as world:
            answer = await world.run("1")
    assert (answer["status"], answer["route"]["executor"]) == ("Succeeded", "two")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 302, 204])
async def test_an_answer_that_proves_nothing_is_unknown(status: int) -> None:
    async with edge() as account:
        one = account.scripted("one", answering(status, {"message": "upstream"}, {"Location": "http://127.0.0.1:9/"}))
        two = account.scripted("two")
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool()]) as world:
            answer = await world.run("1")
    assert (answer["status"], answer["reason"], two.bodies) == ("Unknown", "ExecutorLost", [])


async def test_a_sandbox_that_is_lost_while_code_runs_is_unknown() -> None:
    async with edge() as account:
        one, two = account.scripted("one", streaming(COUNT, said("begun"), hold=0.2, cut=True)), account.scripted("two")
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool()]) as world:
            answer = await world.run("1")
    assert (answer["status"], answer["reason"], answer["stdout"]) == ("Unknown", "ExecutorLost", "begun")
    assert two.bodies == []


@pytest.mark.parametrize("said_id", ["../execute", "", "a/b", 7, None, "x" * 200])
async def test_a_context_with_a_hostile_name_is_none(said_id: Any) -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        one.context_scripts.append(answering(200, {"id": said_id}))
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool()]) as world:
            answer = await world.run("1")
    assert answer["route"]["executor"] == "two"
    assert one.calls == ["POST /contexts"]


async def test_a_redirect_is_not_followed() -> None:
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        one.context_scripts.append(answering(307, {}, {"Location": f"{account.url}/elsewhere"}))
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool()]) as world:
            answer = await world.run("1")
    assert answer["route"]["executor"] == "two"
    assert one.calls == ["POST /contexts"]


async def test_the_port_stands_in_the_address_where_each_has_a_host_of_its_own() -> None:
    access = SandboxAccess("i1", "https://{port}-i1.e2b.app")
    record = SandboxRecord("team", "1", ("team", "main"), access, 0.0)
    assert e2b_wire._url(Target("u", "n", "", "", "", "e2b", "t", 0.0, ready=True, record=record), "execute") == (
        "https://49999-i1.e2b.app/execute"
    )


async def test_nothing_is_sent_to_a_host_whose_certificate_nobody_vouches_for(tmp_path: Path) -> None:
    asked: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"id": "c"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self_signed(tmp_path)).start()
    async with edge() as account:
        one, two = account.scripted("one"), account.scripted("two")
        one.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        async with gateway_world(kube=kube_with(one, two), pools=[e2b_pool()]) as world:
            answer = await world.run("1")
    await runner.cleanup()
    assert (answer["route"]["executor"], asked) == ("two", [])


def self_signed(directory: Path) -> ssl.SSLContext:
    """A server's TLS with a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "tls.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
