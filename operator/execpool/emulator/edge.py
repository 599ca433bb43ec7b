"""The HTTP edge: finds out what a request is for, gives it to one of the two planes, and sends the answer or a fault.

route -> fault before the effect? -> control plane, or relay to a sandbox -> ledger of refusals -> answer, or fault after it
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from functools import partial

from starlette.types import Receive, Scope, Send

from execpool.e2b_server.errors import GoneError, RefusedError
from execpool.e2b_server.exchange import Answer, CallerGoneError, Exchange
from execpool.e2b_server.routes import Call, Inside, Misrouted, Signed, control_call, destination, inside_call
from execpool.emulator import tampering
from execpool.emulator.control_plane import ControlPlane
from execpool.emulator.data_plane import BrokenOffError, DataPlane
from execpool.emulator.faults import Fault, Faults, Kind
from execpool.emulator.ledger import Entry, Event
from execpool.emulator.sandboxes import Sandboxes


class Edge:
    """The ASGI application of the port that clients use."""

    def __init__(self, control: ControlPlane, data: DataPlane, faults: Faults, sandboxes: Sandboxes) -> None:
        self._control_plane = control
        self._data_plane = data
        self._faults = faults
        self._sandboxes = sandboxes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        exchange = Exchange(scope, receive, send, uuid.uuid4().hex)
        try:
            await self._serve(exchange)
        except (CallerGoneError, BrokenOffError):
            exchange.reset()
            await exchange.until_gone()

    async def _serve(self, exchange: Exchange) -> None:
        match destination(exchange.headers, exchange.path, exchange.query):
            case Misrouted(sentence):
                await exchange.answer(Answer.text(400, sentence))
            case Inside() as target:
                await self._inside(inside_call(target.port, exchange.path), target, exchange)
            case Signed():
                await self._signed(exchange)
            case _:
                await self._control(exchange)

    async def _control(self, exchange: Exchange) -> None:
        try:
            call, sandbox_id = control_call(exchange.method, exchange.path)
        except RefusedError as error:
            await exchange.answer(Answer.refusal(error))
            return
        fault = await self._fault(call)
        if fault is not None and not fault.comes_after:
            await tampering.send_instead(fault, exchange, 201 if call is Call.CREATE else 200)
            return
        try:
            answer = await self._control_plane.answer(call, sandbox_id, exchange)
        except RefusedError as error:
            self._note_refusal(call, sandbox_id, exchange, error)
            answer = Answer.refusal(error)
        if fault is None:
            await exchange.answer(answer)
        else:
            await tampering.send_with(fault, exchange, answer.status, answer.raw_headers(), _whole(answer.body))

    async def _signed(self, exchange: Exchange) -> None:
        try:
            target = self._data_plane.find_signer(exchange)
        except RefusedError as error:
            await exchange.answer(Answer.refusal(error))
        else:
            await self._inside(Call.FILES, target, exchange)

    async def _inside(self, call: Call, target: Inside, exchange: Exchange) -> None:
        fault = await self._fault(call)
        if fault is not None and not fault.comes_after:
            await tampering.send_instead(fault, exchange, 200)
            return
        sink = partial(tampering.send, exchange) if fault is None else partial(tampering.send_with, fault, exchange)
        try:
            await self._data_plane.relay(call, target, exchange, sink)
        except RefusedError as error:
            if not isinstance(error, GoneError):
                self._note_refusal(call, target.sandbox_id, exchange, error)
            await exchange.answer(Answer.refusal(error))

    async def _fault(self, call: Call) -> Fault | None:
        """Take the fault that was ordered for a call; a delay before it is over then."""
        fault = self._faults.take(call.value, self._sandboxes.now())
        if fault is None:
            return None
        when = "after the effect" if fault.comes_after else "before the effect"
        self._note(Entry(self._sandboxes.now(), Event.FAULTED, call=call.value, detail=f"{fault.kind.value} {when}"))
        if fault.kind is Kind.DELAY and not fault.after_commit:
            await asyncio.sleep(fault.seconds)
            return None
        return fault

    def _note_refusal(self, call: Call, sandbox_id: str, exchange: Exchange, error: RefusedError) -> None:
        self._note(
            Entry(
                self._sandboxes.now(),
                Event.REFUSED,
                sandbox_id,
                call.value,
                exchange.request_id,
                exchange.headers.get("idempotency-key", ""),
                status=error.status,
                detail=error.message,
            )
        )

    def _note(self, entry: Entry) -> None:
        self._sandboxes.ledger.write(entry)


async def _whole(body: bytes) -> AsyncIterator[bytes]:
    yield body
