"""Executors that answer with what they should not: the run is Unknown, the gateway goes on."""

import asyncio
import json
import resource

import pytest
from tests.component.gateway_world import SECRET, Identity, gateway_world
from tests.component.scripted_executor import FINISH, OK, Script, ScriptedExecutor, chunk, end, scripted, sending

STDOUT = b'{"type":"stdout","text":"x"}'


async def endless(writer: asyncio.StreamWriter, _: object) -> None:
    """Keepalives, for ever and as fast as they are read."""
    writer.write(OK)
    lines = chunk(*[b'{"type":"keepalive"}'] * 500)
    while not writer.is_closing():
        writer.write(lines)
        await writer.drain()


MISBEHAVING = {
    "a line that is not JSON": sending(OK + chunk(b"garbage", end()) + FINISH),
    "a line that is not an object": sending(OK + chunk(b"[1]", end()) + FINISH),
    "a line that is too long": sending(OK, *[chunk(b"x" * 65536)[:-3] + b"\r\n"] * 80),
    "a line without an end": sending(OK, *[b"10000\r\n" + b"x" * 65536 + b"\r\n"] * 80),
    "text of a wrong type": sending(OK + chunk(b'{"type":"stdout","text":{}}', end()) + FINISH),
    "a result of a wrong type": sending(OK + chunk(b'{"type":"result","png":7}', end()) + FINISH),
    "deep nesting": sending(OK + chunk(b'{"type":"result","json":' + b"[" * 900 + b"]" * 900 + b"}", end()) + FINISH),
    "an unknown status": sending(OK + chunk(end("Splendid")) + FINISH),
    "endless lines that say nothing": endless,
    "a reply that is not HTTP": sending(b"220 smtp ready\r\n\r\n", close=True, before_close=0.05),
    "a header that is too long": sending(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", close=True),
    "a broken chunk": sending(OK + b"zz\r\nnot a chunk\r\n", close=True, before_close=0.05),
}
LOSING = {
    "no end": sending(OK + chunk(STDOUT) + FINISH),
    "an empty answer": sending(OK + FINISH),
    "a connection closed in the middle": sending(OK + chunk(STDOUT), close=True),
    "a connection closed before an answer": sending(b"", close=True),
    "half a line": sending(OK + b"5\r\n" + b'{"typ' + b"\r\n" + FINISH),
}


@pytest.mark.parametrize("script", MISBEHAVING.values(), ids=MISBEHAVING)
async def test_a_reply_against_the_protocol_is_unknown_and_its_executor_retired(script: Script) -> None:
    hostile = ScriptedExecutor(Identity("hostile"), script=script)
    async with scripted(hostile), gateway_world(hostile.identity) as world:
        async with asyncio.timeout(5):
            answer = await world.run("1")
        assert answer["status"] == "Unknown"
        assert answer["reason"] in ("ExecutorMisbehaved", "ExecutorLost")
        if answer["reason"] == "ExecutorMisbehaved":
            await world.until(lambda: "/retire" in hostile.calls)
        assert (await world.health("healthz"))[0] == 200


@pytest.mark.parametrize("script", LOSING.values(), ids=LOSING)
async def test_an_answer_without_its_end_is_unknown(script: Script) -> None:
    losing = ScriptedExecutor(Identity("losing"), script=script)
    async with scripted(losing), gateway_world(losing.identity) as world:
        answer = await world.run("1")
        assert (answer["status"], answer["reason"]) == ("Unknown", "ExecutorLost")
        assert len(losing.executions) == 1


async def test_what_follows_the_end_changes_nothing() -> None:
    lines = chunk(STDOUT, end(), STDOUT, end("Failed"), b"garbage")
    talkative = ScriptedExecutor(Identity("talkative"), script=sending(OK + lines + FINISH))
    async with scripted(talkative), gateway_world(talkative.identity) as world:
        answer = await world.run("1")
        assert (answer["status"], answer["stdout"]) == ("Succeeded", "x")


async def test_unknown_event_types_and_fields_are_dropped() -> None:
    lines = chunk(b'{"type":"telepathy","x":1}', b'{"type":"stdout","text":"a","html":"<b>"}', end())
    newer = ScriptedExecutor(Identity("newer"), script=sending(OK + lines + FINISH))
    async with scripted(newer), gateway_world(newer.identity) as world:
        streamed = await world.lines("1")
        assert streamed[2] == {"type": "stdout", "text": "a"}
        assert [line["type"] for line in streamed] == ["accepted", "started", "stdout", "answer"]


async def test_output_and_results_are_bounded_whatever_an_executor_sends() -> None:
    output = chunk(json.dumps({"type": "stdout", "text": "o" * 900_000}).encode())
    result = chunk(json.dumps({"type": "result", "png": "r" * 1_800_000}).encode())
    flood = ScriptedExecutor(Identity("flood"), script=sending(OK, *[output, result] * 6, chunk(end()) + FINISH))
    async with scripted(flood), gateway_world(flood.identity) as world:
        answer = await world.run("1")
        assert answer["status"] == "Succeeded"
        assert answer["truncated"]
        assert len(answer["stdout"]) == 1 << 20
        assert len(answer["results"]) == 2


async def test_a_reader_that_does_not_read_neither_keeps_the_slot_nor_fills_the_memory() -> None:
    output = chunk(json.dumps({"type": "stdout", "text": "\0" * 1000}).encode())
    flood = ScriptedExecutor(Identity("flood"), script=sending(OK, *[output] * 3000, chunk(end()) + FINISH))
    async with scripted(flood), gateway_world(flood.identity) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.service.port, limit=1024)
        body = b'{"code":"1"}'
        head = f"POST /v1/executions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {SECRET}\r\n"
        head += f"Accept: application/x-ndjson\r\nContent-Length: {len(body)}\r\n\r\n"
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        writer.write(head.encode() + body)
        await world.until(lambda: len(flood.executions) == 1 and world.service.active() == 0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 40 * 1024
        assert (await world.run("1"))["status"] == "Succeeded"
        writer.close()
        assert not reader.at_eof()


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"executor_id":1,"proof":2}',
        b'{"executor_id":"\xc3\xa9","proof":"\xc3\xa9"}',
        b"x" * 70_000,
    ],
)
async def test_a_challenge_answered_with_nonsense_ends_nothing(reply: bytes) -> None:
    odd = ScriptedExecutor(Identity("odd"), control_reply={"/challenge": reply, "/state": reply})
    good = ScriptedExecutor(Identity("good", created="2026-01-01T00:00:09Z"))
    async with scripted(odd, good), gateway_world(odd.identity, good.identity) as world:
        assert (await world.run("1"))["route"]["executor"] == "good"


