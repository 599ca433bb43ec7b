"""The gateway's half of the fault matrix: its calls into sandboxes and its writes of claims, under load, at 1:10.

    execute: 503-retry-after sustained      four runs a second; for 20 s of them every /execute is answered so

One process has the gateway, an edge with sandboxes that a script answers for, and an API server in memory. A record that the
gateway ends is replaced by a new one, as the operator does.
"""

import asyncio
import multiprocessing
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from execpool.core.retrying import MOST, PER_SECOND, SHARE
from execpool.kube.errors import KubeError, UnreachableError, refusal
from execpool.kube.fake import Call, FakeKube
from execpool.kube.kinds import SANDBOXES
from tests.campaigns.lives import settle_in, started
from tests.campaigns.pace import Pace
from tests.campaigns.play import in_turn
from tests.component.e2b_sandboxes import COUNT, END, Edge, Sandbox, e2b_pool, edge, kube_with, said, streaming
from tests.component.gateway_world import GatewayWorld, gateway_world

SCALE, AT_ONCE = 10.0, 6
BEFORE_SECONDS, SUSTAINED_SECONDS, AFTER_SECONDS = 3, 20, 35
RUNS_PER_SECOND = 4
USERS = 8
"""Each has a sandbox of its own: fewer open no breaker, whatever their sandboxes answer (docs/decisions.md, 35)."""
SANDBOXES_WARM = 4
WAIT_SECONDS, RUN_SECONDS = 10, 5
ANSWERED_WITHIN = WAIT_SECONDS + RUN_SECONDS + 8.0
"""What a run may take with its overtime, and a little."""
HEAL_SECONDS = 30.0


@dataclass(frozen=True)
class Answered:
    """An answer instead of the sandbox's."""

    status: int = 200
    body: bytes = b'{"message": "ordered"}'
    headers: tuple[tuple[str, str], ...] = ()
    commits: bool = False
    breaks: bool = False
    hangs: bool = False


LOST = b'{"sandboxId": "x", "message": "The sandbox was not found", "code": 502}'
CLOSED = b'{"message": "The sandbox is running but port is not open", "code": 502}'
CALL_FAULTS = {
    **{str(status): Answered(status) for status in (400, 401, 403, 404, 409, 500)},
    "429-paced": Answered(429, headers=(("Retry-After", "2"),)),
    "429-bare": Answered(429),
    "502-lost": Answered(502, LOST),
    "502-closed": Answered(502, CLOSED),
    "503-retry-after": Answered(503, headers=(("Retry-After", "2"),)),
    "504-committed": Answered(504, commits=True),
    "307": Answered(307, headers=(("Location", "http://127.0.0.1:9/"),)),
    "oversize": Answered(500, b"x" * 3_000_000),
    "reset": Answered(breaks=True),
    "reset-committed": Answered(breaks=True, commits=True),
    "hang": Answered(hangs=True),
    "garbage": Answered(200, b'{"id": ', commits=True),
}
WRITE_FAULTS: dict[str, KubeError] = {
    **{
        str(status): refusal(status, {"message": "ordered"}) for status in (400, 401, 403, 404, 409, 422, 429, 500, 503)
    },
    "504-committed": refusal(504, {"message": "ordered"}),
    "reset": UnreachableError("ordered"),
    "reset-committed": UnreachableError("ordered"),
}
SITES = {
    "context": ("POST", "/contexts"),
    "execute": ("POST", "/execute"),
    "end-context": ("DELETE", "/contexts"),
    "claim": ("patch", ""),
    "end-claim": ("delete", ""),
}


@dataclass(frozen=True)
class GatewayCell:
    """One plan."""

    site: str
    fault: str
    is_sustained: bool

    def __str__(self) -> str:
        return f"{self.site}: {self.fault} {'sustained' if self.is_sustained else 'once'}"

    @classmethod
    def read(cls, text: str) -> Self:
        site, _, rest = text.partition(": ")
        fault, duration = rest.split()
        return cls(site, fault, duration == "sustained")


def gateway_cells() -> list[GatewayCell]:
    return [
        GatewayCell(site, fault, sustained)
        for site in SITES
        for fault in (WRITE_FAULTS if "claim" in site else CALL_FAULTS)
        for sustained in (False, True)
    ]


