"""What server and runner say to each other: small JSON objects, length-limited, nothing unpickled.

    server                                      runner (zygote)              one supervisor per run
    unix socket, SEQPACKET: a packet is a frame
      Start{run, limits} + 5 descriptors  ->    forks a supervisor     ->    forks the child that runs the code
      Stop{run}                           ->    SIGTERM to it          ->    ends every process of the run
      Shutdown{}                          ->    ends all, exits 0
                                          <-    Hello{...}
    status pipe (write end: supervisor alone), JSON lines
                                          <-                                 Started{} or Refused{message}
                                          <-                                 Ended{...}; end of file without it: lost
    stdout, stderr, report pipes (write ends: the child and its own children)
                                          <-                                 output; report: JSON lines of events
    request: a memory file with the code and environment, read by the child

The zygote never sees code or output: it passes descriptors on. The server holds every read end, so a run cannot make
the runner buffer anything, and the status pipe is out of the reach of user code, which could forge its own events but
not how its process ended.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import get_args

MAX_FRAME_BYTES = 4096
SOCKET_NAME = "runner.sock"
GONE_NAME = "gone"
"""In the socket directory: this executor has ended for good, and a runner that (re)starts now exits 0 too."""

DESCRIPTORS = ("request", "stdout", "stderr", "report", "status")
"""Order of the descriptors that travel with Start."""


class FrameError(ValueError):
    """What arrived is not a frame."""


@dataclass(frozen=True)
class Start:
    """Begin a run with the descriptors that come along."""

    run: str
    timeout_seconds: float


@dataclass(frozen=True)
class Stop:
    """End a run now; unknown ones are ignored, for it may have ended in the meantime."""

    run: str


@dataclass(frozen=True)
class Shutdown:
    """End every run and exit 0: the executor has ended for good."""


@dataclass(frozen=True)
class Hello:
    """The runner is ready to start runs."""

    pid: int
    base_bytes: int
    """Data memory that every run starts with, as the kernel counts it for RLIMIT_DATA."""
    data_limit_bytes: int
    """RLIMIT_DATA of every process of a run; 0 when unlimited."""


@dataclass(frozen=True)
class Started:
    """The process that runs the code exists."""


@dataclass(frozen=True)
class Refused:
    """The run did not start, for sure."""

    message: str


@dataclass(frozen=True)
class Ended:
    """The run is over and no process of it is left."""

    exit_code: int
    """Of the process that ran the code; minus the signal that ended it."""
    timed_out: bool
    """The supervisor ended it at its wall-clock limit."""
    stopped: bool
    """The supervisor ended it because it was told to."""
    out_of_memory: bool
    """The kernel's count of out-of-memory kills in this container rose while it ran."""
    wall_seconds: float
    cpu_seconds: float
    max_rss_bytes: int


Frame = Start | Stop | Shutdown | Hello | Started | Refused | Ended
_KINDS = {kind.__name__: kind for kind in get_args(Frame)}


def encode(frame: Frame) -> bytes:
    """Return a frame as one line of JSON without its line end."""
    return json.dumps({"kind": type(frame).__name__, **asdict(frame)}, separators=(",", ":")).encode()


def decode(data: bytes) -> Frame:
    """Read a frame, with every field of the declared type.

    Raises:
        FrameError: when it is too long, not JSON, of an unknown kind, or has a field too few or of another type.
    """
    if len(data) > MAX_FRAME_BYTES:
        raise FrameError("longer than a frame may be")
    try:
        wire = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FrameError("not JSON") from error
    kind = _KINDS.get(str(wire.get("kind"))) if isinstance(wire, dict) else None
    if kind is None:
        raise FrameError("not a frame of a known kind")
    values = {}
    for field in fields(kind):
        value = wire.get(field.name)
        if field.type is float and type(value) is int:
            value = float(value)
        if type(value) is not field.type:
            raise FrameError(f"{kind.__name__}.{field.name} is missing or of another type")
        values[field.name] = value
    frame: Frame = kind(**values)
    return frame
