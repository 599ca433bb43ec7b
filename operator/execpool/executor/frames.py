"""What server and runner say to each other: small JSON objects, length-limited, nothing unpickled.

Three kinds of unix sockets (SEQPACKET: one packet is one frame) and three pipes:

    the link: one per runner, made by the runner connecting to the server's socket
        server -> runner   Fork{slot, kind, imports} + the slot's socket     have a slot made
                           End{slot}                                         end a slot that does not obey
                           Sweep{}                                           nobody runs: empty /tmp and /dev/shm
                           Shutdown{}                                        end all, exit 0
        runner -> server   Hello{...} + a memory file                        forks are taken; the file: {module: version}
                           Ready{imports}, Away{imports}                     forks with these imports are taken too, or not now
                           Swept{}

    a slot's socket: one per slot, its other end held by the slot's supervisor alone; its end ends the slot
        supervisor -> server   Parked{n} + PARKED descriptors                 a clean process waits for code
                               Refused{message}                              it cannot be made; the slot is given up
                               Ended{...}                                    no process of the run is left
        server -> supervisor   Interrupt{n}                                  SIGINT to the program
                               Stop{n}                                       end every process of it now

    a request socket: one per parked process, its other end held by that process
        server -> process      a Request as JSON, or an empty packet + a memory file that holds it

    pipes stdout, stderr: bytes. report: one JSON object per line, each an event of the wire, or Done{...}

Life of a slot. Kind `Run`: Parked, one Request, Ended, and again; every time another process with other descriptors.
Kind `Context`: Parked once, then any number of Requests, one after the other; Ended when the process ends. A request is over
with a line `{"type": "done", "nonce": ..., ...}` on the report pipe that repeats its nonce, or with Ended. (In a Run, Done
may be left out: it only spares the client the time in which the kernel takes the process apart.)
Kind `Agent`: the socket is handed to `runner.agent.serve`, and none of these frames are spoken on it.

Trust. Supervisors and the runner hold no code and no output, so their frames are true as long as they live. What comes
from the program (pipes, Done) is hostile: it can forge its own result, but not how its process ended. A Request that was
sent may have been run; one that could not be sent was not. Either side takes the end of a socket as the end of the other.
"""

import json
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import get_args

MAX_FRAME_BYTES = 4096
MAX_INLINE_BYTES = 32 * 1024
"""Longest Request that travels as a packet of its own; longer ones go in a memory file."""
MAX_INVENTORY_BYTES = 256 * 1024
SOCKET_SUFFIX = ".sock"
"""The rest of the socket's name is drawn: code that knows where it is cannot list it, and so cannot find it."""
GONE_NAME = "gone"
"""In the socket directory: this executor has ended for good, and a runner that (re)starts now exits 0 too."""

PARKED = ("request", "stdout", "stderr", "report")
"""Order of the descriptors that travel with Parked: a socket, then three read ends."""


class FrameError(ValueError):
    """What arrived is not a frame."""


class Kind(StrEnum):
    """What a slot is for."""

    RUN = "Run"
    CONTEXT = "Context"
    AGENT = "Agent"


class Imports(StrEnum):
    """What a forked process finds imported."""

    BASE = "Base"
    """numpy, pandas and the notebook."""
    SCIENCE = "Science"
    """scipy, scikit-learn and matplotlib on top."""


@dataclass(frozen=True)
class Fork:
    """Make a slot, whose socket comes along."""

    slot: str
    kind: str
    imports: str


@dataclass(frozen=True)
class End:
    """End a slot and all below it by force; unknown ones are ignored, for it may have ended in the meantime."""

    slot: str


@dataclass(frozen=True)
class Sweep:
    """Empty the directories that runs share."""


@dataclass(frozen=True)
class Swept:
    """They are empty, as far as they can be."""


@dataclass(frozen=True)
class Shutdown:
    """End every run and exit 0: the executor has ended for good."""


@dataclass(frozen=True)
class Hello:
    """The runner takes forks."""

    pid: int
    base_bytes: int
    """Data memory that every run starts with, as the kernel counts it for RLIMIT_DATA."""
    data_limit_bytes: int
    """RLIMIT_DATA of every process of a run; 0 when unlimited."""


@dataclass(frozen=True)
class Ready:
    """Forks with these imports are taken from now on."""

    imports: str


@dataclass(frozen=True)
class Away:
    """Forks with these imports are not to be had for now, and those that there were have ended."""

    imports: str


