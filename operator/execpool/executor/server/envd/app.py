"""The ASGI application of envd's port: checks the caller, finds the call, tells errors in the caller's way.

No call here is a run: none takes a slot, but while one goes on the executor is not idle. Requests are bounded in number;
each holds at most a message or a few chunks.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from execpool.executor.agent_wire import Code, Op
from execpool.executor.server import errors, requests
from execpool.executor.server.claim import Ownership
from execpool.executor.server.envd import codec, rpc, signatures
from execpool.executor.server.envd.access import Access
from execpool.executor.server.envd.agent import Agent, Start
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.exchange import Exchange
from execpool.executor.server.envd.files import Files
from execpool.executor.server.envd.filesystem import Filesystem
from execpool.executor.server.envd.processes import Processes
from execpool.executor.server.http import ClientGone, Receive, Scope, Send
from execpool.executor.server.visits import visit

log = logging.getLogger("execpool.executor")

ENVD_VERSION = "0.6.8"
"""The envd that is spoken here; clients choose what they ask for by it."""
MAX_REQUESTS = 256


class Envd:
    """Files and commands of the claim."""

    def __init__(
        self,
        ownership: Ownership,
        start_agent: Start,
        on_change: Callable[[], None],
        environment: dict[str, str] | None = None,
    ) -> None:
        """Serve the files and commands of a claim.

        Args:
            ownership: whose claim it is, and whether it is idle.
            start_agent: returns the socket of a new agent; raises RunnerUnavailable or OSError.
            on_change: called when the executor may have become idle.
            environment: variables of all that runs under the claim, shared with who else starts something.
        """
        self._ownership = ownership
        self._access = Access(ownership)
        self._on_change = on_change
        self._requests = 0
        self._environment: dict[str, str] = {} if environment is None else environment
        self._agent = Agent(start_agent, self._command_ended, self._agent_lost)
        self._files = Files(self._agent)
        self._processes = Processes(self._agent, self._environment)
        self._unary, self._streams = _routes(Filesystem(self._agent), self._processes)

    def close(self) -> None:
        """End the agent, and every command with it."""
        self._agent.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        exchange = Exchange(scope, receive, send)
        try:
            if (exchange.method, exchange.path) == ("GET", "/health"):
                await exchange.answer(204, b"", [])
                return
            await self._serve(exchange)
        except EnvdError as error:
            await _refuse(exchange, error.plain_status, error.plain())
        except errors.Refusal as refusal:
            body = {"code": refusal.status, "message": refusal.message, "reason": refusal.reason}
            await _refuse(exchange, refusal.status, body)
        except ClientGone:
            pass
        except Exception:
            log.exception("request failed", extra={"path": exchange.path})
            await _refuse(exchange, 500, {"code": 500, "message": "the executor failed; see its log"})

    async def _serve(self, exchange: Exchange) -> None:
        """Answer a request of the holder of the claim, unless its client goes meanwhile."""
        if exchange.path == "/files":
            self._access.check_file(exchange, signatures.READ if exchange.method == "GET" else signatures.WRITE)
        else:
            self._access.check(exchange)
        with self._visit():
            async with exchange.while_client_waits():
                await self._answer(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        match exchange.method, exchange.path:
            case "GET", "/files":
                await self._files.download(exchange)
            case "POST", "/files":
                await self._files.upload(exchange)
            case "GET", "/envs":
                await exchange.answer_json(self._environment)
            case "GET", "/metrics":
                await exchange.answer_json(await self._agent.call(Op.METRICS, {}))
            case "POST", "/init" if self._access.is_ours(exchange):
                await self._init(exchange)
            case "POST", path:
                await self._call(exchange, path)
            case _:
                raise EnvdError(Code.NOT_FOUND, "404 page not found")

    async def _init(self, exchange: Exchange) -> None:
        """Set the environment that all runs and commands get; E2B's own clients never do, and find no such path."""
        given = codec.mapping(await exchange.message(), "envVars")
        requests.check_variables(given)
        self._environment.clear()
        self._environment.update(given)
        await exchange.answer(204, b"", [])

    async def _call(self, exchange: Exchange, path: str) -> None:
        if path in self._unary:
            await rpc.unary(exchange, self._unary[path])
        elif path in self._streams:
            await rpc.downstream(exchange, self._streams[path])
        elif path == "/process.Process/StreamInput":
            await rpc.upstream(exchange, self._processes.stream_input)
        else:
            raise EnvdError(Code.NOT_FOUND, "404 page not found")

    @contextmanager
    def _visit(self) -> Iterator[None]:
        if self._requests >= MAX_REQUESTS:
            raise EnvdError(Code.RESOURCE_EXHAUSTED, f"{MAX_REQUESTS} requests are in progress, no more are allowed")
        self._requests += 1
        try:
            with visit(self._ownership, self._on_change):
                yield
        finally:
            self._requests -= 1

    def _command_ended(self, pid: int, status: int) -> None:
        self._processes.ended(pid, status)

    def _agent_lost(self) -> None:
        self._processes.lost()


def _routes(files: Filesystem, processes: Processes) -> tuple[dict[str, rpc.Unary], dict[str, rpc.Stream]]:
    unary: dict[str, rpc.Unary] = {
        "/filesystem.Filesystem/Stat": files.stat,
        "/filesystem.Filesystem/MakeDir": files.make_dir,
        "/filesystem.Filesystem/Move": files.move,
        "/filesystem.Filesystem/Remove": files.remove,
        "/filesystem.Filesystem/ListDir": files.list_dir,
        "/filesystem.Filesystem/CreateWatcher": files.create_watcher,
        "/filesystem.Filesystem/GetWatcherEvents": files.get_watcher_events,
        "/filesystem.Filesystem/RemoveWatcher": files.remove_watcher,
        "/process.Process/List": processes.list,
        "/process.Process/SendInput": processes.send_input,
        "/process.Process/CloseStdin": processes.close_stdin,
        "/process.Process/SendSignal": processes.send_signal,
        "/process.Process/Update": processes.update,
    }
    streams: dict[str, rpc.Stream] = {
        "/filesystem.Filesystem/WatchDir": files.watch_dir,
        "/process.Process/Start": processes.start,
        "/process.Process/Connect": processes.connect,
    }
    return unary, streams


async def _refuse(exchange: Exchange, status: int, body: object) -> None:
    """Answer with an error, unless an answer has begun: that one is broken off."""
    if not exchange.answering:
        await exchange.answer_json(body, status)
