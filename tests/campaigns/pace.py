"""Time that runs faster, for whole processes: clocks, timers and time-outs alike, so that every constant is at 1:scale.

A process under a pace sees `time.time`, `time.monotonic` and its event loop's timers run `scale` times as fast as the
world outside. Several processes under one pace agree on the time: it counts from one instant of the machine's own clock.
"""

import asyncio
import selectors
import time
from dataclasses import dataclass, field

_TIME, _MONOTONIC = time.time, time.monotonic


@dataclass(frozen=True)
class Pace:
    """Seconds that pass in a second. `wall` and `steady` are the clocks at its start."""

    scale: float = 20.0
    wall: float = field(default_factory=_TIME)
    steady: float = field(default_factory=_MONOTONIC)

    def now(self) -> float:
        """Seconds since the epoch, as processes under this pace see them."""
        return self.wall + (_MONOTONIC() - self.steady) * self.scale

    def monotonic(self) -> float:
        return self.steady + (_MONOTONIC() - self.steady) * self.scale

    def real(self, seconds: float) -> float:
        """How long so many seconds take outside."""
        return seconds / self.scale


_pace = Pace(1.0)


def lay_hold_of_the_clocks() -> None:
    """Put clocks that can be hurried in the place of the real ones; before anything takes a reference to them."""
    time.time, time.monotonic = _now, _steady


def hurry(pace: Pace) -> None:
    """Put this process under a pace, and the event loops that it makes from now on."""
    global _pace  # noqa: PLW0603 - the process has one time
    _pace = pace
    asyncio.set_event_loop_policy(_HurriedPolicy())


def _now() -> float:
    return _pace.now()


def _steady() -> float:
    return _pace.monotonic()


class _HurriedSelector(selectors.EpollSelector):
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        # epoll rounds up to a millisecond, which would be scale of them
        return super().select(_pace.real(timeout) if timeout is not None and timeout > 0 else timeout)


class _HurriedPolicy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop(_HurriedSelector())
        loop.time = _steady  # type: ignore[method-assign]
        return loop
