"""What an E2B sandbox says of a run, in the terms of the wire to our own executors.

E2B's last line says nothing: how a run ended is read from what came before it. Nothing else is changed here, and nothing is
believed: every line goes through `events.py` like an executor's.

    error line, then the end           Failed
    end_of_execution                   Succeeded
    neither, and the stream is over    nobody knows: no end is added
"""

from collections.abc import Callable

import orjson

from execpool.protocol import End, EventType, RunReason, RunStatus


class RunEnd:
    """Follows one run for how it ended.

    Args:
        clock: seconds; E2B does not say how long a run took.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._failed = False
        self.is_over = False

    def translated(self, line: bytes) -> bytes:
        """Return a line as one of our own executors would have said it."""
        kind = _type(line)
        self._failed = self._failed or kind == EventType.ERROR
        if kind != EventType.END_OF_EXECUTION:
            return line
        self.is_over = True
        return self.said(RunStatus.FAILED if self._failed else RunStatus.SUCCEEDED)

    def missing(self) -> bytes | None:
        """Return the end that a stream without a last line lacks, as far as it can be known."""
        return self.said(RunStatus.FAILED) if self._failed and not self.is_over else None

    def said(self, status: RunStatus, reason: RunReason = RunReason.NONE, message: str = "") -> bytes:
        """Return a last line that says so."""
        end = End(status, reason, message, wall_seconds=self._clock() - self._began)
        return b'{"type":"end_of_execution",' + end.encode()[1:]


def _type(line: bytes) -> object:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return event.get("type") if isinstance(event, dict) else None
