"""The client against a server that answers as it likes: what was sent, what may have happened, what it refuses to read."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from tests.component.scripted_e2b import KEY, ScriptedE2B

from execpool.kube.errors import FencedError
from execpool.providers.e2b.client import E2BClient, Timeouts
from execpool.providers.e2b.errors import AnsweredError, UnknownError, UnsentError

QUICK = Timeouts(connect=0.3, create=0.2, others=0.2)


@asynccontextmanager
async def answering(handler):
    """A server whose every answer is the handler's, and a client of it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    client = E2BClient(f"http://127.0.0.1:{port}", "e2b_00", timeouts=QUICK)
    try:
        yield client
    finally:
        await client.close()
        await runner.cleanup()


async def test_what_it_sends_is_what_e2b_understands():
    e2b = ScriptedE2B(lambda: 1000.0)
    await e2b.start()
    client = E2BClient(e2b.url, KEY)
    tag = {"execpool-record": "a b&c=d/%2F", "execpool-cluster": "x.y"}
    created = await client.create("code-interpreter-v1", 120, tag, "record-1")
    e2b.make("base", {}, 60)
    assert [one.sandbox_id for one in await client.list(tag)] == [created.sandbox_id]
    assert len(await client.list({})) == 2
    assert (await client.connect(created.sandbox_id, 120)).envd_token == created.envd_token
    await client.extend(created.sandbox_id, 900)
    assert e2b.sandboxes[created.sandbox_id].deadline == 1900.0
    await client.kill(created.sandbox_id)
    await client.kill(created.sandbox_id)
    assert e2b.idempotency_keys == ["record-1"]
    assert list(e2b.alive()) != [created.sandbox_id]
    await client.close()
    await e2b.stop()


async def test_without_a_connection_nothing_was_sent():
    client = E2BClient("http://127.0.0.1:9", KEY, timeouts=QUICK)
    with pytest.raises(UnsentError):
        await client.create("base", 120, {}, "k")
    nowhere = E2BClient("http://no-such-host.invalid", KEY, timeouts=QUICK)
    with pytest.raises(UnsentError):
        await nowhere.kill("i1")
    await client.close()
    await nowhere.close()


async def test_behind_the_fence_nothing_is_sent():
    client = E2BClient("http://127.0.0.1:9", KEY, may_act=lambda: False, timeouts=QUICK)
    for work in (client.create("base", 1, {}, "k"), client.kill("i1"), client.extend("i1", 1), client.connect("i1", 1)):
        with pytest.raises(FencedError):
            await work


async def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else():
    visited = []

    async def redirect(request: web.Request) -> web.Response:
        visited.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async with answering(redirect) as client:
        with pytest.raises(UnknownError):
            await client.create("base", 120, {}, "k")
        with pytest.raises(UnknownError):
            await client.list({})
    assert visited == ["/v2/sandboxes", "/v2/sandboxes"]


async def test_an_answer_that_never_comes_never_ends_or_is_too_long_is_an_unknown_outcome():
    async def never(_request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def slowly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    async def endlessly(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)

    for handler in (never, slowly, endlessly):
        async with answering(handler) as client:
            with pytest.raises(UnknownError):
                await client.create("base", 120, {}, "k")


async def test_a_list_without_an_end_is_given_up():
    async def circle(_request: web.Request) -> web.Response:
        return web.json_response([], headers={"X-Next-Token": "again"})

    async with answering(circle) as client:
        with pytest.raises(UnknownError):
            await client.list({})


async def test_a_compressed_answer_is_not_unpacked():
    async def bomb(_request: web.Request) -> web.Response:
        return web.Response(status=201, body=b"x" * 100, headers={"Content-Encoding": "gzip"})

    async with answering(bomb) as client:
        with pytest.raises(UnknownError):
            await client.create("base", 120, {}, "k")


async def test_e2bs_words_are_cut_short_and_printable():
    async def talkative(_request: web.Request) -> web.Response:
        return web.json_response({"code": 400, "message": "bad\x1b[31m\r\n" + "x" * 5000}, status=400)

    async with answering(talkative) as client:
        with pytest.raises(AnsweredError) as caught:
            await client.create("base", 120, {}, "k")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


async def test_it_tells_when_a_creation_leaves_and_not_when_there_is_no_connection_for_it():
    e2b = ScriptedE2B(lambda: 1000.0)
    await e2b.start()
    client, left = E2BClient(e2b.url, KEY), []
    await client.create("base", 120, {}, "k", lambda: left.append(len(e2b.alive())))
    await client.list({})
    assert left == [0], "once, before the sandbox was there, and for nothing but the creation"
    await client.close()
    await e2b.stop()
    nowhere = E2BClient("http://127.0.0.1:9", KEY, timeouts=QUICK)
    with pytest.raises(UnsentError):
        await nowhere.create("base", 120, {}, "k", lambda: left.append(-1))
    await nowhere.close()
    assert left == [0]
