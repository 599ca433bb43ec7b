"""Decides how a run ended, from what its supervisor saw, what the server wanted, and what the program reported. Pure.

The supervisor's word counts before the server's wish: a program that ended by itself in the same moment as it was to be
stopped has ended by itself. What the program reports only colours a failure (the name of its error): how its process
ended cannot be forged by it.
"""

import signal
from dataclasses import dataclass, replace

from execpool.executor.frames import Ended
from execpool.protocol import RunReason, RunStatus


@dataclass(frozen=True)
class Verdict:
    """Status and reason of a run, a sentence for people, and an error to report in the program's place."""

    status: RunStatus
    reason: RunReason = RunReason.NONE
    message: str = ""
    error: tuple[str, str] | None = None
    """(name, value) when the program failed without a word."""


_WISHES = {
    RunReason.TIME_LIMIT: (RunStatus.TIMED_OUT, "it ran longer than its limit of {limit:g} s"),
    RunReason.OUTPUT_LIMIT: (RunStatus.KILLED, "it went on writing after its allowance of output was used up"),
    RunReason.CLIENT_GONE: (RunStatus.CANCELLED, "the client went away"),
    RunReason.RETIRED: (RunStatus.KILLED, "the executor was retired"),
}
_CONTEXT_LOST = ("ContextRestarting", "Context was restarted")
"""What E2B says when a kernel has died."""
_LOST = Verdict(
    RunStatus.UNKNOWN, RunReason.RUNNER_LOST, "the process that watched over it was lost; how far it came is not known"
)


def judge(ended: Ended | None, wish: RunReason | None, error_name: str | None, limit_seconds: float) -> Verdict:
    """Return the verdict on a run; `ended` is None when its supervisor was lost, `wish` why the server stopped it."""
    if ended is None:
        return _LOST if wish is None else _wished(wish, limit_seconds)
    if ended.stopped:
        return _wished(wish, limit_seconds) if wish is not None else _signalled(signal.SIGTERM)
    if ended.unsupported:
        return Verdict(RunStatus.NOT_SUPPORTED, message=f"not run: {ended.unsupported}")
    if ended.exit_code < 0:
        return _by_signal(ended, limit_seconds)
    if ended.exit_code > 0 and error_name is None:
        message = f"it ended with exit status {ended.exit_code}"
        return Verdict(RunStatus.FAILED, message=message, error=("SystemExit", str(ended.exit_code)))
    return Verdict(RunStatus.SUCCEEDED if ended.exit_code == 0 and error_name is None else RunStatus.FAILED)


def judge_context(ended: Ended | None, wish: RunReason | None, limit_seconds: float) -> Verdict:
    """Return the verdict on an execution whose context is gone: its state is lost, whoever ended it and why."""
    if wish is not None:
        return replace(_wished(wish, limit_seconds), error=_CONTEXT_LOST)
    died = judge(ended, None, None, limit_seconds)
    if ended is None or died.reason is RunReason.MEMORY_LIMIT:
        return replace(died, error=_CONTEXT_LOST)
    return Verdict(RunStatus.KILLED, RunReason.CONTEXT_LOST, died.message or "its context ended", _CONTEXT_LOST)


def _wished(reason: RunReason, limit_seconds: float) -> Verdict:
    status, message = _WISHES[reason]
    return Verdict(status, reason, message.format(limit=limit_seconds))


def _by_signal(ended: Ended, limit_seconds: float) -> Verdict:
    number = -ended.exit_code
    if number == signal.SIGXCPU:
        return _wished(RunReason.TIME_LIMIT, limit_seconds)
    if number == signal.SIGKILL and ended.out_of_memory:
        return Verdict(RunStatus.KILLED, RunReason.MEMORY_LIMIT, "the container ran out of memory")
    return _signalled(number)


def _signalled(number: int) -> Verdict:
    known = {item.value for item in signal.Signals}
    name = signal.Signals(number).name if number in known else f"signal {number}"
    return Verdict(RunStatus.KILLED, RunReason.SIGNALLED, f"it was ended by {name}")
