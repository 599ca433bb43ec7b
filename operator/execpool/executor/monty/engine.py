"""Runs one program in a fresh Monty session of a pooled worker, and says what came of it: an Answer or Unsupported.

Invariant: an Answer is CPython's. So whatever raises is Unsupported, whether Monty lacks something or the program is
wrong, and so is what meets one of Monty's own limits, for CPython would have gone on; nothing has happened either way,
since output is held back until the end. What is refused before the run is `program`'s; what is noticed after it, here:
a number whose digits Monty chooses otherwise (Monty 1.4 rounds a tie in the last digit up, CPython to even), and a value
that lost its type on the way.

The worker is not trusted: it is fenced in (`worker`), its messages are parsed by the pool's own code, values are taken
only when of a plain type.
"""

import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from execpool.executor.monty import worker
from execpool.executor.monty.program import Program, prepare
from execpool.executor.monty.tree import NotSupported

RUN_SECONDS = 0.25
_GRACE_SECONDS = 0.25
"""A worker that does not notice its limit is ended after this long."""
MAX_PRINT_BYTES = 64 * 1024
_RUNS_PER_WORKER = 1000
_MAX_DEPTH = 200

_LIMITS: Any = {
    "max_feed_duration_secs": RUN_SECONDS,
    "max_turn_duration_secs": RUN_SECONDS,
    "max_memory": worker.MEMORY_BYTES,
    "max_recursion_depth": _MAX_DEPTH,
    "max_suspensions": 10,
    "max_total_sleep_secs": 0,
}
_PLAIN = (int, float, complex, str, bool, type(None))
_LONG_NUMBER = re.compile(r"(?<![\w.])\d+\.?\d*(?:e[+-]?\d+)?")
_TELLING_DIGITS = 16
"""Floats with fewer significant digits have one shortest form."""


@dataclass(frozen=True)
class Answer:
    """What CPython would have said."""

    printed: str
    text: str | None
    """Of the last expression; None when there is nothing to show."""


@dataclass
class Job:
    """One run, which may be stopped from outside."""

    code: str
    stopped: bool = False
    crashed: int | None = None
    """The signal that ended its worker, unless that was us."""
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    _pid: int | None = None

    def stop(self) -> None:
        """End the worker that runs it; the pool starts another."""
        self.stopped = True
        if self._pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, signal.SIGKILL)

    def begins_in(self, pid: int | None) -> None:
        """Take note of its worker; ends it if the job was stopped before."""
        self._pid = pid
        if self.stopped:
            self.stop()

    def ended(self) -> None:
        """Forget the worker, which serves others from now on."""
        self._pid = None


@dataclass
class _Printed:
    """Collects output up to its cap."""

    parts: list[str] = field(default_factory=list)
    size: int = 0

    def take(self, _stream: str, text: str) -> None:
        self.size += len(text)
        if self.size <= MAX_PRINT_BYTES:
            self.parts.append(text)


class Engine:
    """A pool of workers, all of one principal."""

    def __init__(self, slots: int, launcher: Path) -> None:
        import pydantic_monty

        self._monty = pydantic_monty
        self._pool = pydantic_monty.AsyncMonty(
            binary_path=launcher,
            min_processes=slots,
            max_processes=slots,
            request_timeout=1.0,
            max_checkouts_per_worker=_RUNS_PER_WORKER,
            feed_duration_limit_grace=_GRACE_SECONDS,
            turn_duration_limit_grace=_GRACE_SECONDS,
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._pool.__aexit__(*error)

    async def run(self, job: Job) -> Answer:
        """Run a program.

        Raises:
            NotSupported: nothing happened; CPython must run it. Also when it was stopped or its worker crashed: the
                job then says so.
        """
        program = prepare(job.code)
        printed = _Printed()
        value = await self.feed(job, program, printed.take)
        if printed.size > MAX_PRINT_BYTES:
            raise NotSupported(f"it prints more than {MAX_PRINT_BYTES} bytes")
        answer = Answer("".join(printed.parts), _shown(value) if program.has_result else None)
        _check_numbers(answer.printed)
        _check_numbers(answer.text or "")
        return answer

    async def feed(self, job: Job, program: Program, take: Callable[[str, str], None]) -> Any:
        """Have a worker run a source; `take` gets (stream, text) as it prints. Returns the last expression's value.

        Raises:
            NotSupported: it raised, met a limit, or took its worker along.
        """
        return await self._guarded(job, lambda: self._feed(job, program, take))

    async def _feed(self, job: Job, program: Program, take: Callable[[str, str], None]) -> Any:
        session = self._pool.checkout(limits=_LIMITS, script_name="<cell>", assert_message_annotations=False)
        async with session:
            job.begins_in(session.worker_pid)
            before = _cpu_seconds(session.worker_pid)
            try:
                return await session.feed_run(program.source, print_callback=take)
            finally:
                job.cpu_seconds = max(_cpu_seconds(session.worker_pid) - before, 0.0)
                job.max_rss_bytes = _peak(session.worker_pid)
                job.ended()

    async def _guarded(self, job: Job, run: Callable[[], Awaitable[Any]]) -> Any:
        """Turn everything that Monty raises into NotSupported."""
        try:
            return await run()
        except self._monty.MontyCrashedError as error:
            if not job.stopped and not error.timed_out:
                job.crashed = _signal(error.exit_status)
            raise NotSupported("it needs more than this interpreter gives") from error
        except self._monty.MontyError as error:
            raise NotSupported(f"it ends with {_kind(error)} here, which only CPython can confirm") from error


def _kind(error: Any) -> str:
    with suppress(Exception):
        return type(error.exception()).__name__
    return type(error).__name__


def _signal(status: int | None) -> int:
    return -status if status is not None and status < 0 else signal.SIGKILL


def _check_numbers(text: str) -> None:
    for match in _LONG_NUMBER.finditer(text):
        number = match[0]
        if len(number) > _TELLING_DIGITS and ("." in number or "e" in number):
            mantissa = number.partition("e")[0].replace(".", "").lstrip("0")
            if len(mantissa) >= _TELLING_DIGITS and repr(float(number)) != number:
                raise NotSupported("a number is written in a way that depends on the interpreter")


def _shown(value: Any) -> str | None:
    """Return the text of the last expression; the program made a pair of it and its repr."""
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], str)):
        raise NotSupported("its result is not of a plain type")
    result, text = value
    if result is None:
        return None
    if not _is_plain(result) or repr(result) != text:
        raise NotSupported("its result is not of a plain type")
    # One pair of quotes less, as E2B shows a text.
    return str(text[1:-1] if isinstance(result, str) else text)


def _is_plain(value: Any) -> bool:
    pending = [value]
    while pending:
        current = pending.pop()
        if type(current) in (list, tuple):
            pending += current
        elif type(current) is dict:
            pending += [*current.keys(), *current.values()]
        elif type(current) not in _PLAIN:
            return type(current).__module__ == "datetime"
    return True


def _cpu_seconds(pid: int | None) -> float:
    """Return the processor time of a worker so far, of all its threads."""
    total = 0
    with suppress(OSError, ValueError, IndexError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += int((thread / "schedstat").read_text(encoding="ascii").split()[0])
    return total / 1e9


def _peak(pid: int | None) -> int:
    """Return the peak of a worker's memory, over its life."""
    with suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return 0
