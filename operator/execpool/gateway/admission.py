"""The queue of one pool: lets an execution in when there is a slot for it, or refuses it with the numbers.

`core.admission` decides who is next; this gives those decisions their effect. Everything happens on one thread, and `pump`
runs to its end after every change of the claims table and of the line, so a free slot and somebody who may use it never
exist at the same time. That is why an execution which finds a free slot may take it without looking at the line.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from execpool.api.names import Refusal
from execpool.core.admission import Line, Waiter, assign, seconds_until_a_turn, wanted_executors
from execpool.gateway.claims import Claims
from execpool.gateway.errors import GatewayError
from execpool.gateway.seats import Seat

HANDSHAKE_SECONDS = 2.0
"""What `maxWaitSeconds: 0` leaves for the claim of an executor that is warm."""
POSITION_SECONDS = 0.5
"""How often, at most, those who wait are told that their position has changed."""
PACE_MEMORY = 0.9
"""Weight of the past in the mean duration of a run."""

OnWait = Callable[[int], None]


@dataclass(slots=True, eq=False)
class _Place:
    """What the shell keeps of one waiter."""

    waiter: Waiter
    seat: asyncio.Future[Seat]
    on_wait: OnWait
    told: int = 0


@dataclass(slots=True)
class Ticket:
    """An execution's right to wait: who, where, until when. It keeps its place when it has to come back."""

    waiter: Waiter
    has_waited: bool = False


