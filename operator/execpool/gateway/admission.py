"""The queue of one pool: lets an execution in when there is a slot for it, or refuses it with the numbers.

`core.admission` decides who is next; this gives those decisions their effect. Everything happens on one thread. Changes of
the claims table and of the line ask for a look at both (`pump`), which comes in the loop's next turn: however many changes
come at once, they cost one. A look at a long line takes a while, so the next one waits until that is a small part of the
time. An execution that finds a free slot takes it without a look, unless somebody of its principal waits for just that, or
somebody waits for a budget.

Budgets, and the state of an account, are gates (`core.gates`): a seat is given once all that stand before it let it through.
Whoever cannot get through in time is refused at once, with what holds it back.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from execpool.api.names import Isolation
from execpool.core.admission import Line, Waiter, assign, seconds_until_a_turn, wanted_executors
from execpool.core.passage import GatesOf, Hindrance, Passage, no_gates
from execpool.core.sessions import Opening
from execpool.gateway.claims import Claims
from execpool.gateway.errors import GatewayError
from execpool.gateway.seats import Seat
from execpool.gateway.turned_away import Occupancy, kept_out, not_claimable, nothing_free, too_late, too_many

HANDSHAKE_SECONDS = 2.0
"""What `maxWaitSeconds: 0` leaves for the claim of an executor that is warm."""
POSITION_SECONDS = 0.5
"""How often, at most, those who wait are told that their position has changed."""
PACE_MEMORY = 0.9
"""Weight of the past in the mean duration of a run."""

REST = 4.0
"""Pause between two looks at the line, as a multiple of what the last one took; those who wait then cost a fifth of a CPU."""
SHORTEST_REST_SECONDS = 0.002
LATE_SECONDS = 0.002
"""How long after a deadline to look for those who have missed it: timers have a coarser clock."""

MARGIN_SECONDS = 10.0
"""What an execution takes beside its run: a context, a few round trips, the end of what overran."""
LEAST_LEFT_SECONDS = 540.0
"""Longer runs lean on the operator, which renews the deadline of a sandbox every 300 s to 900 s: without it no sandbox would
have so much left."""

OnWait = Callable[[int], None]


@dataclass(slots=True, eq=False)
class _Place:
    """What the shell keeps of one waiter."""

    ticket: "Ticket"
    seat: asyncio.Future[Seat]
    on_wait: OnWait
    told: int = 0
    hindrance: Hindrance | None = None
    """What held it back at the last look."""

    @property
    def waiter(self) -> Waiter:
        """Whose place it is."""
        return self.ticket.waiter


@dataclass(slots=True)
class Ticket:
    """An execution's right to wait: who, where, until when. It keeps its place when it has to come back."""

    waiter: Waiter
    has_waited: bool = False
    opening: Opening | None = None
    """The session that it is for."""

    def elsewhere(self, tiers: tuple[str, ...]) -> "Ticket":
        """Return the same right for other tiers."""
        return replace(self, waiter=replace(self.waiter, tiers=tiers))


