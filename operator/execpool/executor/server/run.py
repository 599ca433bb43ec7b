"""One run, from the hand-over to its end: reads its pipes, writes its NDJSON, knows why it was to be stopped.

    handed over ──Started──► running ──Ended, or status pipe closed──────────────► over
         │                      │                                                   ▲
         └──Refused──► refused  └─ stop(why), once ──0.8 s──► answered, still ending ─┘

Output is collected for 6 ms before it becomes an event: a program that prints line by line would otherwise make 26,000
of them from a MiB. What was written before a result is sent before it: on a report, the output pipes are drained first.
The end drains everything, so nothing that was written is lost. A client is never kept waiting for a run that resists its
end (a fork bomb takes seconds): it gets its answer, while the run keeps its slot until the runner says that nothing of it
is left. A runner that does not say so within `_STOP_SECONDS` is given up as a whole.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Protocol

from execpool.executor import frames
from execpool.executor.server import errors, outcome, output
from execpool.executor.server.pipes import RunPipes
from execpool.protocol import KEEPALIVE_SECONDS, End, EventType, ExecuteRequest, RunReason

COALESCE_SECONDS = 0.006
_BACKSTOP_SECONDS = 0.15
"""After the limit, how long the supervisor may take to notice by itself."""
_ANSWER_SECONDS = 0.8
"""After a stop, how long the client waits; with the backstop, an answer comes within a second of the limit."""
_STOP_SECONDS = 4.0
_START_SECONDS = 10.0

_KEEPALIVE = output.line({"type": EventType.KEEPALIVE})


class Keeper(Protocol):
    """Who keeps the runs: what a run tells it and asks of it."""

    def run_started(self, run: "Run") -> None:
        """Say that the code of a run exists as a process."""

    def run_over(self, run: "Run") -> None:
        """Say that nothing of a run is left."""

    def stop_run(self, run: "Run") -> None:
        """Have the runner end a run."""

    def run_stuck(self, why: str) -> None:
        """Say that the runner does not answer."""


class Run:
    """One run in progress; `lines` is what the client gets."""

    def __init__(
        self,
        execution_id: str,
        number: int,
        request: ExecuteRequest,
        keeper: "Keeper",
    ) -> None:
        """Make the pipes.

        Raises:
            OSError: when there are no descriptors left; nothing stays open.
        """
        self.execution_id = execution_id
        self.number = number
        self.end: End | None = None
        """The answer, once it is given."""
        self.over = False
        """True once nothing of it is left in the runner."""
        self.pipes = RunPipes(request.code, request.env_vars or {})
        self._limit_seconds = request.timeout_seconds
        self._keeper = keeper
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._settled: asyncio.Future[None] = self._loop.create_future()
        self.refused: frames.Refused | None = None
        """Set when the runner said that it did not start it."""
        self._wish: RunReason | None = None
        self._pending = bytearray()
        self._news = asyncio.Event()
        self._status = bytearray()
        self._allowance = output.Allowance(request.output_bytes)
        self._reports = output.Reports()
        self._streams = {
            self.pipes.stdout: output.TextStream(EventType.STDOUT, self._allowance),
            self.pipes.stderr: output.TextStream(EventType.STDERR, self._allowance),
        }
        self._timers: list[asyncio.TimerHandle] = []
        self._output_timer: asyncio.TimerHandle | None = None

    async def started(self) -> None:
        """Wait until the code runs, or may do so (a lost runner tells nobody).

        Raises:
            NotReady: it did not start, for sure.
        """
        await self._settled
        if self.refused is not None:
            raise errors.NotReady("RunnerNotReady", self.refused.message)

    def handed_over(self) -> None:
        """Begin to read: the runner has its descriptors."""
        self.pipes.close_runner_ends()
        self.pipes.watch(self.pipes.status, self._hear_status)
        self.pipes.watch(self.pipes.report, self._hear_report)
        self._watch_output()
        self._later(self._limit_seconds + _BACKSTOP_SECONDS, lambda: self.stop(RunReason.TIME_LIMIT))
        self._later(_START_SECONDS, self._must_have_started)

    def stop(self, wish: RunReason) -> None:
        """End it, for this reason unless it is already ending for another."""
        if self.end is not None or self._wish is not None:
            return
        self._wish = wish
        self._keeper.stop_run(self)
        self._later(_ANSWER_SECONDS, lambda: self._answer(None))
        self._later(_STOP_SECONDS, lambda: self._keeper.run_stuck("StopNotObeyed"))

    def lost(self) -> None:
        """Take note that the runner is gone and will say nothing more."""
        self._finish(None)

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield NDJSON until the run is over; a keepalive after every silence."""
        while True:
            if self._pending:
                chunk, self._pending = bytes(self._pending), bytearray()
                yield chunk
            elif self.end is not None:
                return
            else:
                self._news.clear()
                try:
                    async with asyncio.timeout(KEEPALIVE_SECONDS):
                        await self._news.wait()
                except TimeoutError:
                    yield _KEEPALIVE

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, action))

    def _must_have_started(self) -> None:
        if not self._settled.done():
            self._keeper.run_stuck("StartNotAnswered")

    def _push(self, event: bytes) -> None:
        if event:
            self._pending += event
            self._news.set()

    def _watch_output(self) -> None:
        for descriptor in self._streams:
            self.pipes.watch(descriptor, self._hear_output)

    def _hear_output(self) -> None:
        for descriptor in self._streams:
            self.pipes.unwatch(descriptor)
        self._output_timer = self._loop.call_later(COALESCE_SECONDS, self._take_output)

    def _take_output(self) -> None:
        if self.end is None:
            self._watch_output()
            self._drain_output()

    def _drain_output(self) -> None:
        for descriptor, stream in self._streams.items():
            data, last = self.pipes.read_available(descriptor)
            self._push(stream.feed(data))
            if last:
                self.pipes.unwatch(descriptor)
        if self._allowance.flooding:
            self.stop(RunReason.OUTPUT_LIMIT)

    def _hear_report(self) -> None:
        data, last = self.pipes.read_available(self.pipes.report)
        if last:
            self.pipes.unwatch(self.pipes.report)
        self._report(data)

    def _report(self, data: bytes) -> None:
        events = self._reports.feed(data)
        if events:
            self._drain_output()
        for event in events:
            self._push(event)
        if self._reports.flooding:
            self.stop(RunReason.OUTPUT_LIMIT)

    def _hear_status(self) -> None:
        data, last = self.pipes.read_available(self.pipes.status)
        self._status += data
        *complete, rest = self._status.split(b"\n")
        self._status = bytearray(rest)
        for line in complete:
            self._learn(line)
        if not self.over and (last or len(rest) > frames.MAX_FRAME_BYTES):
            self._finish(None)

    def _learn(self, line: bytes | bytearray) -> None:
        try:
            frame = frames.decode(bytes(line))
        except frames.FrameError:
            self._finish(None)
            return
        match frame:
            case frames.Started():
                self._settle()
                self._keeper.run_started(self)
            case frames.Refused():
                self.refused = frame
                self._finish(None)
            case frames.Ended():
                self._finish(frame)

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)

    def _finish(self, ended: frames.Ended | None) -> None:
        if self.over:
            return
        self._answer(ended)
        self.over = True
        for timer in filter(None, [*self._timers, self._output_timer]):
            timer.cancel()
        self.pipes.close()
        self._settle()
        self._keeper.run_over(self)

    def _answer(self, ended: frames.Ended | None) -> None:
        """Send what is left, and the end line; once."""
        if self.end is not None:
            return
        self._report(self.pipes.read_available(self.pipes.report)[0])
        self._drain_output()
        for stream in self._streams.values():
            self._push(stream.feed(b"", last=True))
        verdict = outcome.judge(ended, self._wish, self._reports.error_name, self._limit_seconds)
        if verdict.error is not None:
            name, value = verdict.error
            self._push(output.line({"type": EventType.ERROR, "name": name, "value": value, "traceback": ""}))
        self.end = self._ending(verdict, ended)
        self._push(output.line({"type": EventType.END_OF_EXECUTION, **asdict(self.end)}))
        self.pipes.close_program_ends()

    def _ending(self, verdict: outcome.Verdict, ended: frames.Ended | None) -> End:
        return End(
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            truncated=self._allowance.exceeded or self._reports.lost,
            wall_seconds=time.monotonic() - self._began if ended is None else ended.wall_seconds,
            cpu_seconds=0.0 if ended is None else ended.cpu_seconds,
            max_rss_bytes=0 if ended is None else ended.max_rss_bytes,
        )
