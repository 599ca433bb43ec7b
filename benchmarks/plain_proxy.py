"""The least that a gateway in Python could do: aiohttp on uvloop, one hop, no questions. A peer, run as a process.

`python -m benchmarks.plain_proxy URL` listens on a port of the loopback that the kernel chooses, prints it, and sends
every POST on to the URL with its headers. It reads whole answers.
"""

import asyncio
import sys

import aiohttp
import uvloop
from aiohttp import web

DROPPED = frozenset({"host", "content-length", "transfer-encoding", "connection"})
TARGET = web.AppKey("target", str)
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def forward(request: web.Request) -> web.Response:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in DROPPED}
    body = await request.read()
    async with request.app[SESSION].post(request.app[TARGET], data=body, headers=headers) as answer:
        return web.Response(body=await answer.read(), status=answer.status, content_type=answer.content_type)


async def serve(target: str) -> None:
    """Serve until whoever started us closes our standard input, which its end does too."""
    app = web.Application()
    app.router.add_post("/", forward)
    async with aiohttp.ClientSession(trust_env=False) as session:
        app[TARGET], app[SESSION] = target, session
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
