"""One slot of a Monty runner: parks, takes a request, runs it, says how it ended, parks again (`frames` has the words).

    Parked + descriptors -> Request -> engine -> output, report -> Ended -> Parked + other descriptors -> ...

Where the slot of a Python runner is a process, this is a task: the code runs in a worker of the pool, and output is
written only when the run is known to be CPython's answer. A slot ends with its socket.
"""

import asyncio
import json
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass

from execpool.executor import frames
from execpool.executor.monty.engine import Answer, Engine, Job
from execpool.executor.monty.tree import NotSupported

_WELL = 0
_MOST_REASON = 300
"""Characters; each may take six bytes of a frame, which is bounded."""


@dataclass(frozen=True)
class _Pipes:
    """What a parked run holds: its end of the request socket and three write ends."""

    request: socket.socket
    stdout: int
    report: int
    others: tuple[int, ...]

    def close(self) -> None:
        self.request.close()
        for descriptor in (self.stdout, self.report, *self.others):
            os.close(descriptor)


class Slot:
    """Serves one slot's socket until it ends."""

    def __init__(self, link: socket.socket, engine: Engine) -> None:
        self._link = link
        self._engine = engine
        self._job: Job | None = None
        self._stopped = asyncio.Event()

    async def serve(self) -> None:
        """Take one request after the other; returns when the server closes the socket."""
        self._link.setblocking(False)
        hearing = asyncio.create_task(self._hear())
        serving = asyncio.create_task(self._serve())
        try:
            await asyncio.wait([hearing, serving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            hearing.cancel()
            serving.cancel()
            self._stop()
            await asyncio.gather(hearing, serving, return_exceptions=True)
            self._link.close()

    async def _serve(self) -> None:
        while True:
            pipes = self._park()
            try:
                ended = await self._one(pipes)
            finally:
                pipes.close()
            self._stopped.clear()
            self._link.send(frames.encode(ended))

    def _park(self) -> _Pipes:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        pairs = [os.pipe() for _ in range(3)]
        read_ends = [read_end for read_end, _ in pairs]
        with theirs:
            # In the order of frames.PARKED.
            socket.send_fds(self._link, [frames.encode(frames.Parked())], [theirs.fileno(), *read_ends])
        for read_end in read_ends:
            os.close(read_end)
        stdout, stderr, report = (write_end for _, write_end in pairs)
        return _Pipes(ours, stdout, report, (stderr,))

    async def _one(self, pipes: _Pipes) -> frames.Ended:
        """Run what comes, or nothing when told to stop before."""
        asking = asyncio.create_task(self._request(pipes.request))
        stopping = asyncio.create_task(self._stopped.wait())
        await asyncio.wait([asking, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not asking.done():
            asking.cancel()
            return frames.Ended(exit_code=-signal.SIGKILL, stopped=True)
        job = self._job = Job(asking.result().code)
        if self._stopped.is_set():
            job.stop()
        try:
            answer = await self._engine.run(job)
        except NotSupported as why:
            return _without_answer(job, str(why))
        finally:
            self._job = None
        await _deliver(answer, pipes)
        return frames.Ended(_WELL, cpu_seconds=job.cpu_seconds, max_rss_bytes=job.max_rss_bytes)

    async def _request(self, link: socket.socket) -> frames.Request:
        """Wait for the request: a packet, or an empty one with a memory file."""
        packet, descriptors = await _receive(link, frames.MAX_INLINE_BYTES + 1)
        if descriptors:
            with open(descriptors[0], "rb") as file:  # noqa: ASYNC230, PTH123 - memory, by descriptor
                packet = os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)
        return frames.decode_request(packet)

    async def _hear(self) -> None:
        while True:
            packet, _ = await _receive(self._link, frames.MAX_FRAME_BYTES + 1)
            if not packet:
                return
            if isinstance(frames.decode(packet), frames.Stop | frames.Interrupt):
                self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        if self._job is not None:
            self._job.stop()


def _without_answer(job: Job, why: str) -> frames.Ended:
    exit_code = -signal.SIGKILL if job.crashed is None else -job.crashed
    return frames.Ended(
        exit_code,
        stopped=job.stopped,
        unsupported="" if job.stopped or job.crashed is not None else why[:_MOST_REASON],
        cpu_seconds=job.cpu_seconds,
        max_rss_bytes=job.max_rss_bytes,
    )


async def _deliver(answer: Answer, pipes: _Pipes) -> None:
    with suppress(OSError):  # the server has closed its end: nobody listens any more
        await _write(pipes.stdout, answer.printed.encode("utf-8", "backslashreplace"))
        if answer.text is not None:
            event = {"type": "result", "text": answer.text, "is_main_result": True}
            await _write(pipes.report, json.dumps(event, ensure_ascii=False).encode("utf-8", "replace") + b"\n")


async def _write(descriptor: int, data: bytes) -> None:
    os.set_blocking(descriptor, False)
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await _ready(descriptor, writing=True)


async def _receive(link: socket.socket, most: int) -> tuple[bytes, list[int]]:
    while True:
        try:
            packet, descriptors, _, _ = socket.recv_fds(link, most, 1)
        except BlockingIOError:
            await _ready(link.fileno())
        else:
            return packet, descriptors


async def _ready(descriptor: int, *, writing: bool = False) -> None:
    loop = asyncio.get_running_loop()
    add, remove = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    wake = asyncio.Event()
    add(descriptor, wake.set)
    try:
        await wake.wait()
    finally:
        remove(descriptor)