class Admission:
    """The queue of one pool.

    Attributes:
        max_depth: most executions for which nothing is free and nothing is under way.
        on_change: called when those who wait, and so the demand, may have changed.
    """

    def __init__(self, claims: Claims, name: str) -> None:
        self.max_depth = 0
        self.on_change: Callable[[], None] = lambda: None
        self._claims = claims
        self._name = name
        self._line = Line()
        self._places: dict[int, _Place] = {}
        self._uncovered: tuple[Waiter, ...] = ()
        self._arrivals = 0
        self._run_seconds = 1.0
        self._telling: asyncio.TimerHandle | None = None

    def ticket(self, principal: str, tiers: tuple[str, ...], *, max_wait: float) -> Ticket:
        """Return a ticket that ends `max_wait` seconds from now; 0 means: only what is free or warm now."""
        self._arrivals += 1
        deadline = asyncio.get_running_loop().time() + (max_wait or HANDSHAKE_SECONDS)
        return Ticket(Waiter(self._arrivals, principal, tiers, deadline, patient=max_wait > 0))

    async def enter(self, ticket: Ticket, on_wait: OnWait) -> Seat:
        """Return a slot of an executor that serves the principal.

        Args:
            ticket: who wants to run, and where.
            on_wait: told the position (1 is next) when it has to wait, and when that changes.

        Raises:
            GatewayError: QueueFull, WaitTooLong, DeadlinePassed, or why the pool no longer serves.
        """
        waiter = ticket.waiter
        if waiter.deadline <= asyncio.get_running_loop().time():
            raise self._too_late()
        seat = self._claims.take(waiter.principal, waiter.tiers)
        return seat if seat is not None else await self._wait(ticket, on_wait)

    def waiting(self) -> int:
        """Return how many executions wait."""
        return len(self._line)

    def wanted(self) -> dict[str, int]:
        """Return, by tier, how many more executors those who wait could use."""
        return wanted_executors(self._uncovered, self._claims.slots)

    def note_run(self, seconds: float) -> None:
        """Remember how long runs take here, for Retry-After."""
        self._run_seconds = PACE_MEMORY * self._run_seconds + (1 - PACE_MEMORY) * seconds

    def refuse_all(self, error: Callable[[], GatewayError]) -> None:
        """Refuse everybody who waits: the pool no longer serves, or this gateway ends."""
        for place in list(self._places.values()):
            self._refuse(place, error())

    def pump(self) -> None:
        """Give what there is to those whose turn it is."""
        if not self._line:
            if self._uncovered:
                self._uncovered = ()
                self.on_change()
            return
        for waiter in self._line.expired(asyncio.get_running_loop().time()):
            self._refuse(self._places[waiter.number], self._too_late())
        decision = assign(self._line, self._claims.capacity(self._line.principals()))
        for number, executor in decision.seats:
            self._line.leave(number)
            place = self._places[number]
            if not place.seat.done():  # its caller may have gone a moment ago
                place.seat.set_result(self._claims.take_at(executor))
        for principal, executor in decision.claims:
            self._claims.begin(principal, executor)
        for waiter in decision.uncovered:
            if not waiter.patient:
                self._refuse(self._places[waiter.number], self._nothing_free())
        self._uncovered = tuple(waiter for waiter in decision.uncovered if waiter.patient)
        self._tell_soon()
        self.on_change()

    async def _wait(self, ticket: Ticket, on_wait: OnWait) -> Seat:
        loop = asyncio.get_running_loop()
        waiter = ticket.waiter
        place = _Place(waiter, loop.create_future(), on_wait)
        self._places[waiter.number] = place
        self._line.join(waiter)
        timer = loop.call_at(waiter.deadline, self.pump)
        try:
            self.pump()
            self._welcome(ticket, place)
            return await place.seat
        except asyncio.CancelledError:
            if _is_granted(place):
                self._claims.release(place.seat.result())
            raise
        finally:
            timer.cancel()
            self._leave(place)

    def _welcome(self, ticket: Ticket, place: _Place) -> None:
        """Tell a newcomer its position, or that the line is full. One that comes back is never too many."""
        if place.seat.done() or place.waiter not in self._uncovered:
            return
        if len(self._uncovered) > self.max_depth and not ticket.has_waited:
            raise self._too_many()
        ticket.has_waited = True
        place.told = self._uncovered.index(place.waiter) + 1
        place.on_wait(place.told)

    def _leave(self, place: _Place) -> None:
        self._places.pop(place.waiter.number, None)
        self._line.leave(place.waiter.number)
        if not _is_granted(place):
            self.pump()

    def _refuse(self, place: _Place, error: GatewayError) -> None:
        self._line.leave(place.waiter.number)
        if not place.seat.done():
            place.seat.set_exception(error)

    def _tell_soon(self) -> None:
        if self._telling is None and self._uncovered:
            self._telling = asyncio.get_running_loop().call_later(POSITION_SECONDS, self._tell)

    def _tell(self) -> None:
        self._telling = None
        for position, waiter in enumerate(self._uncovered, 1):
            place = self._places.get(waiter.number)
            if place is not None and 0 < place.told != position:
                place.told = position
                place.on_wait(position)

    # Refusals, with what was observed

    def _too_many(self) -> GatewayError:
        waiting = len(self._uncovered) - 1
        sentence = f"{waiting} executions wait in pool {self._name}, which allows {self.max_depth}; {self._occupancy()}"
        return GatewayError(Refusal.QUEUE_FULL, sentence, retry_after=self._retry_after())

    def _nothing_free(self) -> GatewayError:
        sentence = f"nothing is free in pool {self._name} and maxWaitSeconds is 0; {self._occupancy()}"
        return GatewayError(Refusal.WAIT_TOO_LONG, sentence, retry_after=self._retry_after())

    def _too_late(self) -> GatewayError:
        sentence = f"no executor of pool {self._name} became free in time; {self._occupancy()}"
        return GatewayError(Refusal.DEADLINE_PASSED, sentence, retry_after=self._retry_after())

    def _occupancy(self) -> str:
        held, ready = self._claims.held(), self._claims.ready()
        return f"{held} of {ready} ready executors are held, {len(self._line)} executions wait"

    def _retry_after(self) -> float:
        return seconds_until_a_turn(len(self._uncovered), self._claims.slots_held(), self._run_seconds)


def _is_granted(place: _Place) -> bool:
    return place.seat.done() and not place.seat.cancelled() and place.seat.exception() is None
