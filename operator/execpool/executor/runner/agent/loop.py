"""A select loop: callbacks for descriptors, turns for long work, wake-ups in the future. No threads, no asyncio.

The agent is forked from the zygote, forks itself, and must be cheap while nothing happens: without turns and wake-ups it
sleeps in the kernel.
"""

import selectors
import time
from collections import deque
from collections.abc import Callable, Iterator

Callback = Callable[[], None]
Turns = Iterator[None]
"""Long work: it runs until it yields, and goes on after everybody else had a turn."""


class Loop:
    """Runs until `stop`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._work: deque[Turns] = deque()
        self._wakes: list[tuple[float, Callback]] = []
        self._stopped = False
        self.holding = False
        """While true, long work takes no turns."""

    def on_readable(self, descriptor: int, callback: Callback) -> None:
        """Call back while a descriptor has something to read."""
        self._selector.register(descriptor, selectors.EVENT_READ, callback)

    def on_writable(self, descriptor: int, callback: Callback) -> None:
        """Call back while a descriptor takes something."""
        self._selector.register(descriptor, selectors.EVENT_WRITE, callback)

    def forget(self, descriptor: int) -> None:
        """Stop calling back; before it is closed."""
        self._selector.unregister(descriptor)

    def work(self, turns: Turns) -> None:
        """Do long work in turns."""
        self._work.append(turns)

    def wake(self, at: float, callback: Callback) -> None:
        """Call back once, at a moment of the monotonic clock."""
        self._wakes.append((at, callback))

    def stop(self) -> None:
        """Return from `run` after this turn."""
        self._stopped = True

    def run(self) -> None:
        """Loop."""
        while not self._stopped:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            self._wake_up()
            self._take_turns()

    def _patience(self) -> float | None:
        if self._work and not self.holding:
            return 0.0
        if not self._wakes:
            return None
        return max(min(at for at, _ in self._wakes) - time.monotonic(), 0.0)

    def _wake_up(self) -> None:
        if not self._wakes:
            return
        now = time.monotonic()
        due = [callback for at, callback in self._wakes if at <= now]
        self._wakes = [wake for wake in self._wakes if wake[0] > now]
        for callback in due:
            callback()

    def _take_turns(self) -> None:
        for _ in range(0 if self.holding else len(self._work)):
            turns = self._work.popleft()
            if next(turns, self) is not self:
                self._work.append(turns)
