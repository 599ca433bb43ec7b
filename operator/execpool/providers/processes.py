"""Executors as processes of this machine, without Kubernetes and without root: for `execpool dev` and the emulator.

    async with Processes() as processes:
        executor = await processes.start(Identity.drawn(), slots=1)
        ...                         # at executor.address, on the protocol's ports
        await executor.end()

Each has a loopback address of its own (127.0.0.0/8, so Linux only) and a directory of its own, which goes with it. The
limits of a run are those of a pod; what a pod adds is not there: no container around the runner, no memory limit of all
that it starts together, no NetworkPolicy. Two processes as in a pod, a server and a runner (which is started again when it
ends, as the kubelet does), both forked from a nursery (`nursery.py`). Nothing outlives this process: the nursery ends
with it and they end with the nursery; directories that were left behind are removed by the next `Processes`.
"""

import asyncio
import fcntl
import os
import random
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

from execpool import protocol
from execpool.providers.local_executor import Identity, LocalExecutor, Places
from execpool.providers.nursery_link import NotStartedError, NurseryLink, Program

PREFIX = "execpool-"
READY_SECONDS = 30.0
_VAR_TMP = Path("/var/tmp")  # noqa: S108 - only the parent of directories with names that nobody can guess
_LONGEST_PARENT = 36
"""A socket's path has at most 107 bytes (unix(7)), and what comes below takes 70."""
_ADDRESS_TRIES = 100
_START_TRIES = 3
_NEVER_SECONDS = 10.0 * 365 * 86_400
_EXECUTOR = "execpool.executor.main"
_IN_ADVANCE = (
    "execpool.executor.server.serve", "execpool.executor.runner.zygote", "numpy", "pandas",
    "execpool.executor.runner.advance:warm_up",
)  # fmt: skip
"""What every executor imports and calls; a module that is not installed is skipped."""
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Limits:
    """What holds an executor, as a pod's template would say it.

    Attributes:
        memory_bytes: what a run's data may take follows from it; 0 for no limit. Nothing limits all runs together.
        egress: whether programs reach the network of this machine, loopback included.
        idle_seconds: a claimed executor without a run ends after this long.
        max_age_seconds: one that nobody has claimed does.
        science: whether scipy, scikit-learn and matplotlib are imported in advance; 90 MiB more and some seconds each.
    """

    memory_bytes: int = 0
    egress: bool = False
    idle_seconds: float = _NEVER_SECONDS
    max_age_seconds: float = _NEVER_SECONDS
    science: bool = False


