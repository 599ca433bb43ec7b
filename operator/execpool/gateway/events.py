"""Reads what an executor sends while code runs. Everything in it is hostile input, made beside somebody's program.

Lines, their number and their total size are bounded, known fields are checked for their type, unknown event types are
dropped. Whatever breaks these rules is a MisbehavedError: the run's outcome is then Unknown, and the gateway goes on.
No pydantic here: this is the path of every line that every program prints.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from execpool.protocol import MAX_OUTPUT_BYTES, MAX_RESULT_BYTES, End, EventType, RunStatus

MAX_LINE_BYTES = MAX_RESULT_BYTES
"""One result may be all that a run shows."""
MAX_IDLE_LINES = 10_000
"""Lines of one run that bring nothing. An executor sends a keepalive every few seconds, so an hour needs under a thousand."""
MAX_TEXT = 1024

_TEXT_KEYS = ("text", "html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "javascript")
_OBJECT_KEYS = ("data", "chart", "extra")
_RESULT_KEYS = frozenset((*_TEXT_KEYS, *_OBJECT_KEYS, "json", "is_main_result"))
_STATUSES = frozenset(RunStatus)


class MisbehavedError(Exception):
    """An executor's reply breaks the protocol's form or its bounds."""


@dataclass(slots=True)
class Transcript:
    """What one run has produced so far, within bounds. `lines` of it go to a caller that streams."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    results: list[orjson.Fragment] = field(default_factory=list)
    error: dict[str, str] | None = None
    truncated: bool = False
    end: End | None = None
    _idle_lines: int = 0
    _output_bytes: int = 0
    _result_bytes: int = 0

    def add(self, line: bytes) -> bytes | None:
        """Take in one line of an /execute stream; return it cleaned when it is for the caller.

        Raises:
            MisbehavedError: when the line is not what the protocol allows.
        """
        passed = self._take_in(_object(line))
        if passed is None:
            self._idle_lines += 1
            if self._idle_lines > MAX_IDLE_LINES:
                raise MisbehavedError(f"more than {MAX_IDLE_LINES} lines that say nothing")
        return passed

    def has_content(self) -> bool:
        """True once the program has said anything."""
        return bool(self.stdout or self.stderr or self.results or self.error)

    def _take_in(self, event: dict[str, Any]) -> bytes | None:
        kind = event.get("type")
        if kind in (EventType.STDOUT, EventType.STDERR):
            return self._output(kind, _text(event, "text"))
        if kind == EventType.RESULT:
            return self._result(event)
        if kind == EventType.ERROR:
            return self._error(event)
        if kind == EventType.END_OF_EXECUTION:
            self.end = _end(event)
            self.truncated = self.truncated or self.end.truncated
        return None

    def _output(self, kind: str, text: str) -> bytes | None:
        room = MAX_OUTPUT_BYTES - self._output_bytes
        encoded = text.encode()
        if len(encoded) > room:
            self.truncated = True
            text = encoded[:room].decode(errors="ignore")
            encoded = text.encode()
        self._output_bytes += len(encoded)
        if not text:
            return None
        kept = self.stdout if kind == EventType.STDOUT else self.stderr
        kept += encoded
        return orjson.dumps({"type": kind, "text": text})

    def _result(self, event: dict[str, Any]) -> bytes | None:
        result = {key: value for key, value in event.items() if key in _RESULT_KEYS and value is not None}
        for key in _TEXT_KEYS:
            if not isinstance(result.get(key, ""), str):
                raise MisbehavedError(f"result.{key} is not a string")
        for key in _OBJECT_KEYS:
            if not isinstance(result.get(key, {}), dict):
                raise MisbehavedError(f"result.{key} is not an object")
        encoded = _dumped(result)
        self._result_bytes += len(encoded)
        if self._result_bytes > MAX_RESULT_BYTES:
            self._result_bytes -= len(encoded)
            self.truncated = True
            return None
        self.results.append(orjson.Fragment(encoded))
        return b'{"type":"result"' + (b"," + encoded[1:] if len(encoded) > 2 else b"}")

    def _error(self, event: dict[str, Any]) -> bytes:
        self.error = {key: _text(event, key) for key in ("name", "value", "traceback")}
        size = sum(len(part) for part in self.error.values())
        if size > MAX_OUTPUT_BYTES:
            raise MisbehavedError(f"an error of {size} characters")
        return orjson.dumps({"type": "error", **self.error})


class LineSplitter:
    """Cuts a stream into lines without ever holding more than one line of MAX_LINE_BYTES."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the lines that are complete; blank ones are left out.

        Raises:
            MisbehavedError: when a line is too long.
        """
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            yield from self._completed(line)
        self._keep(rest)

    def _completed(self, last: bytes) -> Iterator[bytes]:
        self._keep(last)
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if line.strip():
            yield line

    def _keep(self, part: bytes) -> None:
        # Joined only once a line is complete: one byte at a time must not cost the square of its length.
        self._size += len(part)
        if self._size > MAX_LINE_BYTES:
            raise MisbehavedError(f"a line of more than {MAX_LINE_BYTES} bytes")
        if part:
            self._parts.append(part)


def _object(line: bytes) -> dict[str, Any]:
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise MisbehavedError("a line that is not JSON") from error
    if not isinstance(event, dict):
        raise MisbehavedError("a line that is not a JSON object")
    return event


def _dumped(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:  # orjson reads deeper nesting than it writes
        raise MisbehavedError("a result that is nested too deeply") from error


def _text(event: dict[str, Any], key: str) -> str:
    value = event.get(key, "")
    if not isinstance(value, str):
        raise MisbehavedError(f"{event.get('type')}.{key} is not a string")
    return value


def _number(event: dict[str, Any], key: str) -> float:
    value = event.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise MisbehavedError(f"end_of_execution.{key} is not a number")
    return float(value)


def _end(event: dict[str, Any]) -> End:
    status = event.get("status")
    if not isinstance(status, str) or status not in _STATUSES:
        raise MisbehavedError("end_of_execution without a known status")
    return End(
        status=status,
        reason=_text(event, "reason")[:MAX_TEXT],
        message=_text(event, "message")[:MAX_TEXT],
        truncated=event.get("truncated") is True,
        wall_seconds=_number(event, "wall_seconds"),
        cpu_seconds=_number(event, "cpu_seconds"),
        max_rss_bytes=int(_number(event, "max_rss_bytes")),
    )
