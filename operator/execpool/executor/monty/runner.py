"""The runner of a Monty pod: speaks the frames of a zygote, and runs code in pooled workers instead of forks.

    write the launcher -> start the pool -> connect to the server -> Hello -> slots until the server says goodbye

Refused here, for they need processes and state: contexts and the agent. Nothing is swept, since nothing is ever
written. The exit status means what a zygote's does: 0, this executor has ended for good.
"""

import asyncio
import json
import logging
import os
import socket
from contextlib import suppress
from typing import NoReturn

from execpool.executor import frames, settings
from execpool.executor.monty import slot, worker
from execpool.executor.monty.engine import Engine
from execpool.executor.monty.rules import MODULES
from execpool.executor.runner import landlock, sandbox

log = logging.getLogger("execpool.executor")

GONE, LOST = 0, 1
_POLL_SECONDS = 0.02


def run(options: settings.RunnerSettings) -> NoReturn:
    """Serve one server until it says goodbye, or is lost, and exit.

    Without the interpreter's own end: threads of the pool outlive it by seconds, and one that returns to Python meanwhile
    aborts the process (6 of 988 ends on a busy machine; none of 1108 like this), which would be started again for nothing.
    """
    why, status = asyncio.run(_serve(options))
    log.info("exiting", extra={"why": why})
    logging.shutdown()
    os._exit(status)


async def _serve(options: settings.RunnerSettings) -> tuple[str, int]:
    sandbox.set_dumpable(False)
    settings.replace_environment({})
    launcher = worker.write_launcher(options.work_dir)
    async with Engine(options.slots, launcher) as engine:
        log.info("imports done", extra={"imports": ["pydantic_monty"], "landlock": landlock.abi()})
        link = await _connect(options)
        return ("Gone", GONE) if link is None else await Runner(options, link, engine).serve()


class Runner:
    """The link to the server, and a task for each slot."""

    def __init__(self, options: settings.RunnerSettings, link: socket.socket, engine: Engine) -> None:
        self._options = options
        self._link = link
        self._engine = engine
        self._slots: dict[str, asyncio.Task[None]] = {}
        self._exit: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()

    async def serve(self) -> tuple[str, int]:
        """Serve until something ends it; return why and the exit status."""
        self._link.setblocking(False)
        self._greet()
        asyncio.get_running_loop().add_reader(self._link.fileno(), self._hear)
        try:
            return await self._exit
        finally:
            asyncio.get_running_loop().remove_reader(self._link.fileno())
            for task in self._slots.values():
                task.cancel()
            await asyncio.gather(*self._slots.values(), return_exceptions=True)

    def _greet(self) -> None:
        inventory = os.memfd_create("inventory")
        os.write(inventory, json.dumps(dict.fromkeys(sorted(MODULES), "")).encode())
        hello = frames.Hello(os.getpid(), 0, worker.DATA_BYTES)
        socket.send_fds(self._link, [frames.encode(hello)], [inventory])
        os.close(inventory)

    def _hear(self) -> None:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._link, frames.MAX_FRAME_BYTES + 1, 4)
            frame = frames.decode(packet) if packet else None
        except BlockingIOError:
            return
        except (OSError, frames.FrameError):
            frame, descriptors = None, []
        if frame is None:
            self._leave(*(("Gone", GONE) if _gone(self._options) else ("ServerLost", LOST)))
        else:
            self._obey(frame, descriptors)

    def _obey(self, frame: frames.Frame, descriptors: list[int]) -> None:
        match frame:
            case frames.Fork() if len(descriptors) == 1:
                self._fork(frame, socket.socket(fileno=descriptors[0]))
            case frames.End(slot=name):
                task = self._slots.get(name)
                if task is not None:
                    task.cancel()
            case frames.Sweep():
                self._link.send(frames.encode(frames.Swept()))
            case frames.Shutdown():
                self._leave("Shutdown", GONE)
            case _:
                self._leave("BadFrame", LOST)

    def _fork(self, fork: frames.Fork, link: socket.socket) -> None:
        if fork.kind != frames.Kind.RUN:
            with link, suppress(OSError):
                if fork.kind == frames.Kind.CONTEXT:
                    link.send(frames.encode(frames.Refused("this runtime keeps no contexts")))
            return
        task = asyncio.create_task(slot.Slot(link, self._engine).serve())
        self._slots[fork.slot] = task
        task.add_done_callback(lambda _: self._slots.pop(fork.slot, None))

    def _leave(self, why: str, status: int) -> None:
        if not self._exit.done():
            self._exit.set_result((why, status))


async def _connect(options: settings.RunnerSettings) -> socket.socket | None:
    """Wait for the server's socket and connect; None when the executor ended in the meantime."""
    while not _gone(options):
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            link.connect(frames.socket_in(options.socket_dir))
        except OSError:
            link.close()
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return link
    return None


def _gone(options: settings.RunnerSettings) -> bool:
    return (options.socket_dir / frames.GONE_NAME).exists()
