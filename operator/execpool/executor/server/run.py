"""One execution, from its request to its end: reads what its process writes, writes its NDJSON, knows why it was stopped.

    waiting ──begin(pipes)──► running ──ended, or done──────────────────────────────► over
       │                         │                                                     ▲
       └─ stop(why): never ran   └─ stop(why), once ──0.8 s──► answered, still ending ─┘

Output is collected for 6 ms before it becomes an event: a program that prints line by line would otherwise make 26,000
of them from a MiB. What was written before a result is sent before it: on a report, the output pipes are drained first.
The end drains everything, so nothing that was written is lost. A client is never kept waiting for a run that resists its
end (a fork bomb takes seconds): it gets its answer, while the run keeps its slot until the runner says that nothing of it
is left. A runner that does not say so within `_STUCK_SECONDS` is given up as a whole.

The clock here is the only one: the server has no processor limit, so nothing that user code does can hold it up.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Protocol

from execpool.executor import frames
from execpool.executor.server import outcome, output
from execpool.executor.server.pipes import RunPipes
from execpool.protocol import KEEPALIVE_SECONDS, End, EventType, ExecuteRequest, RunReason, RunStatus

COALESCE_SECONDS = 0.006
_ANSWER_SECONDS = 0.8
"""After a stop, how long the client waits: an answer comes within a second of the limit."""
_FORCE_SECONDS = 4.0
"""After a stop, when the supervisor is ended itself: later than it gives up by itself, for nobody else can end a run
that forks faster than one can look. Only where the kernel has no signal domains may a program have stopped it."""
_STUCK_SECONDS = 8.0

_KEEPALIVE = output.line({"type": EventType.KEEPALIVE})


class Keeper(Protocol):
    """Who keeps an execution: what it tells and asks."""

    def stop_run(self, run: "Run") -> None:
        """Have the runner end it."""

    def force_run(self, run: "Run") -> None:
        """Have the runner end it by force: it was told to stop and has not."""

    def run_over(self, run: "Run") -> None:
        """Say that it is over, by its process' word or its supervisor's."""

    def run_stuck(self, why: str) -> None:
        """Say that the runner does not answer."""


class Run:
    """One execution; `lines` is what the client gets."""

    def __init__(self, execution_id: str, request: ExecuteRequest, keeper: Keeper, *, in_context: bool = False) -> None:
        """Prepare; the process of a context goes on after it."""
        self.execution_id = execution_id
        self.request = request
        self.end: End | None = None
        """The answer, once it is given."""
        self.over = False
        """True once it has ended: by the word of its process, or of the supervisor that nothing of it is left."""
        self.wish: RunReason | None = None
        """Why it was stopped, if it was."""
        self.nonce = secrets.token_hex(8)
        """What its process says when it is done."""
        self._in_context = in_context
        self._keeper = keeper
        self._over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._pipes: RunPipes | None = None
        self._pending = bytearray()
        self._news = asyncio.Event()
        self._allowance = output.Allowance(request.output_bytes)
        self._reports = output.Reports(self.nonce)
        self._streams: dict[int, output.TextStream] = {}
        self._timers: list[asyncio.TimerHandle] = []

    @property
    def began(self) -> bool:
        """True once its code may have run."""
        return self._pipes is not None

    def begin(self, pipes: RunPipes, number: int) -> None:
        """Begin to read: the process with these pipes has been given the request."""
        self._began = time.monotonic()
        self._pipes = pipes
        self._streams = {
            pipes.stdout: output.TextStream(EventType.STDOUT, self._allowance),
            pipes.stderr: output.TextStream(EventType.STDERR, self._allowance),
        }
        self._pending += output.line({"type": EventType.NUMBER_OF_EXECUTIONS, "execution_count": number})
        pipes.watch(pipes.report, self._hear_report)
        self._watch_output(pipes)
        self._later(self.request.timeout_seconds, lambda: self.stop(RunReason.TIME_LIMIT))

    def stop(self, wish: RunReason) -> None:
        """End it, for this reason unless it is already ending for another."""
        if self.end is not None or self.wish is not None:
            return
        self.wish = wish
        if not self.began:
            self._finish(None)
            return
        self._keeper.stop_run(self)
        self._later(_ANSWER_SECONDS, lambda: self._answer(None))
        self._later(_FORCE_SECONDS, lambda: self._keeper.force_run(self))
        self._later(_STUCK_SECONDS, lambda: self._keeper.run_stuck("StopNotObeyed"))

    def fail(self, message: str) -> None:
        """End it before it has begun: there is nothing that could run it."""
        self._push(output.line({"type": EventType.ERROR, "name": "ContextError", "value": message, "traceback": ""}))
        self.end = End(RunStatus.KILLED, RunReason.NOT_STARTED, message)
        self._push(output.line({"type": EventType.END_OF_EXECUTION, **asdict(self.end)}))
        self._finish(None)

    async def is_over(self) -> None:
        """Wait until nothing of it is left."""
        await self._over.wait()

    def ended(self, ended: frames.Ended | None) -> None:
        """Take note that its process is over; None when nobody knows."""
        self._finish(ended)

    async def first_news(self, seconds: float) -> None:
        """Wait until there is something to say beside its number, but not for longer than this."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def lines(self) -> AsyncIterator[tuple[bytes, bool]]:
        """Yield NDJSON, and whether it is the last, until the end has been said; a keepalive after every silence."""
        while True:
            if self._pending:
                chunk, self._pending = bytes(self._pending), bytearray()
                yield chunk, self.end is not None
            if self.end is not None and not self._pending:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(KEEPALIVE_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                yield _KEEPALIVE, False

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(seconds, action))

    def _push(self, event: bytes) -> None:
        if event:
            self._pending += event
            self._news.set()

    def _watch_output(self, pipes: RunPipes) -> None:
        for descriptor in self._streams:
            pipes.watch(descriptor, self._hear_output)

    def _hear_output(self) -> None:
        if self._pipes is not None:
            for descriptor in self._streams:
                self._pipes.unwatch(descriptor)
            self._later(COALESCE_SECONDS, self._take_output)

    def _take_output(self) -> None:
        self._timers = [timer for timer in self._timers if timer.when() > self._loop.time()]
        if self.end is None and self._pipes is not None:
            self._watch_output(self._pipes)
            self._drain_output()

    def _drain_output(self) -> None:
        if self._pipes is None:
            return
        for descriptor, stream in self._streams.items():
            data, last = self._pipes.read_available(descriptor)
            self._push(stream.feed(data))
            if last:
                self._pipes.unwatch(descriptor)
        if self._allowance.flooding:
            self.stop(RunReason.OUTPUT_LIMIT)

    def _hear_report(self) -> None:
        if self._pipes is None or self.end is not None:
            return
        data, last = self._pipes.read_available(self._pipes.report)
        if last:
            self._pipes.unwatch(self._pipes.report)
        self._report(data)

    def _report(self, data: bytes) -> None:
        events = self._reports.feed(data)
        if events:
            self._drain_output()
        for event in events:
            self._push(event)
        if self._reports.flooding:
            self.stop(RunReason.OUTPUT_LIMIT)
        if self._reports.done is not None:
            self._done(self._reports.done)

    def _done(self, done: frames.Done) -> None:
        """The process says that this is over."""
        if not self.over:
            stopped = self.wish is not None and not done.well
            cpu, rss = max(done.cpu_seconds, 0.0), max(done.max_rss_bytes, 0)
            self._finish(frames.Ended(0 if done.well else 1, stopped, cpu_seconds=cpu, max_rss_bytes=rss))

    def _finish(self, ended: frames.Ended | None) -> None:
        if self.over:
            return
        self.over = True
        self._answer(ended)
        for timer in self._timers:
            timer.cancel()
        if self._pipes is not None:
            self._pipes.release()
        self._over.set()
        self._keeper.run_over(self)

    def _answer(self, ended: frames.Ended | None) -> None:
        """Send what is left, and the end line; once."""
        if self.end is not None:
            return
        self._drain()
        limit = self.request.timeout_seconds
        if self._in_context and self._reports.done is None:
            verdict = outcome.judge_context(ended, self.wish, limit)
        else:
            verdict = outcome.judge(ended, self.wish, self._reports.error_name, limit)
        if verdict.error is not None:
            name, value = verdict.error
            self._push(output.line({"type": EventType.ERROR, "name": name, "value": value, "traceback": ""}))
        self.end = self._ending(verdict, ended)
        self._push(output.line({"type": EventType.END_OF_EXECUTION, **asdict(self.end)}))
        if self._pipes is not None:
            self._pipes.release()

    def _drain(self) -> None:
        """Take what was written before the end."""
        if self._pipes is not None and self._reports.done is None:
            for event in self._reports.feed(self._pipes.read_available(self._pipes.report)[0]):
                self._drain_output()
                self._push(event)
        self._drain_output()
        for stream in self._streams.values():
            self._push(stream.feed(b"", last=True))

    def _ending(self, verdict: outcome.Verdict, ended: frames.Ended | None) -> End:
        return End(
            status=verdict.status,
            reason=verdict.reason,
            message=verdict.message,
            truncated=self._allowance.exceeded or self._reports.lost,
            wall_seconds=time.monotonic() - self._began,
            cpu_seconds=0.0 if ended is None else ended.cpu_seconds,
            max_rss_bytes=0 if ended is None else ended.max_rss_bytes,
        )
