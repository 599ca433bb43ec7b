"""The admin API: what only a test may know and do. JSON over HTTP on a port of its own, without authentication.

GET /health                      200 once creations are served without a start
GET /ledger                      its lines
GET /sandboxes                   what there is for real, with its processes
POST /sandboxes/{id}/lose        end one, as if its machine had failed
GET, POST, DELETE /faults        what is ordered; order one (`faults.Fault`), answered by {"number": n}; take all back
DELETE /faults/{number}          take one back
GET, PATCH /account              cap and rates
GET, PATCH /knobs                list lag and losses
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import wraps
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from execpool.core.budget import Rate
from execpool.e2b_server.routes import Call
from execpool.emulator.account import MAX_LAG_SECONDS
from execpool.emulator.faults import Fault, Faults
from execpool.emulator.holding import Knobs, Losses
from execpool.emulator.plans import Plan
from execpool.emulator.sandboxes import Sandboxes
from execpool.emulator.settings import with_executions

Endpoint = Callable[[Request], Awaitable[Response]]

T = TypeVar("T")

_FAULT = TypeAdapter(Fault)
_CALLS = ("*", *Call)


class AccountChange(BaseModel):
    """`PATCH /account`; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    sandboxes: int | None = Field(default=None, ge=0)
    creates: int | None = Field(default=None, ge=1)
    creates_window_seconds: int | None = Field(default=None, ge=1)
    creates_burst: int | None = Field(default=None, ge=1)
    executions_per_minute: int | None = Field(default=None, ge=0)
    executions_burst: int | None = Field(default=None, ge=1)


class KnobsChange(BaseModel):
    """`PATCH /knobs`; what is not named stays."""

    model_config = ConfigDict(extra="forbid")

    list_lag_seconds: float | None = Field(default=None, ge=0, le=MAX_LAG_SECONDS)
    loss_probability: float | None = Field(default=None, ge=0, le=1)
    loss_within_seconds: float | None = Field(default=None, ge=0)


class FaultOrder(BaseModel):
    """`POST /faults`: a fault, `for_seconds` from now on unless it names another end."""

    model_config = ConfigDict(extra="allow")

    for_seconds: float | None = Field(default=None, gt=0)


class Admin:
    """The endpoints."""

    def __init__(self, sandboxes: Sandboxes, faults: Faults, is_ready: Callable[[], bool]) -> None:
        self._sandboxes = sandboxes
        self._faults = faults
        self._is_ready = is_ready

    def application(self) -> Starlette:
        """Return the ASGI application."""
        app = Starlette(
            routes=[
                Route("/health", self.health),
                Route("/ledger", self.ledger),
                Route("/sandboxes", self.sandboxes),
                Route("/sandboxes/{id}/lose", self.lose, methods=["POST"]),
                Route("/faults", self.faults, methods=["GET"]),
                Route("/faults", _read(self.order_fault), methods=["POST"]),
                Route("/faults", self.clear_faults, methods=["DELETE"]),
                Route("/faults/{number:int}", self.cancel_fault, methods=["DELETE"]),
                Route("/account", self.account, methods=["GET"]),
                Route("/account", _read(self.change_account), methods=["PATCH"]),
                Route("/knobs", self.knobs, methods=["GET"]),
                Route("/knobs", _read(self.change_knobs), methods=["PATCH"]),
            ]
        )
        app.router.redirect_slashes = False
        return app

    async def health(self, _: Request) -> Response:
        """Say whether creations are served."""
        ready = self._is_ready()
        return PlainTextResponse("ok" if ready else "starting", 200 if ready else 503)

    async def ledger(self, _: Request) -> Response:
        """Return the ledger's file."""
        return Response(self._sandboxes.ledger.path.read_bytes(), media_type="application/x-ndjson")

    async def sandboxes(self, _: Request) -> Response:
        """List what there is."""
        alive = self._sandboxes.account.alive(self._sandboxes.now())
        return JSONResponse([self._told(sandbox.id) | {"state": sandbox.state.value} for sandbox in alive])

    async def lose(self, request: Request) -> Response:
        """End one."""
        was_there = await self._sandboxes.lose(request.path_params["id"], "lost, as ordered")
        return Response(status_code=204 if was_there else 404)

    async def faults(self, _: Request) -> Response:
        """List what is ordered."""
        return JSONResponse({str(number): asdict(fault) for number, fault in self._faults.all().items()})

    async def order_fault(self, request: Request) -> Response:
        """Order one."""
        wanted = FaultOrder.model_validate(await request.json())
        until = None if wanted.for_seconds is None else self._sandboxes.now() + wanted.for_seconds
        given = {"until": until, **({} if until is None else {"times": None}), **(wanted.model_extra or {})}
        fault = _FAULT.validate_python(given)
        if fault.call not in _CALLS:
            raise ValueError(f"call is one of {', '.join(_CALLS)}, not {fault.call!r}")
        return JSONResponse({"number": self._faults.order(fault)}, 201)

    async def clear_faults(self, _: Request) -> Response:
        """Take all back."""
        self._faults.clear()
        return Response(status_code=204)

    async def cancel_fault(self, request: Request) -> Response:
        """Take one back."""
        return Response(status_code=204 if self._faults.cancel(request.path_params["number"]) else 404)

    async def account(self, _: Request) -> Response:
        """Show the limits."""
        return JSONResponse(asdict(self._sandboxes.account.plan))

    async def change_account(self, request: Request) -> Response:
        """Change limits; rates begin anew."""
        change = AccountChange.model_validate(await request.json())
        self._sandboxes.account.adopt(_changed(self._sandboxes.account.plan, change), self._sandboxes.now())
        return await self.account(request)

    async def knobs(self, _: Request) -> Response:
        """Show the knobs."""
        return JSONResponse(asdict(self._sandboxes.knobs))

    async def change_knobs(self, request: Request) -> Response:
        """Turn knobs."""
        change, knobs = KnobsChange.model_validate(await request.json()), self._sandboxes.knobs
        self._sandboxes.knobs = Knobs(
            list_lag_seconds=_either(change.list_lag_seconds, knobs.list_lag_seconds),
            losses=Losses(
                probability=_either(change.loss_probability, knobs.losses.probability),
                within_seconds=_either(change.loss_within_seconds, knobs.losses.within_seconds),
            ),
        )
        return await self.knobs(request)

    def _told(self, sandbox_id: str) -> dict[str, object]:
        executor = self._sandboxes.held(sandbox_id).executor
        return {"id": sandbox_id, "address": executor.address, "usage": asdict(executor.usage())}


def _changed(plan: Plan, change: AccountChange) -> Plan:
    creates = Rate(
        _either(change.creates, plan.creates.limit),
        _either(change.creates_window_seconds, plan.creates.window_seconds),
        _either(change.creates_burst, plan.creates.burst),
    )
    changed = Plan(
        _either(change.sandboxes, plan.sandboxes), creates, plan.max_lifetime_seconds, plan.management, plan.executions
    )
    if change.executions_per_minute is None:
        return changed
    return with_executions(changed, change.executions_per_minute, change.executions_burst or 1)


def _either(new: T | None, old: T) -> T:
    return old if new is None else new


def _read(endpoint: Endpoint) -> Endpoint:
    """Answer 400 to a body that is not as it has to be."""

    @wraps(endpoint)
    async def checked(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ValueError as error:
            return PlainTextResponse(str(error), 400)

    return checked