@dataclass(frozen=True)
class GatewayOutcome:
    """What came of it.

    Attributes:
        met: faults that were given.
        runs: requests of clients.
        ends: how many of them came to what.
        started_twice: programs that were started more than once.
        late: requests that were not answered in time.
        executes: requests to sandboxes to run something.
        healed_after: seconds from the fault's end to the first run that succeeded.
    """

    cell: GatewayCell
    met: int
    runs: int
    ends: dict[str, int]
    started_twice: int
    late: int
    executes: int
    healed_after: float
    trouble: str = ""
    is_again: bool = False

    @property
    def is_starved(self) -> bool:
        """True when it went wrong in a way that a busy machine explains: something took too long."""
        return bool(self.trouble) and self.trouble.endswith(("(P15)", "(P20)"))

    @property
    def is_right(self) -> bool:
        return not self.trouble

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {end}" for end, count in sorted(self.ends.items()))
        said = f"{self.cell!s:<36} met {self.met:>3}, {self.runs} runs, {self.executes} executes, "
        return said + f"healed {self.healed_after:4.1f} s: {self.trouble or 'kept'}  ({ends})"


@dataclass
class Load:
    """The scene, the fault in it, and what is counted."""

    cell: GatewayCell
    account: Edge
    kube: FakeKube
    gateway: GatewayWorld
    is_on: bool = False
    met: int = 0
    names: int = 0
    lost: int = 0
    started: Counter[str] = field(default_factory=Counter)
    executes: int = 0
    ends: list[tuple[float, float, str]] = field(default_factory=list)
    """Of each run: when it was asked for, how long it took, what came of it."""

    def add_sandbox(self) -> None:
        self.names += 1
        one = self.account.scripted(f"one-{self.names}")
        one.scripts = one.context_scripts = _Meddled(self, one)  # type: ignore[assignment]
        self.kube.put(SANDBOXES, "team", one.record(expires_in=100_000))

    def takes(self) -> bool:
        """True when the fault is to be given to a request at its site."""
        if not self.is_on or (self.met and not self.cell.is_sustained):
            return False
        self.met += 1
        return True

    def ends_one(self) -> bool:
        """True when a sandbox is to be found lost, so that its claim is ended."""
        self.lost += self.is_on and self.cell.site == "end-claim"
        return self.is_on and 0 < self.lost <= USERS

    def before(self, call: Call) -> None:
        if not self.cell.fault.endswith("committed") and self._is_site(call) and self.takes():
            raise WRITE_FAULTS[self.cell.fault]

    def after(self, call: Call) -> None:
        if self.cell.fault.endswith("committed") and self._is_site(call) and self.takes():
            raise WRITE_FAULTS[self.cell.fault]

    def _is_site(self, call: Call) -> bool:
        return "claim" in self.cell.site and (call.verb, call.plural) == (SITES[self.cell.site][0], SANDBOXES.plural)

    async def replenish(self) -> None:
        """What the operator does: end what is to end, and have so many warm."""
        while True:
            records = self.kube.peek(SANDBOXES)
            for record in records:
                if record["metadata"].get("deletionTimestamp"):
                    self.kube.drop(SANDBOXES, "team", record["metadata"]["name"])
            free = [one for one in self.kube.peek(SANDBOXES) if one["status"]["phase"] == "Ready"]
            for _ in range(SANDBOXES_WARM - len(free)):
                self.add_sandbox()
            await self.kube.notify()
            await asyncio.sleep(0.5)

    async def run(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        phase = "during" if self.is_on and self.cell.site == "claim" else "u"  # newcomers, for whom claims are made
        fields = {"user": f"{phase}{number % USERS}", "timeoutSeconds": RUN_SECONDS, "maxWaitSeconds": WAIT_SECONDS}
        reply = await self.gateway.post({"code": f"run-{number}", **fields}, headers={"Connection": "close"})
        end = reply.body.get("status") if reply.status == 200 else reply.body.get("reason", reply.status)
        self.ends.append((began, loop.time() - began, str(end)))


class _Meddled:
    """In the place of a sandbox's scripts: answers every request, with the fault where it is due."""

    def __init__(self, load: Load, sandbox: Sandbox) -> None:
        self._load, self._sandbox = load, sandbox

    def pop(self, _first: int) -> Any:
        return self._serve

    async def _serve(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        method, path = SITES[self._load.cell.site]
        is_execute = request.path == "/execute"
        self._load.executes += is_execute
        if request.method == method and path and request.path.startswith(path) and self._load.takes():
            return await self._meddle(CALL_FAULTS[self._load.cell.fault], request, body)
        if is_execute and self._load.ends_one():
            return web.Response(status=502, body=LOST)
        if is_execute:
            self._load.started[body["code"]] += 1
            return await streaming(COUNT, said("ran"), END)(request, body)
        return web.json_response({"id": secrets.token_hex(8), "language": "python", "cwd": "/home/user"})

    async def _meddle(self, fault: Answered, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if fault.commits and request.path == "/execute":
            self._load.started[body["code"]] += 1
        if fault.hangs:
            await asyncio.sleep(3600)
        if fault.breaks and request.transport is not None:
            request.transport.abort()
        return web.Response(status=fault.status, body=fault.body, headers=dict(fault.headers))


@asynccontextmanager
async def load(cell: GatewayCell) -> AsyncIterator[Load]:
    async with edge() as account:
        kube = kube_with()
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as gateway:
            one = Load(cell, account, kube, gateway)
            kube.before, kube.after = one.before, one.after
            keeper = asyncio.create_task(one.replenish())
            try:
                yield one
            finally:
                keeper.cancel()


async def _play(cell: GatewayCell) -> GatewayOutcome:
    loop = asyncio.get_running_loop()
    async with load(cell) as one, asyncio.TaskGroup() as runs:
        began = loop.time()
        ended = began + BEFORE_SECONDS + SUSTAINED_SECONDS
        for number in range(RUNS_PER_SECOND * (BEFORE_SECONDS + SUSTAINED_SECONDS + AFTER_SECONDS)):
            await asyncio.sleep(began + number / RUNS_PER_SECOND - loop.time())
            one.is_on = began + BEFORE_SECONDS <= loop.time() < ended
            runs.create_task(one.run(number))
    return _outcome(one, ended)


def _outcome(one: Load, ended: float) -> GatewayOutcome:
    good = [at + took - ended for at, took, end in one.ends if end == "Succeeded" and at + took >= ended]
    outcome = GatewayOutcome(
        cell=one.cell,
        met=one.met,
        runs=len(one.ends),
        ends=dict(Counter(end for _, _, end in one.ends)),
        started_twice=sum(count > 1 for count in one.started.values()),
        late=sum(took > ANSWERED_WITHIN for _, took, _ in one.ends),
        executes=one.executes,
        healed_after=min(good, default=float("inf")),
    )
    return GatewayOutcome(**{**vars(outcome), "trouble": broken(outcome)})


def broken(outcome: GatewayOutcome) -> str:
    """Say which promise was not kept; empty when all were."""
    seconds = BEFORE_SECONDS + SUSTAINED_SECONDS + AFTER_SECONDS
    if outcome.started_twice:
        return f"{outcome.started_twice} programs were started twice (P12)"
    if outcome.late:
        return f"{outcome.late} runs were answered late (P15)"
    if outcome.executes > outcome.runs * (1 + SHARE) + seconds * PER_SECOND + MOST:
        return f"{outcome.executes} executions were asked for, for {outcome.runs} runs (P19)"
    if outcome.healed_after > HEAL_SECONDS:
        return f"healed after {outcome.healed_after:.1f} s (P20)"
    return ""


def _serve(cell: GatewayCell, pace: Pace, log: Path, told: Connection) -> None:
    settle_in(log, pace)
    told.send(asyncio.run(_play(cell)))


async def play_gateway_cell(cell: GatewayCell, scale: float = SCALE) -> GatewayOutcome:
    """Play one cell, in a process of its own."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="execpool-campaign-") as directory:
        log = Path(directory) / "log"
        process = started(_serve, cell, Pace(scale), log, theirs)
        theirs.close()
        try:
            return await asyncio.to_thread(ours.recv)
        except EOFError:
            raise AssertionError(f"{cell} ended without a word: {log.read_text()[-4000:]}") from None
        finally:
            ours.close()
            process.kill()
            await asyncio.to_thread(process.join)


async def play_gateway_cells(
    cells: Iterable[GatewayCell],
    *,
    scale: float = SCALE,
    at_once: int = AT_ONCE,
    tell: Callable[[GatewayOutcome], None] = lambda _outcome: None,
) -> list[GatewayOutcome]:
    """Play cells, so many at once."""
    return await in_turn(cells, lambda cell: play_gateway_cell(cell, scale), at_once, tell)


def sums(outcomes: Sequence[GatewayOutcome]) -> dict[str, int]:
    """Return how many runs came to what, in all cells."""
    return dict(sum((Counter(one.ends) for one in outcomes), Counter()))
