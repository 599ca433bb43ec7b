"""E2B's answers, read with suspicion. Pure: what does not make sense is an UnknownError, since it may have happened."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from execpool.core.times import parse_time
from execpool.providers.e2b.errors import UnknownError

SANDBOX_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
"""Also the form of everything that becomes part of a path or a host."""
TOKEN = re.compile(r"[\x21-\x7e]{0,1024}")
"""Printable and bounded: it becomes a header."""
DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class Created:
    """A sandbox that was just made, or connected to. `repr` never shows its tokens."""

    sandbox_id: str
    domain: str = ""
    envd_token: str = field(default="", repr=False)
    traffic_token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Listed:
    """A sandbox in a list. Times are UNIX seconds of E2B's clock."""

    sandbox_id: str
    started_at: float
    tag: Mapping[str, str]


def read_created(payload: bytes) -> Created:
    """Read the answer to a creation. Raises UnknownError."""
    document = _json(payload)
    if not isinstance(document, dict):
        raise UnknownError("a creation was answered by something else than an object")
    return Created(
        _shaped(document, "sandboxID", SANDBOX_ID),
        _shaped(document, "domain", DOMAIN, absent=""),
        _shaped(document, "envdAccessToken", TOKEN, absent=""),
        _shaped(document, "trafficAccessToken", TOKEN, absent=""),
    )


def read_listed(payload: bytes) -> Iterator[Listed]:
    """Read one page of a list. Raises UnknownError: a list that cannot be read whole says nothing of what is not in it."""
    document = _json(payload)
    if not isinstance(document, list):
        raise UnknownError("a list was answered by something else than an array")
    for item in document:
        if not isinstance(item, dict):
            raise UnknownError("an entry of a list is no object")
        tag = item.get("metadata") or {}
        if not isinstance(tag, dict):
            raise UnknownError("the metadata of a sandbox is no object")
        yield Listed(
            _shaped(item, "sandboxID", SANDBOX_ID), _started_at(item), {str(k): str(v) for k, v in tag.items()}
        )


def _started_at(item: Mapping[str, Any]) -> float:
    try:
        return parse_time(str(item.get("startedAt")))
    except ValueError as error:
        raise UnknownError("a sandbox's startedAt is no time") from error


def _shaped(document: Mapping[str, Any], name: str, shape: re.Pattern[str], absent: str | None = None) -> str:
    value = document.get(name)
    if value is None and absent is not None:
        return absent
    if not isinstance(value, str) or not shape.fullmatch(value):
        raise UnknownError(f"{name} of an answer does not have the form that it should")
    return value


def _json(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise UnknownError("an answer is not JSON") from error
