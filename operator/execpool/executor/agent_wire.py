"""What the server and the agent in the runner say to each other about files and processes: JSON, one packet a frame.

    server (server/envd)                          agent (runner/agent), one per claim, forked from the zygote
    one socketpair, SEQPACKET
      {"call": 7, "op": "stat", "args": {...}}  ->
                                                <-  {"reply": 7, "ok": {...}} or {"reply": 7, "error": [code, message]}
                                                <-  {"reply": 7, "part": [...]}      any number before the last word
      {"call": 8, "op": "start", ...} + pipes   ->
                                                <-  {"reply": 8, "ok": {"pid": 42}}
                                                <-  {"ended": 42, "status": 256}     as wait() gives it

Contents never travel in frames. Output, input, uploads and downloads go through pipes that the *server* makes: it keeps
one end and hands over the other, as it does for runs. So back-pressure is the pipe's own, nothing is buffered by the
agent, and no descriptor of the runner's can make the server wait. Either side treats the other's frames as hostile:
bounded, JSON, of a known form, or the connection is given up.
"""

import json
from enum import StrEnum
from typing import Any

MAX_FRAME_BYTES = 160 * 1024
"""Below the 208 KiB that a packet of a unix socket may have by default."""
PART_BYTES = 64 * 1024
"""A part is sent once it has grown to this."""
MAX_DESCRIPTORS = 4
MAX_CALLS = 256
"""Calls without an answer at the same time."""

MAX_ENTRIES = 50_000
"""Entries of one listing."""
MAX_LISTING_BYTES = 8 << 20
"""Of one listing, as frames: paths may be long."""
LISTING_TOO_LONG = (
    f"the listing has more than {MAX_LISTING_BYTES >> 20} MiB; ask for less depth, or list with a command"
)
MAX_PROCESSES = 128
"""Processes started by calls and not yet ended; what these start themselves is bounded by the limits of a run."""
MAX_WATCHERS = 32
MAX_WATCHED = 20_000
"""Entries below one watched directory."""
MAX_EVENTS = 4096
"""Events that a watcher keeps for a reader that does not come."""
METADATA_PREFIX = "user.e2b."
"""Extended attributes that hold a file's metadata, as E2B names them."""
MAX_METADATA_BYTES = 8 * 1024


class Op(StrEnum):
    """What the server may ask for."""

    PING = "ping"
    STAT = "stat"
    MAKE_DIR = "make_dir"
    LIST = "list"
    MOVE = "move"
    REMOVE = "remove"
    UPLOAD = "upload"
    DOWNLOAD = "download"
    WATCH = "watch"
    EVENTS = "events"
    UNWATCH = "unwatch"
    START = "start"
    SIGNAL = "signal"
    METRICS = "metrics"


class Code(StrEnum):
    """Why a call failed: Connect's names, and two that only plain HTTP tells apart."""

    CANCELED = "canceled"
    UNKNOWN = "unknown"
    INVALID_ARGUMENT = "invalid_argument"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    PERMISSION_DENIED = "permission_denied"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    FAILED_PRECONDITION = "failed_precondition"
    ABORTED = "aborted"
    OUT_OF_RANGE = "out_of_range"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"
    UNAUTHENTICATED = "unauthenticated"
    NO_SPACE = "no_space"
    TOO_LARGE = "too_large"


def most_bytes(item: dict[str, Any]) -> int:
    """Return how long an entry or event can be as JSON at most: a character takes six bytes."""
    return 6 * sum(len(str(value)) for value in item.values()) + 256


class FrameError(ValueError):
    """What arrived is not a frame."""


def encode(frame: dict[str, Any]) -> bytes:
    """Return a frame as a packet.

    Raises:
        FrameError: when it is longer than a packet may be.
    """
    packet = json.dumps(frame, separators=(",", ":")).encode()
    if len(packet) > MAX_FRAME_BYTES:
        raise FrameError("longer than a frame may be")
    return packet


def decode(packet: bytes) -> dict[str, Any]:
    """Read a packet.

    Raises:
        FrameError: when it is too long, or not a JSON object.
    """
    if len(packet) > MAX_FRAME_BYTES:
        raise FrameError("longer than a frame may be")
    try:
        frame = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise FrameError("not JSON") from error
    if not isinstance(frame, dict):
        raise FrameError("not a JSON object")
    return frame
