"""Reads values of request bodies. Pure."""

from collections.abc import Mapping
from typing import Any

from execpool.e2b_server.errors import InvalidError


def read_timeout(body: Mapping[str, Any], default: int | None = None) -> int:
    """Read a number of seconds, which may be negative.

    Raises:
        InvalidError: it is none, or missing where there is no default.
    """
    value = body.get("timeout", default)
    if type(value) is not int:
        raise InvalidError("timeout must be a whole number of seconds")
    return value


def object_in(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object of a body; empty where there is none. Raises InvalidError."""
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidError(f"{name} must be an object")
    return value


def texts_in(body: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return an object whose values are texts. Raises InvalidError."""
    values = object_in(body, name)
    if not all(isinstance(value, str) for value in values.values()):
        raise InvalidError(f"{name} must be an object of texts")
    return values


def flag_in(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    """Return a truth value. Raises InvalidError."""
    value = body.get(name, default)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidError(f"{name} must be true or false")
    return value
