"""A MIME bundle of IPython's becomes one event of E2B's wire form: named fields, JSON that any reader takes, bounded.

- `text` loses one pair of quotes around it, as E2B does; what has no field of its own goes to `extra`.
- Bytes become base64, NaN and infinity null, keys text, and what JSON does not know its `str`. A value that can be no
  JSON at all (a cycle, say) is left out.
- No event is larger than `MAX_EVENT_BYTES`: a long text keeps both ends, then the largest other fields are left out, and
  the text says which; such an event is `truncated`, which the server makes a flag of the answer. So one plot too many
  never costs the answer.

Pure, but for the `str` of objects inside structured values, which user code may have written.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import orjson

from execpool.executor.runner.notebook_captured import Captured

Event = dict[str, Any]

MAX_EVENT_BYTES = 7 << 19
"""Less than all results of a run have together (`protocol.MAX_RESULT_BYTES`), so that one of this size fits."""
MAX_TEXT = 1 << 20
MAX_NAME = 256
MAX_VALUE = 16 * 1024
MAX_TRACEBACK = 256 * 1024

FIELDS = {
    "text/plain": "text",
    "text/html": "html",
    "text/markdown": "markdown",
    "image/svg+xml": "svg",
    "image/png": "png",
    "image/jpeg": "jpeg",
    "application/pdf": "pdf",
    "text/latex": "latex",
    "application/json": "json",
    "application/javascript": "javascript",
    "e2b/data": "data",
    "e2b/chart": "chart",
}

_ROOM = 8 * 1024
"""For the names of fields, the notes about what was left out, and what else an event carries."""
_LAYOUT = 8
"""Quotes, colon and comma of a field."""
_MOST_NOTES = 8
_MOST_OF_A_NAME = 128
_ORJSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def result(bundle: Mapping[str, Any], *, main: bool) -> Event:
    """Return the result event of a bundle."""
    sized = {mime: packed for mime, value in bundle.items() if (packed := _packed(mime, value)) is not None}
    left_out = _largest(sized)
    event: Event = {"type": "result"}
    extra = {}
    for mime, (value, _) in sized.items():
        if mime in left_out:
            continue
        if mime in FIELDS:
            event[FIELDS[mime]] = value
        else:
            extra[mime] = value
    if extra:
        event["extra"] = extra
    if left_out:
        event["text"] = "\n".join(filter(None, [event.get("text"), *_notes(left_out)]))
    event["is_main_result"] = main
    if left_out or _is_cut(bundle.get("text/plain")):
        event["truncated"] = True
    return event


def failure(name: str, value: str, traceback: str) -> Event:
    """Return the error event of an exception."""
    return {
        "type": "error",
        "name": bounded(name, MAX_NAME),
        "value": bounded(value, MAX_VALUE),
        "traceback": bounded(traceback, MAX_TRACEBACK),
    }


def bounded(text: str, limit: int) -> str:
    """Keep both ends of a long text: its last lines matter most, its first ones next."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def unquoted(text: str) -> str:
    """Take one pair of quotes off a text, as E2B does with every `text`."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def jsonable(value: object) -> tuple[Any, int] | None:
    """Return a value as JSON knows it, and its size; None when it cannot be JSON."""
    with Captured(Exception):
        wire = orjson.dumps(value, default=str, option=_ORJSON)
        return orjson.loads(wire), len(wire)
    with Captured(Exception):
        # Integers beyond 64 bits, lone surrogates and deep nesting: slower, but the standard library takes them.
        text = json.dumps(value, default=str, skipkeys=True)
        return json.loads(text, parse_constant=lambda _: None), len(text)
    return None


def _packed(mime: str, value: object) -> tuple[Any, int] | None:
    """Return a value of a bundle as it goes into an event, and its size there; None for what is left out silently."""
    if value is None or not isinstance(mime, str) or len(mime) > _MOST_OF_A_NAME:
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        value = base64.b64encode(value).decode("ascii")
    if not isinstance(value, str):
        return jsonable(value)
    if mime == "text/plain":
        value = bounded(unquoted(value), MAX_TEXT)
    return value, _size(value)


def _is_cut(text: object) -> bool:
    return isinstance(text, str) and len(unquoted(text)) > MAX_TEXT


def _size(text: str) -> int:
    """Return how long a text is as JSON: a NUL is six characters there."""
    try:
        return len(orjson.dumps(text))
    except orjson.JSONEncodeError:  # half a character
        return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"))


def _largest(sized: Mapping[str, tuple[Any, int]]) -> dict[str, int]:
    """Return the fields to leave out, with their sizes, so that the rest fits."""
    total = sum(size + len(mime) + _LAYOUT for mime, (_, size) in sized.items())
    left_out: dict[str, int] = {}
    for mime in sorted(sized, key=lambda mime: (mime == "text/plain", -sized[mime][1])):
        if total <= MAX_EVENT_BYTES - _ROOM:
            break
        left_out[mime] = sized[mime][1]
        total -= sized[mime][1] + len(mime) + _LAYOUT
    return left_out


def _notes(left_out: Mapping[str, int]) -> list[str]:
    notes = [
        f"[execpool left out {mime}: {size / (1 << 20):.1f} MiB, more than fits one event]"
        for mime, size in list(left_out.items())[:_MOST_NOTES]
    ]
    more = len(left_out) - len(notes)
    return notes if not more else [*notes, f"[execpool left out {more} more formats]"]