class Admission:
    """The queue of one pool.

    Attributes:
        max_depth: most executions for which nothing is free and nothing is under way.
        on_change: called when those who wait, and so the demand, may have changed.
        gates: what stands before an execution beside the lack of an executor.
    """

    def __init__(self, claims: Claims, name: str) -> None:
        self.max_depth = 0
        self.on_change: Callable[[], None] = lambda: None
        self.gates: GatesOf = no_gates
        self._claims = claims
        self._name = name
        self._line = Line()
        self._places: dict[int, _Place] = {}
        self._uncovered: tuple[Waiter, ...] = ()
        self._held_back = 0
        self._opening: asyncio.TimerHandle | None = None
        self._openings: dict[str, Ticket] = {}
        """Sessions that wait, by id."""
        self._arrivals = 0
        self._run_seconds = 1.0
        self._newcomers: list[_Place] = []
        self._telling: asyncio.TimerHandle | None = None
        self._looking: asyncio.Handle | None = None
        self._rest_until = 0.0

    def ticket(
        self,
        principal: str,
        tiers: tuple[str, ...],
        *,
        max_wait: float,
        floor: Isolation | None = None,
        run_seconds: float = 0.0,
        opening: Opening | None = None,
    ) -> Ticket:
        """Return a ticket that ends `max_wait` seconds from now; 0 means: only what is free or warm now.

        The executor has to be there for `run_seconds`, or for a part of it that nothing renews (LEAST_LEFT_SECONDS). With
        an opening it is a session that waits, and its seat is a whole executor.
        """
        self._arrivals += 1
        deadline = asyncio.get_running_loop().time() + (max_wait or HANDSHAKE_SECONDS)
        least = floor or Isolation.INTERPRETER
        lasts = min(run_seconds + MARGIN_SECONDS, LEAST_LEFT_SECONDS)
        patient = max_wait > 0
        session = "" if opening is None else opening.id
        waiter = Waiter(self._arrivals, principal, tiers, deadline, patient, least, lasts, session)
        return Ticket(waiter, opening=opening)

    async def enter(self, ticket: Ticket, on_wait: OnWait) -> Seat:
        """Return a slot of an executor that serves the principal, or the session alone.

        Args:
            ticket: who wants to run, and where.
            on_wait: told the position (1 is next) when it has to wait, and when that changes.

        Raises:
            GatewayError: QueueFull, WaitTooLong, BudgetExhausted, BreakerOpen, DeadlinePassed, or why the pool no longer
                serves.
        """
        waiter = ticket.waiter
        now = asyncio.get_running_loop().time()
        if waiter.deadline <= now:
            raise too_late(self._seen())
        seat = None
        if waiter.claimant not in self._line.claimants() and not self._held_back:
            open_tiers = Passage(self.gates, now).open_tiers(waiter.principal, waiter.tiers)
            seat = self._claims.take(waiter, open_tiers)
        return self._let_through(waiter, seat) if seat is not None else await self._wait(ticket, on_wait)

    def leave(self, seat: Seat) -> None:
        """Give a slot back. What did not start is given back to the budgets too."""
        for gate in seat.passed:
            gate.leave(started=seat.has_started)
        self._claims.release(seat)

    def _let_through(self, waiter: Waiter, seat: Seat) -> Seat:
        now = asyncio.get_running_loop().time()
        seat.passed = () if waiter.session else self.gates(waiter.principal, seat.target.tier)
        for gate in seat.passed:
            gate.take(now)
        return seat

    def waiting(self) -> int:
        """Return how many executions wait."""
        return len(self._line)

    def held_back(self) -> int:
        """Return how many of them a budget or an account holds back."""
        return self._held_back

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
        """See to it that what there is soon goes to those whose turn it is."""
        if self._looking is not None or not (self._line or self._uncovered or self._held_back):
            return
        loop = asyncio.get_running_loop()
        rest = self._rest_until - loop.time()
        at_once = rest < SHORTEST_REST_SECONDS
        self._looking = loop.call_soon(self._look) if at_once else loop.call_later(rest, self._look)

    def _look(self) -> None:
        self._looking = None
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        for waiter in self._line.expired(loop.time()):
            place = self._places[waiter.number]
            self._refuse(place, self._too_late(place))
        self._hand_out()
        self._tell_soon()
        self.on_change()
        self._rest_until = loop.time() + REST * (time.perf_counter() - began)

    def _hand_out(self) -> None:
        """Give what there is to those whose turn it is; refuse newcomers for whom there is no room to wait."""
        now = asyncio.get_running_loop().time()
        decision = assign(self._line, self._claims.capacity(self._line.claimants()), self.gates, now)
        for number, executor in decision.seats:
            self._line.leave(number)
            place = self._places[number]
            if not place.seat.done():  # its caller may have gone a moment ago
                place.seat.set_result(self._let_through(place.waiter, self._claims.take_at(executor)))
        for claimant, executor in decision.claims:
            ticket = self._openings.get(claimant)
            if ticket is None:
                self._claims.begin(claimant, executor)
            else:
                self._claims.begin(ticket.waiter.principal, executor, ticket.opening)
        hindrances = {waiter.number: hindrance for waiter, hindrance in decision.held_back}
        still = sorted((*decision.uncovered, *(waiter for waiter, _ in decision.held_back)), key=_number)
        staying = self._sort_out(still, hindrances, now)
        self._uncovered = tuple(waiter for waiter in staying if waiter.number not in hindrances)
        self._held_back = len(staying) - len(self._uncovered)
        self._look_when_open([hindrances[waiter.number] for waiter in staying if waiter.number in hindrances])

    def _sort_out(self, still: list[Waiter], hindrances: dict[int, Hindrance], now: float) -> list[Waiter]:
        """Refuse those for whom waiting is of no use, and newcomers for whom there is no room; return the others."""
        newcomers = {place.waiter.number for place in self._newcomers}
        self._newcomers.clear()
        staying: list[Waiter] = []
        for waiter in still:
            place = self._places[waiter.number]
            hindrance = place.hindrance = hindrances.get(waiter.number)
            patience = waiter.deadline - now if waiter.patient else 0.0
            if hindrance is not None and (not waiter.patient or not hindrance.ends_before(patience)):
                self._refuse(place, kept_out(self._seen(), hindrance, now))
            elif not waiter.patient:
                self._refuse(place, nothing_free(self._seen()))
            elif len(staying) >= self.max_depth and waiter.number in newcomers and not place.ticket.has_waited:
                self._refuse(place, too_many(self._seen(), len(staying), self.max_depth))
            else:
                staying.append(waiter)
                self._welcome(place, len(staying))
        return staying

    def _look_when_open(self, hindrances: list[Hindrance]) -> None:
        """Look again when the first of these will have ended; those that nobody can foresee end with an event."""
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        foreseen = [hindrance.seconds for hindrance in hindrances if hindrance.seconds > 0]
        if foreseen:
            pause = min(foreseen) + LATE_SECONDS
            self._opening = asyncio.get_running_loop().call_later(pause, self.pump)

    async def _wait(self, ticket: Ticket, on_wait: OnWait) -> Seat:
        loop = asyncio.get_running_loop()
        waiter = ticket.waiter
        place = _Place(ticket, loop.create_future(), on_wait)
        self._places[waiter.number] = place
        self._newcomers.append(place)
        if waiter.session:
            self._openings[waiter.session] = ticket
        self._line.join(waiter)
        timer = loop.call_at(waiter.deadline + LATE_SECONDS, self.pump)
        self.pump()
        try:
            return await place.seat
        except asyncio.CancelledError:
            if _is_granted(place):
                self.leave(place.seat.result())
            raise
        finally:
            timer.cancel()
            self._leave(place)

    def _welcome(self, place: _Place, position: int) -> None:
        """Tell its position to one that has none. One that comes back after a failed start is never too many."""
        if place.told == 0:
            place.ticket.has_waited = True
            place.told = position
            place.on_wait(position)

    def _leave(self, place: _Place) -> None:
        self._places.pop(place.waiter.number, None)
        self._line.leave(place.waiter.number)
        if session := place.waiter.session:
            del self._openings[session]
        if not _is_granted(place):
            if session:
                self._claims.abandon(session)
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

    # Refusals

    def _too_late(self, place: _Place) -> GatewayError:
        if place.hindrance is not None:
            return kept_out(self._seen(), place.hindrance, asyncio.get_running_loop().time())
        if self._claims.is_control_plane_away and self._claims.has_warm_sandbox(place.waiter.tiers):
            return not_claimable(self._seen())
        return too_late(self._seen())

    def _seen(self) -> Occupancy:
        waiting = len(self._uncovered) + self._held_back
        pace = seconds_until_a_turn(waiting, self._claims.slots_held(), self._run_seconds)
        return Occupancy(self._name, self._claims.held(), self._claims.ready(), len(self._line), pace)


def _number(waiter: Waiter) -> int:
    return waiter.number


def _is_granted(place: _Place) -> bool:
    return place.seat.done() and not place.seat.cancelled() and place.seat.exception() is None