class Processes:
    """Starts executors; all of them end with it.

    Args:
        parent: the directory for their directories, whose path must be short; None for /var/tmp.

    Attributes:
        private_places: whether each has a /home/user, a /tmp and a /dev/shm of its own, as in a pod. Needs a kernel that
            allows it, and neither Python nor `parent` below one of them. Without it programs have directories that are
            called otherwise, and no /tmp.
    """

    def __init__(self, parent: Path | None = None) -> None:
        self._parent = _default_parent() if parent is None else parent
        self.private_places = False
        self._root = Path()
        self._lock: IO[str] | None = None
        self._nursery: NurseryLink | None = None
        self._executors: dict[str, LocalExecutor] = {}
        self._made = 0

    async def __aenter__(self) -> Self:
        """Start the nursery, which takes about a second.

        Raises:
            NotStartedError: it did not come up.
        """
        if len(str(self._parent)) > _LONGEST_PARENT:
            raise NotStartedError(f"the path {self._parent} has more than {_LONGEST_PARENT} characters")
        await asyncio.to_thread(_remove_left_behind, self._parent)
        self._root, self._lock = _locked_directory(self._parent)
        places = self._places()
        mounts = {} if _covers_what_is_needed(places) else places.mounts()
        log = self._root / "nursery.log"
        self._nursery = await NurseryLink.start(_IN_ADVANCE, _environment(_ONE_THREAD), log, mounts)
        self.private_places = self._nursery.mounts
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(executor.end() for executor in list(self._executors.values())))
        if self._nursery is not None:
            await self._nursery.close()
        await asyncio.to_thread(shutil.rmtree, self._root, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def running(self) -> list[LocalExecutor]:
        """Return those that have not ended."""
        return list(self._executors.values())

    async def start(
        self,
        identity: Identity,
        *,
        slots: int = 1,
        limits: Limits | None = None,
        env: Mapping[str, str] | None = None,
    ) -> LocalExecutor:
        """Start an executor and wait until it can be claimed.

        Args:
            identity: who it is.
            slots: runs of its principal at the same time.
            limits: what holds it.
            env: further variables of its two processes (`protocol`), the runtime for example.

        Raises:
            NotStartedError: it did not come up.
        """
        for attempt in range(_START_TRIES):
            executor = self._executor(identity, slots, limits or Limits(), env or {})
            try:
                await executor.start(READY_SECONDS)
            except NotStartedError:
                await executor.end()
                if attempt == _START_TRIES - 1:
                    raise
            else:
                return executor
        raise AssertionError("unreachable")

    def _places(self) -> Places:
        self._made += 1
        root = self._root / f"e{self._made}"
        root.mkdir(mode=0o700)
        return Places.make(root)

    def _executor(self, identity: Identity, slots: int, limits: Limits, env: Mapping[str, str]) -> LocalExecutor:
        if self._nursery is None:
            raise NotStartedError("the nursery has not been started")
        address = free_address()
        places = self._places()
        mounts = places.mounts() if self.private_places else {}
        shared = {protocol.ENV_SLOTS: str(slots), protocol.ENV_SOCKET_DIR: str(places.socket), **env}
        executor = LocalExecutor(
            self._nursery,
            identity,
            address,
            places,
            server=_program("server", places, {}, {**_server(identity, limits, address, places), **shared}),
            runner=_program("runner", places, mounts, {**_runner(limits, places, mounts), **shared}),
        )
        self._executors[address] = executor
        executor.died.add_done_callback(lambda _: self._executors.pop(address, None))
        return executor


def free_address() -> str:
    """Return a loopback address on whose protocol ports nobody listens.

    Raises:
        NotStartedError: none was found.
    """
    for _ in range(_ADDRESS_TRIES):
        address = ".".join(["127", *(str(random.randint(1, 250)) for _ in range(3))])  # noqa: S311 - no secret
        if all(_is_free(address, port) for port in (protocol.DATA_PORT, protocol.ENVD_PORT, protocol.CONTROL_PORT)):
            return address
    raise NotStartedError("no free loopback address was found")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind((address, port))
            return True
    return False


def _program(which: str, places: Places, mounts: dict[str, str], variables: Mapping[str, str]) -> Program:
    return Program(_EXECUTOR, [which], _environment(variables), str(places.root), str(places.log), mounts)


def _server(identity: Identity, limits: Limits, address: str, places: Places) -> dict[str, str]:
    return {
        "EXECPOOL_HOST": address,
        protocol.ENV_EXECUTOR_ID: identity.executor_id,
        protocol.ENV_POD_UID: identity.uid,
        protocol.ENV_SECRET_HASH: identity.secret_hash,
        protocol.ENV_IDLE_SECONDS: str(limits.idle_seconds),
        protocol.ENV_MAX_AGE_SECONDS: str(limits.max_age_seconds),
        protocol.ENV_STATE_DIR: str(places.state),
    }


def _runner(limits: Limits, places: Places, mounts: Mapping[str, str]) -> dict[str, str]:
    seen = {directory: place for place, directory in mounts.items()}
    tmp, shm, home = (seen.get(directory, directory) for directory in map(str, (places.tmp, places.shm, places.home)))
    return {
        "EXECPOOL_WORK_DIR": str(places.work),
        "EXECPOOL_SWEEP_DIRS": f"{tmp}:{shm}",
        "EXECPOOL_HOME_DIR": home,
        "EXECPOOL_SCIENCE": str(int(limits.science)),
        protocol.ENV_NETWORK: "Egress" if limits.egress else "None",
        protocol.ENV_MEMORY_BYTES: str(limits.memory_bytes),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", ""),  # an image's list of fonts: a second less for each run
    }


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return a whole environment: nothing of this process is handed on."""
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONSAFEPATH": "1",
        **variables,
    }


def _default_parent() -> Path:
    """Return a directory that /tmp does not cover, if there is one."""
    return _VAR_TMP if os.access(_VAR_TMP, os.W_OK) else Path(tempfile.gettempdir())


def _covers_what_is_needed(places: Places) -> bool:
    """True when an executor with these mounts would not find its own files any more."""
    needed = [Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *sys.path) if path]
    needed.append(places.root)
    return any(path.is_relative_to(place) for path in needed for place in places.mounts())


def _locked_directory(parent: Path) -> tuple[Path, IO[str]]:
    root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    lock = (root / "lock").open("w", encoding="ascii")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return root, lock


def _remove_left_behind(parent: Path) -> None:
    """Remove directories of owners that ended by force: nobody holds their lock any more."""
    for path in parent.glob(f"{PREFIX}*/lock"):
        with suppress(OSError), path.open(encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path.parent, ignore_errors=True)
