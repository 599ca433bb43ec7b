"""`execpool dev`, from its options to its end.

Whatever can be wrong with a file, an address or this machine is said before anything starts. Then the nursery, which takes
longest, imports what executors need while this process imports the rest. Signals end it in order; when it is killed
instead, the kernel ends the nursery and with it everything else, and the next start removes its directories.

    exit status   0 asked to end, or --run ended well; 1 a part of it failed; 2 not started; --run: as of `execpool run`
"""

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from execpool.cli.run import Output, execute
from execpool.dev import fitness
from execpool.dev.declared import DeclarationError, Declared, read
from execpool.dev.saying import Opened, Saying, TierRow, saying
from execpool.executor.runner import landlock
from execpool.providers.nursery_link import NotStartedError
from execpool.providers.processes import Processes

OK, FAILED, NOT_STARTED = 0, 1, 2
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Options:
    """What somebody asked for."""

    file: Path | None
    host: str
    port: int
    program: Path | None
    output: Output
    verbose: bool


class NotStartableError(Exception):
    """It cannot be started so; `sentences` say why, each on its own."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


def run(options: Options) -> int:
    """Serve until told to end; return the exit status."""
    out = sys.stderr if options.program is not None else sys.stdout
    _configure_logs(verbose=options.verbose)
    try:
        declared = check(options)
        return asyncio.run(_Run(options, declared, saying(options.output, out)).to_the_end())
    except (NotStartableError, DeclarationError) as error:
        for sentence in error.sentences:
            print(f"execpool dev: {sentence}", file=sys.stderr)
    except NotStartedError as error:
        print(f"execpool dev: no process can be started: {error}", file=sys.stderr)
    return NOT_STARTED


def check(options: Options) -> Declared:
    """Return what is to be run.

    Raises:
        DeclarationError: the file is wrong.
        NotStartableError: this machine cannot do it, or not so.
    """
    _refuse_other_than_loopback(options.host)
    if sys.platform != "linux" or landlock.abi() == 0:
        raise NotStartableError(
            "this kernel has no Landlock (Linux 5.13, and not switched off), without which programs could read and write all"
            " that you can; use a cluster (`make up`)"
        )
    declared = read(options.file)
    wrong = [f"{declared.source}: {sentence}" for spec in declared.specs for sentence in fitness.misfits(spec)]
    if wrong:
        raise NotStartableError(*wrong)
    if options.program is not None and not os.access(options.program, os.R_OK):
        raise NotStartableError(f"--run {options.program}: there is no such file that can be read")
    _refuse_taken(options.host, options.port)
    return declared


class _Run:
    """One run of the command."""

    def __init__(self, options: Options, declared: Declared, say: Saying) -> None:
        self._options = options
        self._declared = declared
        self._say = say
        self._is_open = False

    async def to_the_end(self) -> int:
        """Serve until a signal, or until the program of --run has ended."""
        told: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()
        for number in _ENDINGS:
            asyncio.get_running_loop().add_signal_handler(number, _tell, told, number)
        serving = asyncio.create_task(self._serve())
        waited: set[asyncio.Future[Any]] = {serving, told}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            return serving.result()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        self._say.ended(told.result().name)
        return OK

    async def _serve(self) -> int:
        async with AsyncExitStack() as stack:
            processes = Processes()
            imports = asyncio.to_thread(_import_the_rest)
            await _both(stack.enter_async_context(processes), imports)
            self._say.step("Python and its libraries are loaded, executors are forked from that", self._seconds())
            from execpool.dev.service import Address, DevService, PartEndedError

            address = Address(self._options.host, self._options.port)
            service = DevService(self._declared, processes, address, self._changed)
            stack.push_async_callback(service.stop)
            try:
                await service.start()
                self._say.step(f"the gateway serves {self._declared.source} at {service.url}", self._seconds())
                if self._options.program is not None:
                    return await execute(service.url, service.key, str(self._options.program))
                await service.until_settled()
                self._open(service.url, service.key, service.tiers(), processes)
                await service.until_a_part_ends()
            except PartEndedError as error:
                self._say.ended(f"the {error} ended by itself: {error.__cause__!r}")
            return FAILED

    def _open(self, url: str, key: str, tiers: tuple[TierRow, ...], processes: Processes) -> None:
        machine = fitness.Machine(os.getuid(), landlock.abi(), processes.private_places)
        unused = tuple(field for spec in self._declared.specs for field in fitness.idle(spec))
        self._is_open = True
        self._say.opened(Opened(url, key, tiers, tuple(fitness.lacks(machine)), unused, self._seconds()))

    def _changed(self, row: TierRow) -> None:
        """Tell of changes after the table, and before it only of trouble."""
        if self._is_open or row.message:
            self._say.changed(row)

    def _seconds(self) -> float:
        """Return how long the command runs: from the start of its process, imports included."""
        started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def _tell(told: "asyncio.Future[signal.Signals]", number: signal.Signals) -> None:
    if not told.done():  # the second one changes nothing: the end is under way
        told.set_result(number)


async def _both(one: Coroutine[Any, Any, Any], other: Coroutine[Any, Any, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for work in (one, other):
            group.create_task(work)


def _import_the_rest() -> None:
    import execpool.dev.service  # noqa: F401 - half a second that the nursery takes too


def _refuse_other_than_loopback(host: str) -> None:
    try:
        is_loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise NotStartableError(
            f"--host is {host!r}: only loopback addresses, such as 127.0.0.1, since whoever reaches the gateway shares this"
            " machine with the programs that it runs; for others, use a cluster"
        )


def _refuse_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotStartableError(
                f"--port is {port}: {host} cannot listen there ({error.strerror}); another number, or 0 for any free one"
            ) from error


def _configure_logs(*, verbose: bool) -> None:
    level = logging.INFO if verbose else logging.ERROR
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("execpool").setLevel(level)
