"""The HTTP edge, and the control port, which carries ownership.

The data port (`data.py`) speaks E2B's protocol and is the only one that a proxy may reach. They are two applications on two
sockets, so that no path of one can ever be reached through the other.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from secrets import token_urlsafe

import orjson

from execpool.executor.server import errors, http, requests
from execpool.executor.server.claim import Ownership
from execpool.executor.server.http import Handler, Receive, Request, Scope, Send
from execpool.executor.server.marker import Marker, MarkerError
from execpool.executor.server.runs import Runs
from execpool.executor.settings import ServerSettings
from execpool.protocol import (
    HEADER_EPOCH,
    HEADER_TOKEN,
    Egress,
    ExecutorPhase,
    Expect,
    Proof,
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


class ControlPort:
    """Ownership: `/challenge`, `/claim`, `/session`, `/retire`, `/state`, `/readyz`."""

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
                ("POST", "/session"): self.session,
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
        if not self._runs.ready:
            raise errors.NotReady("RunnerNotReady", "the runner is starting")
        try:
            self._marker.write()
        except MarkerError as error:
            raise errors.NotReady("MarkerNotWritten", "the claim could not be recorded") from error
        self._set_environment(asked.env_vars)
        grant = self._ownership.claim(asked.principal, token=token_urlsafe(32), now=time.monotonic())
        log.info("claimed", extra={"principal": asked.principal, "epoch": grant.epoch})
        self._on_change()
        await request.answer(200, grant.encode())

    async def session(self, request: Request) -> None:
        """Give this executor to a session, or move the session's end; its end may be now."""
        self._authorize(request)
        asked = requests.session(await request.body(requests.MAX_SESSION_BODY))
        self._authorize(request)  # the claim may have moved on while the body was on its way
        self._ownership.hold(asked.session, until=time.monotonic() + asked.ends_in_seconds, about=asked.about)
        self._set_environment(asked.env_vars)
        await request.answer(200, b"{}")
        log.info("session held", extra={"session": asked.session, "seconds": asked.ends_in_seconds})
        self._on_change()

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
        phase, session = self._ownership.phase, self._ownership.session(now)
        state = State(
            executor_id=self._settings.executor_id,
            pod_uid=self._settings.pod_uid,
            phase=ExecutorPhase.STARTING if phase is ExecutorPhase.WARM and not self._runs.was_ready else phase,
            egress=self.egress,
            slots=self._ownership.slots,
            age_seconds=self._ownership.age_seconds(now),
            claim=None if claim is None else asdict(claim),
            modules=self._runs.link.inventory or None,
            session=None if session is None else asdict(session),
        )
        await request.answer(200, orjson.dumps(asdict(state)))

    async def ready(self, request: Request) -> None:
        """Answer 200 while runs or claims can be taken."""
        if self._ownership.phase is ExecutorPhase.RETIRED:
            raise errors.NotReady("Retired", "this executor is retired and ends")
        if not self._runs.ready:
            raise errors.NotReady("RunnerNotReady", "the runner is starting")
        await request.answer_text(200, "ok")

    def _set_environment(self, variables: dict[str, str] | None) -> None:
        if variables is not None:
            self._runs.env.clear()
            self._runs.env.update(variables)

    def _authorize(self, request: Request) -> None:
        self._ownership.authorize(request.header(HEADER_TOKEN), requests.epoch(request.header(HEADER_EPOCH)))

    def _must_know(self, secret: str) -> None:
        with suppress(UnicodeEncodeError):
            if secret_matches(secret, self._settings.secret_sha256):
                return
        raise errors.Forbidden("WrongSecret", "the secret is not that of this executor")

    def _retired(self, expect: Expect) -> None:
        log.info("retired", extra={"expect": expect})
        self._on_change()
