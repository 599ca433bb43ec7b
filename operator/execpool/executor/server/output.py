"""What a run says, on its way to the client: bounded, decoded, one JSON line per event. Pure.

Bytes of stdout and stderr share one allowance (`output_bytes`). What comes after is dropped with `truncated`; a program
that goes on to produce as much again is `flooding` and will be ended. Events of the report pipe are hostile input, for
user code can write there: only known fields of the known types pass, in an allowance of their own, and the same flood
rule holds.
"""

import codecs
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from execpool.executor import frames

MAX_REPORT_BYTES = 8 << 20
"""Results and errors of one run together, as JSON."""

_RESULT_TEXTS = ("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "javascript")
_RESULT_VALUES = ("json", "data", "chart", "extra")
_ERROR_TEXTS = ("name", "value", "traceback")


class Allowance:
    """Counts bytes up to a limit, and beyond."""

    def __init__(self, limit: int, *, capped: bool = True) -> None:
        """Begin; only tests, to show that they can fail, leave the cap out."""
        self._limit = limit if capped else sys.maxsize
        self._seen = 0

    def take(self, size: int) -> int:
        """Count `size` more bytes; return how many of them are still within the limit."""
        left = max(self._limit - self._seen, 0)
        self._seen += size
        return min(left, size)

    @property
    def exceeded(self) -> bool:
        """True when something had to be dropped."""
        return self._seen > self._limit

    @property
    def flooding(self) -> bool:
        """True when as much again has been dropped."""
        return self._seen > 2 * self._limit


class TextStream:
    """One of stdout and stderr: bytes in, lines of NDJSON out; a character cut in two waits for its rest."""

    def __init__(self, name: str, allowance: Allowance) -> None:
        self._name = name
        self._allowance = allowance
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """Return the event for more output; empty when nothing of it can be shown."""
        text = self._decoder.decode(data[: self._allowance.take(len(data))], last)
        if not text:
            return b""
        return line({"type": self._name, "text": text, "timestamp": datetime.now(UTC).isoformat()})


class Reports:
    """The report pipe: JSON lines in, checked events out."""

    def __init__(self, nonce: str = "") -> None:
        """Begin; `nonce` is what tells the Done of this request from that of another, and from a forged one."""
        self._nonce = nonce
        self.done: frames.Done | None = None
        """What a context said at the end of the request."""
        self._buffer = bytearray()
        self._allowance = Allowance(MAX_REPORT_BYTES)
        self.error_name: str | None = None
        """Name of the last error that the program reported."""
        self.lost = False
        """True when an event was dropped."""

    @property
    def flooding(self) -> bool:
        """True when the program writes far more than reports can be."""
        return self._allowance.flooding

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by more bytes, each as a line of NDJSON."""
        within = self._allowance.take(len(data))
        self.lost |= within < len(data)
        self._buffer += data[:within]
        *complete, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        return [event for wire in complete if self.done is None and (event := self._checked(wire))]

    def _checked(self, wire: bytes) -> bytes:
        try:
            event = orjson.loads(wire)
        except orjson.JSONDecodeError:
            event = None
        if self._nonce and isinstance(event, dict) and event.get("nonce") == self._nonce:
            self.done = frames.done(event) or self.done
            return b""
        checked = _only_known(event) if isinstance(event, dict) else {}
        if not checked:
            self.lost = True
            return b""
        if checked["type"] == "error":
            self.error_name = str(checked["name"])
        return line(checked)


def line(event: dict[str, Any]) -> bytes:
    """Return an event as a line of NDJSON."""
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def _only_known(event: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a result or an error that the protocol knows; empty when it is neither."""
    if event.get("type") == "error":
        return {"type": "error", **{key: str(event.get(key, "")) for key in _ERROR_TEXTS}}
    if event.get("type") != "result":
        return {}
    texts = {key: event[key] for key in _RESULT_TEXTS if isinstance(event.get(key), str)}
    values = {key: event[key] for key in _RESULT_VALUES if event.get(key) is not None}
    return {"type": "result", **texts, **values, "is_main_result": event.get("is_main_result") is True}