@dataclass(frozen=True)
class Parked:
    """A clean process waits for its request."""

    number: int = 0
    """Counted by the supervisor: which of its processes this is."""


@dataclass(frozen=True)
class Refused:
    """No process could be parked."""

    message: str


@dataclass(frozen=True)
class Interrupt:
    """Interrupt what a process runs, as Ctrl-C does."""

    number: int = 0
    """As in Parked: one that is over already is left alone."""


@dataclass(frozen=True)
class Interrupted:
    """It has been done, or was not necessary; nothing of it is under way any more."""


@dataclass(frozen=True)
class Stop:
    """End a process and all that it has started."""

    number: int = 0
    """As in Parked: one that is over already is left alone."""


@dataclass(frozen=True)
class Ended:
    """The process that took the request is over, and so is every other one of it."""

    exit_code: int
    """Of the process that ran the code; minus the signal that ended it."""
    stopped: bool = False
    """The supervisor ended it because it was told to."""
    out_of_memory: bool = False
    """The kernel's count of out-of-memory kills in this container rose while it ran."""
    left_files: bool = False
    """There are files in the directories that runs share."""
    unsupported: str = ""
    """Why the interpreter of this runner (Monty) did not run it: nothing happened. Empty when it did."""
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    number: int = 0
    """As in Parked."""


Frame = (
    Fork
    | End
    | Sweep
    | Swept
    | Shutdown
    | Hello
    | Ready
    | Away
    | Parked
    | Refused
    | Interrupt
    | Interrupted
    | Stop
    | Ended
)
_KINDS = {kind.__name__: kind for kind in get_args(Frame)}


@dataclass(frozen=True)
class Request:
    """What a parked process is to do. The server made it and checked every field; it is read as it is."""

    code: str
    language: str = "python"
    env: dict[str, str] = field(default_factory=dict)
    """Variables of this request alone, or of all that follow with `setup`."""
    timeout_seconds: float = 60.0
    """For the limit on processor time; the wall clock is the server's."""
    nonce: str = ""
    """Repeated in Done."""
    setup: bool = False
    """A context is made ready: run no code, keep `env` for good, change to `cwd`."""
    cwd: str = ""


@dataclass(frozen=True)
class Done:
    """A line on the report pipe: a request is over. Hostile like all that a program says."""

    nonce: str
    well: bool
    cpu_seconds: float
    max_rss_bytes: int
    type: str = "done"


def socket_in(directory: Path) -> str:
    """Return the path of the server's socket. Raises FileNotFoundError while there is none."""
    found = next(directory.glob(f"*{SOCKET_SUFFIX}"), None)
    if found is None:
        raise FileNotFoundError(directory)
    return str(found)


def encode(frame: Frame) -> bytes:
    """Return a frame as one packet."""
    return json.dumps({"frame": type(frame).__name__, **vars(frame)}, separators=(",", ":")).encode()


def decode(data: bytes) -> Frame:
    """Read a frame, with every field of the declared type.

    Raises:
        FrameError: when it is too long, not JSON, of an unknown kind, or has a field too few or of another type.
    """
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError("longer than a frame may be")
    wire = _json(data)
    kind = _KINDS.get(str(wire.get("frame"))) if isinstance(wire, dict) else None
    if kind is None or not isinstance(wire, dict):
        raise FrameError("not a frame of a known kind")
    frame: Frame = kind(**_typed(kind, wire))
    return frame


def done(wire: dict[str, object]) -> Done | None:
    """Read what a context reports; None when it is not as it should be."""
    try:
        return Done(**_typed(Done, wire))  # type: ignore[arg-type]
    except FrameError:
        return None


def encode_request(request: Request) -> bytes:
    """Return a request as JSON."""
    return json.dumps(vars(request), separators=(",", ":")).encode()


def decode_request(data: bytes) -> Request:
    """Read what `encode_request` made."""
    return Request(**json.loads(data))


def _json(data: bytes) -> object:
    try:
        wire: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FrameError("not JSON") from error
    return wire


def _typed(kind: type, wire: dict[str, object]) -> dict[str, object]:
    values = {}
    for item in fields(kind):
        value = wire.get(item.name)
        if item.type is float and type(value) is int:
            value = float(value)
        if type(value) is not item.type:
            raise FrameError(f"{kind.__name__}.{item.name} is missing or of another type")
        values[item.name] = value
    return values
