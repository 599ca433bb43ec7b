"""The two ASGI applications of an executor, and the HTTP edge that they share.

The data port speaks E2B's protocol and is the only one that a proxy may reach; the control port carries ownership. They
are two applications on two sockets, so that no path of one can ever be reached through the other.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from secrets import token_urlsafe

import orjson

from execpool.executor.server import errors, http, output, requests
from execpool.executor.server.claim import Ownership
from execpool.executor.server.http import Handler, Receive, Request, Scope, Send
from execpool.executor.server.marker import Marker, MarkerError
from execpool.executor.server.run import Run
from execpool.executor.server.runs import Runs
from execpool.executor.settings import ServerSettings
from execpool.protocol import (
    HEADER_EPOCH,
    HEADER_EXECUTION,
    HEADER_TOKEN,
    Egress,
    EventType,
    ExecutorPhase,
    Expect,
    Proof,
    RunReason,
    State,
    prove,
    secret_matches,
)

log = logging.getLogger("execpool.executor")


class Application:
    """A table of routes behind the HTTP edge: refusals become answers, and so do faults of ours."""

    def __init__(self, routes: Mapping[tuple[str, str], Handler]) -> None:
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        try:
            await http.find(self._routes, scope)(request)
        except errors.Refusal as refusal:
            await request.refuse(refusal)
        except http.ClientGone:
            pass
        except Exception:
            log.exception("request failed", extra={"path": scope["path"]})
            if not request.answering:
                await request.refuse(errors.Refusal("InternalError", "the executor failed; see its log"))


class DataPort:
    """`/execute` and `/health`."""

    def __init__(self, ownership: Ownership, runs: Runs) -> None:
        self._ownership = ownership
        self._runs = runs

    def application(self) -> Application:
        """Return the ASGI application."""
        return Application({("POST", "/execute"): self.execute, ("GET", "/health"): self.health})

    async def health(self, request: Request) -> None:
        """Say that the server lives, as E2B's does."""
        await request.answer_text(200, "OK")

    async def execute(self, request: Request) -> None:
        """Run code and stream what it says. Every answer but 200 means that it did not start."""
        self._ownership.authorize(request.header(HEADER_TOKEN), requests.epoch(request.header(HEADER_EPOCH)))
        execution_id = requests.execution_id(request.header(HEADER_EXECUTION))
        wanted = requests.execute(await request.body(requests.MAX_DATA_BODY))
        # The claim may have moved on while the body was on its way.
        self._ownership.authorize(request.header(HEADER_TOKEN), requests.epoch(request.header(HEADER_EPOCH)))
        run = await self._runs.start(execution_id, wanted)
        watcher = asyncio.create_task(_stop_when_gone(request, run))
        try:
            await _stream(request, run)
        finally:
            watcher.cancel()
            run.stop(RunReason.CLIENT_GONE)


async def _stream(request: Request, run: Run) -> None:
    first = output.line({"type": EventType.NUMBER_OF_EXECUTIONS, "execution_count": run.number})
    await request.begin_stream()
    await request.send(first)
    async for lines in run.lines():
        await request.send(lines)
    await request.send(b"", last=True)


async def _stop_when_gone(request: Request, run: Run) -> None:
    await request.disconnected()
    run.stop(RunReason.CLIENT_GONE)


class ControlPort:
    """Ownership: `/challenge`, `/claim`, `/retire`, `/state`, `/readyz`."""

    def __init__(
        self,
        settings: ServerSettings,
        ownership: Ownership,
        runs: Runs,
        marker: Marker,
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._ownership = ownership
        self._runs = runs
        self._marker = marker
        self._on_change = on_change
        self.egress = Egress.UNKNOWN

    def application(self) -> Application:
        """Return the ASGI application."""
        return Application(
            {
                ("POST", "/challenge"): self.challenge,
                ("POST", "/claim"): self.claim,
                ("POST", "/retire"): self.retire,
                ("GET", "/state"): self.state,
                ("GET", "/readyz"): self.ready,
            }
        )

    async def challenge(self, request: Request) -> None:
        """Prove which executor this is to somebody who has told nothing yet."""
        asked = requests.challenge(await request.body(requests.MAX_CONTROL_BODY))
        mine = self._settings
        if asked.pod_uid != mine.pod_uid:
            raise errors.WrongPod("WrongPod", "this address belongs to another pod now")
        proof = prove(mine.secret_sha256, asked.nonce, mine.pod_uid, mine.executor_id)
        await request.answer(200, Proof(mine.executor_id, proof).encode())

    async def claim(self, request: Request) -> None:
        """Give this executor to a principal, for life. The marker is on disk before anybody is told."""
        asked = requests.claim(await request.body(requests.MAX_CONTROL_BODY))
        self._must_know(asked.secret)
        self._ownership.may_claim(asked.principal)
        if not self._runs.link.ready:
            raise errors.NotReady("RunnerNotReady", "the runner is starting")
        try:
            self._marker.write()
        except MarkerError as error:
            raise errors.NotReady("MarkerNotWritten", "the claim could not be recorded") from error
        grant = self._ownership.claim(asked.principal, token=token_urlsafe(32), now=time.monotonic())
        log.info("claimed", extra={"principal": asked.principal, "epoch": grant.epoch})
        self._on_change()
        await request.answer(200, grant.encode())

    async def retire(self, request: Request) -> None:
        """End this executor, if it is as the caller expects."""
        asked, expect = requests.retire(await request.body(requests.MAX_CONTROL_BODY))
        self._must_know(asked.secret)
        self._ownership.retire(expect, epoch=asked.epoch)
        await request.answer(200, b"{}")
        self._retired(expect)

    async def state(self, request: Request) -> None:
        """Say how things are; no secret is asked for and none is told."""
        now = time.monotonic()
        claim = self._ownership.state(now)
        phase = self._ownership.phase
        state = State(
            executor_id=self._settings.executor_id,
            pod_uid=self._settings.pod_uid,
            phase=ExecutorPhase.STARTING if phase is ExecutorPhase.WARM and not self._runs.link.was_ready else phase,
            egress=self.egress,
            slots=self._ownership.slots,
            age_seconds=self._ownership.age_seconds(now),
            claim=None if claim is None else asdict(claim),
        )
        await request.answer(200, orjson.dumps(asdict(state)))

    async def ready(self, request: Request) -> None:
        """Answer 200 while runs or claims can be taken."""
        if self._ownership.phase is ExecutorPhase.RETIRED:
            raise errors.NotReady("Retired", "this executor is retired and ends")
        if not self._runs.link.ready:
            raise errors.NotReady("RunnerNotReady", "the runner is starting")
        await request.answer_text(200, "ok")

    def _must_know(self, secret: str) -> None:
        with suppress(UnicodeEncodeError):
            if secret_matches(secret, self._settings.secret_sha256):
                return
        raise errors.Forbidden("WrongSecret", "the secret is not that of this executor")

    def _retired(self, expect: Expect) -> None:
        log.info("retired", extra={"expect": expect})
        self._on_change()