@pytest.mark.parametrize("claim", [5, "x", [1], True, {"principal": 5}, {"principal": ["a"]}, {}])
async def test_a_state_that_makes_no_sense_ends_nothing(claim: object) -> None:
    state = {
        "executor_id": 1,
        "pod_uid": None,
        "phase": [],
        "egress": 0,
        "slots": "x",
        "age_seconds": {},
        "claim": claim,
    }
    odd = ScriptedExecutor(Identity("odd"), control_reply={"/state": json.dumps(state).encode()})
    async with scripted(odd), gateway_world(odd.identity) as world:
        assert (await world.run("1"))["status"] == "Succeeded"


@pytest.mark.parametrize(
    "reply",
    [
        b'{"token":1,"epoch":1,"slots":1}',
        b'{"token":"t","epoch":"1","slots":1}',
        b'{"token":"t","epoch":1,"slots":0}',
        b'{"token":"t","epoch":1,"slots":1000000}',
        b'{"token":"t\\r\\nX: y","epoch":1,"slots":1}',
        b'{"token":"t","epoch":true,"slots":1}',
    ],
)
async def test_a_grant_that_makes_no_sense_is_no_claim(reply: bytes) -> None:
    odd = ScriptedExecutor(Identity("odd"), control_reply={"/claim": reply})
    async with scripted(odd), gateway_world(odd.identity) as world:
        assert (await world.refused(maxWaitSeconds=0)).body["reason"] == "WaitTooLong"
        assert odd.executions == []
