"""What a run says, on its way to the client: bounded, decoded, one JSON line per event. Pure.

Bytes of stdout and stderr share one allowance (`output_bytes`). What comes after is dropped with `truncated`; a program
that goes on to produce as much again is `flooding` and will be ended.

Lines of the report pipe are hostile input, for user code can write there: results and errors pass, with the fields that
the protocol knows, of their types and within their bounds; everything else is dropped. Results have an allowance of their
own, and one that does not fit leaves a note in its place. Errors and the end of the request are never crowded out by
results: a context whose end is not heard would be busy until its limit.
"""

import codecs
import re
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

from execpool.executor import frames
from execpool.protocol import MAX_RESULT_BYTES

MAX_REPORT_BYTES = 2 * MAX_RESULT_BYTES
"""What the report pipe may carry in one run, notes and dropped lines included; twice as much is a flood."""
MAX_ERRORS = 8
"""The notebook reports two at most: of the code, and of what it left to do at its exit."""

_NOTE_BYTES = 256 * 1024
"""Of `MAX_RESULT_BYTES`, for what stands in the place of results that do not fit."""
_MOST_CHARACTERS = 64 * 1024
"""Of one output event: six times as many bytes, when each of them has to be escaped."""
_LINE_COST = 64
"""What an event costs whoever keeps it, beside its text."""
_SHORT = 1024
_MOST_NESTED = 64_000
"""Lists and objects in one line. In memory each takes 60 times its bytes: a line of nothing else would be 250 MiB."""
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"')

_RESULT_TEXTS = ("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "javascript")
_RESULT_OBJECTS = ("data", "chart", "extra")
_ERROR_TEXTS = {"name": 256, "value": 32 * 1024, "traceback": 512 * 1024}
"""Fields of an error and their longest, in characters: looser than what the notebook keeps to."""


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

    def admits(self, size: int) -> bool:
        """Count `size` more bytes if all of them are within the limit; False when they are not."""
        fits = self._seen + size <= self._limit
        self._seen += size if fits else 0
        return fits

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
        """Return the events for more output; empty when nothing of it can be shown."""
        text = self._decoder.decode(data[: self._allowance.take(len(data))], last)
        if not text:
            return b""
        now = datetime.now(UTC).isoformat()
        parts = (text[start : start + _MOST_CHARACTERS] for start in range(0, len(text), _MOST_CHARACTERS))
        return b"".join(line({"type": self._name, "text": part, "timestamp": now}) for part in parts)


class _Lines:
    """Cuts the report pipe into lines, of which none is kept that is longer than all results together may be."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> list[bytes | None]:
        """Return the lines completed by more bytes; None for each that is too long."""
        *ends, rest = data.split(b"\n")
        complete = [self._complete(end) for end in ends]
        self._keep(rest)
        return complete

    @property
    def too_long(self) -> bool:
        """True while the line that is under way is too long."""
        return self._size > MAX_RESULT_BYTES

    def _complete(self, end: bytes) -> bytes | None:
        self._keep(end)
        whole = None if self.too_long else bytes(self._line)
        self._line, self._size = bytearray(), 0
        return whole

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self.too_long:
            self._line.clear()
        else:
            self._line += part


class Reports:
    """The report pipe: JSON lines in, checked events out."""

    def __init__(self, nonce: str = "") -> None:
        """Begin; `nonce` is what tells the Done of this request from that of another, and from a forged one."""
        self._nonce = nonce
        self.done: frames.Done | None = None
        """What a context said at the end of the request."""
        self._lines = _Lines()
        self._seen = Allowance(MAX_REPORT_BYTES)
        self._results = Allowance(MAX_RESULT_BYTES - _NOTE_BYTES)
        self._notes = Allowance(_NOTE_BYTES)
        self._errors = 0
        self.error_name: str | None = None
        """Name of the last error that the program reported."""
        self.lost = False
        """True when an event, or a part of one, was dropped."""

    @property
    def flooding(self) -> bool:
        """True when the program writes far more than reports can be."""
        return self._seen.flooding

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by more bytes, each as a line of NDJSON."""
        self._seen.take(len(data))
        lines = self._lines.feed(data)
        self.lost |= self._lines.too_long
        return [event for wire in lines if self.done is None and (event := self._checked(wire))]

    def _checked(self, wire: bytes | None) -> bytes:
        event = _object(wire)
        if self._nonce and event.get("nonce") == self._nonce:
            self.done = frames.done(event) or self.done
            return b""
        if event.get("type") == "result":
            passed = self._result(event)
        else:
            passed = self._error(event) if event.get("type") == "error" else b""
        self.lost |= not passed
        return passed

    def _result(self, event: dict[str, Any]) -> bytes:
        checked = _known_of_result(event)
        if not _is_writable(checked):
            checked = {key: value for key, value in checked.items() if isinstance(value, str)}
            self.lost = True
        if not checked:
            return b""
        self.lost |= event.get("truncated") is True
        checked = {"type": "result", **checked, "is_main_result": event.get("is_main_result") is True}
        whole = line(checked)
        if self._results.admits(len(whole) + _LINE_COST):
            return whole
        self.lost = True
        text = "\n".join(filter(None, (_cut(checked.get("text", "")), _note(len(whole)))))
        short = line({"type": "result", "text": text, "is_main_result": checked["is_main_result"]})
        return short if self._notes.admits(len(short) + _LINE_COST) else b""

    def _error(self, event: dict[str, Any]) -> bytes:
        texts = {key: value if isinstance(value := event.get(key), str) else "" for key in _ERROR_TEXTS}
        if not texts["name"] or self._errors == MAX_ERRORS:
            return b""
        self._errors += 1
        checked = {key: text[: _ERROR_TEXTS[key]] for key, text in texts.items()}
        self.error_name = checked["name"]
        return line({"type": "error", **checked})


def line(event: dict[str, Any]) -> bytes:
    """Return an event as a line of NDJSON."""
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def _object(wire: bytes | None) -> dict[str, Any]:
    """Read a JSON object; empty when it is none, or has more parts than a reader should be made to make."""
    if wire is not None and _nested(wire) > _MOST_NESTED and _nested(_STRING.sub(b"", wire)) > _MOST_NESTED:
        return {}
    try:
        read = orjson.loads(wire or b"")
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}


def _nested(wire: bytes) -> int:
    return wire.count(b"[") + wire.count(b"{")


def _known_of_result(event: dict[str, Any]) -> dict[str, Any]:
    """Return what the protocol knows of the fields of a result, each of its type."""
    known = {key: event[key] for key in _RESULT_TEXTS if isinstance(event.get(key), str)}
    known |= {key: event[key] for key in _RESULT_OBJECTS if isinstance(event.get(key), dict)}
    return known if event.get("json") is None else {**known, "json": event["json"]}


def _is_writable(fields: dict[str, Any]) -> bool:
    """True unless a field is nested deeper than can be written: orjson reads four times deeper than it writes."""
    try:
        line({key: value for key, value in fields.items() if not isinstance(value, str)})
    except orjson.JSONEncodeError:
        return False
    return True


def _note(size: int) -> str:
    return f"[execpool left out a result: {size / (1 << 20):.1f} MiB, and results of one run have {MAX_RESULT_BYTES >> 20} MiB]"


def _cut(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[:_SHORT]} ..."
