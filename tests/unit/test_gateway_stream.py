"""The NDJSON feed: what a reader gets, in which pieces."""

import asyncio
import json

from execpool.gateway.stream import KEEPALIVE, MAX_PENDING_BYTES, StreamFeed


async def test_lines_are_taken_in_their_order_and_all_at_once() -> None:
    feed = StreamFeed()
    feed.accepted("x1")
    feed.accepted("x1")
    feed.waiting(2)
    feed.started("e", "local")
    feed.line(b'{"type":"stdout","text":"a"}')
    lines = [json.loads(line) for line in (await feed.take()).splitlines()]
    assert [line["type"] for line in lines] == ["accepted", "waiting", "started", "stdout"]


async def test_silence_is_broken_by_keepalives_once_it_is_accepted() -> None:
    feed = StreamFeed(keepalive_seconds=0.01)
    taking = asyncio.create_task(feed.take())
    await asyncio.sleep(0.05)
    assert not taking.done()  # a refusal may still be an HTTP status
    feed.accepted("x1")
    assert json.loads(await taking)["type"] == "accepted"
    assert await feed.take() == KEEPALIVE


async def test_a_closed_feed_gives_what_is_left_and_then_nothing() -> None:
    feed = StreamFeed()
    feed.line(b"{}")
    feed.close()
    assert await feed.take() == b"{}\n"
    assert await feed.take() == b""


async def test_a_reader_that_falls_behind_misses_lines() -> None:
    feed = StreamFeed()
    for _ in range(100):
        feed.line(b"x" * 100_000)
    assert MAX_PENDING_BYTES < len(await feed.take()) < MAX_PENDING_BYTES + 200_000
    feed.line(b"again")
    assert await feed.take() == b"again\n"
