"""One execution on its way through `execute.py`: what is known of it so far."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from execpool.api.names import Outcome, Refusal
from execpool.core.claiming import Route, without
from execpool.gateway.admission import Ticket
from execpool.gateway.answers import Answer, Timings
from execpool.gateway.errors import GatewayError
from execpool.gateway.events import Transcript
from execpool.gateway.pools import ServedPool
from execpool.gateway.requests import Order
from execpool.gateway.seats import Seat


@dataclass(slots=True)
class Course:
    """What has become of one execution so far."""

    id: str
    order: Order
    pool: ServedPool
    route: Route
    ticket: Ticket
    may_start: Callable[[], None]
    """Raises a GatewayError when this gateway has no room for one more answer."""
    began: float
    transcript: Transcript = field(default_factory=Transcript)
    seat: Seat | None = None
    waited: float = 0.0
    run_began: float | None = None
    run_id: str = ""
    """An executor begins no id twice, so a second run has an id of its own."""
    runs: int = 1

    def __post_init__(self) -> None:
        self.run_id = self.id

    def sit_down(self, seat: Seat) -> None:
        """Note the slot in which it is about to run."""
        now = time.perf_counter()
        self.seat, self.waited, self.run_began = seat, now - self.began, now

    def stand_up(self) -> None:
        """Note that it did not start there."""
        self.seat, self.run_began = None, None

    def go_on_without(self, tier: str, why: str) -> None:
        """Note that a tier does not run this code, so that the rest of the route is tried.

        Raises:
            GatewayError: NotSupported, when nothing is left of it.
        """
        self.stand_up()
        self.transcript = Transcript()
        self.route = without(self.route, tier, why)
        if not self.route.tiers:
            tried = "; ".join(self.route.reasons)
            sentence = f"no tier of pool {self.pool.name} runs this code ({tried}); a tier with runtime Python would"
            raise GatewayError(Refusal.NOT_SUPPORTED, sentence, field="code")
        self.ticket = self.ticket.elsewhere(self.route.tiers)
        self.runs += 1
        self.run_id = f"{self.id}.{self.runs}"

    def begin_again(self) -> None:
        """Forget the first run, for a second one."""
        self.stand_up()
        self.transcript = Transcript()
        self.runs += 1
        self.run_id = f"{self.id}.{self.runs}"

    def _run_seconds(self, now: float) -> float:
        """Return the run's time by its executor's clock, which cannot have been longer than what was seen of it here."""
        seen = now - self.run_began if self.run_began is not None else 0.0
        told = self.transcript.end.wall_seconds if self.transcript.end is not None else seen
        return min(max(told, 0.0), seen) if isinstance(told, int | float) else seen

    def answer(self, status: Outcome, reason: str, message: str) -> Answer:
        """Return the answer as of now."""
        now = time.perf_counter()
        run = self._run_seconds(now)
        target = self.seat.target if self.seat is not None else None
        return Answer(
            id=self.id,
            status=status,
            reason=reason,
            message=message,
            transcript=self.transcript,
            route=self.route,
            tier=target.tier if target is not None else "",
            executor=target.name if target is not None else "",
            timings=Timings(self.waited, run, now - self.began),
        )
