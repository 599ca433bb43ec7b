"""Reads requests: bodies have the protocol's form, every field of its type and within its bounds, or nothing happens.

Pure. `protocol.decode` checks names only; what a value may be is decided here, once, for both ports.
"""

import math
import re
from typing import TypeVar

from execpool.executor.server import errors
from execpool.protocol import (
    MAX_CODE_BYTES,
    MAX_OUTPUT_BYTES,
    MAX_TIMEOUT_SECONDS,
    Challenge,
    ClaimRequest,
    ExecuteRequest,
    Expect,
    RetireRequest,
    WireError,
)

MAX_CONTROL_BODY = 16 * 1024
MAX_DATA_BODY = 3 * 512 * 1024
MAX_ENV_BYTES = 64 * 1024

Wire = TypeVar("Wire", Challenge, ClaimRequest, RetireRequest, ExecuteRequest)

_EXECUTION_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_PRINCIPAL = re.compile(r"[\x21-\x7e]{1,256}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def challenge(body: bytes) -> Challenge:
    """Read `POST /challenge`."""
    request = _decoded(Challenge, body)
    _must(_short(request.nonce) and _short(request.pod_uid), "nonce and pod_uid are texts of at most 256 characters")
    return request


def claim(body: bytes) -> ClaimRequest:
    """Read `POST /claim`."""
    request = _decoded(ClaimRequest, body)
    _must(_short(request.secret), "secret is a text of at most 256 characters")
    _must(
        isinstance(request.principal, str) and _PRINCIPAL.match(request.principal) is not None,
        "principal is a text of 1 to 256 printable characters",
    )
    return request


def retire(body: bytes) -> tuple[RetireRequest, Expect]:
    """Read `POST /retire`."""
    request = _decoded(RetireRequest, body)
    _must(_short(request.secret), "secret is a text of at most 256 characters")
    _must(type(request.epoch) is int, "epoch is a whole number")
    _must(request.expect in list(Expect), f"expect is one of {', '.join(Expect)}")
    return request, Expect(request.expect)


def execute(body: bytes) -> ExecuteRequest:
    """Read `POST /execute`.

    Raises:
        BadRequest: a field is not as it should be.
        NotFound: a context is named; this executor has none but the fresh one of every run.
    """
    request = _decoded(ExecuteRequest, body)
    _check_code(request.code)
    _check_limits(request.timeout_seconds, request.output_bytes)
    _check_variables(request.env_vars)
    _must(
        request.context_id is None or request.language is None,
        "context_id and language cannot be given together",
    )
    if request.language is not None:
        known = isinstance(request.language, str) and request.language.strip().lower() in {"python", "python3"}
        _must(known, "language is python", "UnsupportedLanguage")
    if request.context_id is not None:
        raise errors.NotFound("ContextNotFound", f"Context {str(request.context_id)[:64]} not found")
    return request


def execution_id(text: str) -> str:
    """Read the header that names an execution."""
    _must(
        _EXECUTION_ID.match(text) is not None,
        "the execution id has 1 to 128 letters, digits, dots, dashes, underscores",
    )
    return text


def epoch(text: str) -> int:
    """Read the header that names an epoch; what is not a number is no epoch of ours."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else -1


def _check_code(code: object) -> None:
    _must(isinstance(code, str), "code is a text")
    try:
        size = len(str(code).encode())
    except UnicodeEncodeError:
        raise errors.BadRequest("InvalidRequest", "code holds half a character") from None
    if size > MAX_CODE_BYTES:
        raise errors.TooLarge("TooLarge", f"code has {size} bytes, at most {MAX_CODE_BYTES} are allowed")


def _check_limits(timeout: object, output: object) -> None:
    _must(
        isinstance(timeout, int | float)
        and not isinstance(timeout, bool)
        and math.isfinite(timeout)
        and 0 < timeout <= MAX_TIMEOUT_SECONDS,
        f"timeout_seconds is above 0 and at most {MAX_TIMEOUT_SECONDS:.0f}",
    )
    _must(
        type(output) is int and 0 < output <= MAX_OUTPUT_BYTES,
        f"output_bytes is above 0 and at most {MAX_OUTPUT_BYTES}",
    )


def _check_variables(variables: object) -> None:
    if variables is None:
        return
    _must(isinstance(variables, dict), "env_vars is an object of texts")
    assert isinstance(variables, dict)  # noqa: S101 - told to the type checker
    total = 0
    for name, value in variables.items():
        _must(isinstance(value, str) and "\0" not in value, "env_vars is an object of texts")
        _must(_VARIABLE.match(name) is not None, "names in env_vars are letters, digits and underscores")
        total += len(name) + len(value.encode("utf-8", "replace"))
    _must(total <= MAX_ENV_BYTES, f"env_vars hold at most {MAX_ENV_BYTES} bytes together")


def _decoded(kind: type[Wire], body: bytes) -> Wire:
    try:
        return kind.decode(body)
    except WireError as error:
        raise errors.BadRequest("InvalidRequest", str(error)) from error


def _short(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def _must(holds: bool, sentence: str, reason: str = "InvalidRequest") -> None:
    if not holds:
        raise errors.BadRequest(reason, sentence)
