"""What a traceback of a program shows: no frames of ours, and why the network cannot be reached."""

import errno
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from execpool.executor.runner.notebook_captured import Captured

_OURS = str(Path(__file__).parent)
_CELL = "<ipython-input-"
_NO_NETWORK = "execpool: this executor has no network (the pool's tier says network: None)"


def without_our_end(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback up to where user code called something of ours."""
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    kept = len(frames)
    while kept and frames[kept - 1].tb_frame.f_code.co_filename.startswith(_OURS):
        kept -= 1
    if kept == len(frames):
        return frames[0] if frames else None
    rest = None
    for frame in reversed(frames[:kept]):
        rest = TracebackType(rest, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return rest


def of_group(error: BaseException) -> list[str]:
    """Return the lines of an exception group, from where user code begins."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith(_CELL):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__)).splitlines()


def is_group(error: BaseException) -> bool:
    """True when an exception group is the exception, or what it was raised in."""
    return _any_below(error, lambda each: isinstance(each, BaseExceptionGroup))


def explain_network(error: BaseException) -> None:
    """Add a note to an exception that the filter's answer to a socket has caused, or a name that cannot be looked up."""
    if _any_below(error, _is_refused):
        with Captured(Exception):  # an exception may refuse attributes
            error.add_note(_NO_NETWORK)


def _is_refused(error: BaseException) -> bool:
    return (isinstance(error, OSError) and error.errno == errno.ENETUNREACH) or type(error).__name__ == "gaierror"


def _any_below(error: BaseException, holds: Callable[[BaseException], bool]) -> bool:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        if holds(current):
            return True
        current = current.__cause__ or current.__context__
    return False
