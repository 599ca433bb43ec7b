"""Reads requests: bodies have the protocol's form, every field of its type and within its bounds, or nothing happens.

Pure. `protocol.decode` checks names only; what a value may be is decided here, once, for both ports.
"""

import math
import re
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from execpool.executor.server import errors
from execpool.protocol import (
    MAX_ABOUT_BYTES,
    MAX_CODE_BYTES,
    MAX_OUTPUT_BYTES,
    MAX_SESSION_SECONDS,
    MAX_TIMEOUT_SECONDS,
    Challenge,
    ClaimRequest,
    CreateContext,
    ExecuteRequest,
    Expect,
    RetireRequest,
    SessionRequest,
    WireError,
)

MAX_CONTROL_BODY = 16 * 1024
MAX_DATA_BODY = 3 * 512 * 1024
MAX_ENV_BYTES = 64 * 1024
"""Names and values of all variables together, as UTF-8."""
MAX_SESSION_BODY = MAX_ABOUT_BYTES + 2 * MAX_ENV_BYTES
MAX_VARIABLES = 1024

Wire = TypeVar("Wire", Challenge, ClaimRequest, RetireRequest, ExecuteRequest, CreateContext, SessionRequest)

_EXECUTION_ID = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
_SESSION = re.compile(r"[a-z0-9]{1,64}\Z")
_PRINCIPAL = re.compile(r"[\x21-\x7e]{1,256}\Z")
_LANGUAGES = {"python": "python", "python3": "python", "bash": "bash", "sh": "bash"}
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
    check_variables(request.env_vars)
    return request


def retire(body: bytes) -> tuple[RetireRequest, Expect]:
    """Read `POST /retire`."""
    request = _decoded(RetireRequest, body)
    _must(_short(request.secret), "secret is a text of at most 256 characters")
    _must(type(request.epoch) is int, "epoch is a whole number")
    _must(request.expect in list(Expect), f"expect is one of {', '.join(Expect)}")
    return request, Expect(request.expect)


def session(body: bytes) -> SessionRequest:
    """Read `POST /session`."""
    request = _decoded(SessionRequest, body)
    _must(
        isinstance(request.session, str) and _SESSION.match(request.session) is not None, "session is an id: [a-z0-9]"
    )
    seconds = request.ends_in_seconds
    _must(
        type(seconds) in (int, float) and math.isfinite(seconds) and seconds <= MAX_SESSION_SECONDS,
        f"ends_in_seconds is a number up to {MAX_SESSION_SECONDS:.0f}",
    )
    _must(request.about is None or isinstance(request.about, dict), "about is a JSON object")
    check_variables(request.env_vars)
    return request


def execute(body: bytes) -> ExecuteRequest:
    """Read `POST /execute`.

    Raises:
        BadRequest: a field is not as it should be.
        NoSuchLanguage: it is in a language that does not run here.
    """
    request = _decoded(ExecuteRequest, _without_default(body))
    _check_code(request.code)
    _check_limits(request.timeout_seconds, request.output_bytes)
    check_variables(request.env_vars)
    _must(type(request.stateless) is bool, "stateless is true or false")
    if request.context_id is not None and request.language is not None:
        raise errors.ContextAndLanguage("InvalidRequest", "Only one of context_id or language can be provided")
    _must(request.context_id is None or _short(request.context_id), "context_id is a text of at most 256 characters")
    stateless = request.stateless and request.context_id is None
    return replace(request, language=_language(request.language), stateless=stateless)


def create_context(body: bytes) -> CreateContext:
    """Read `POST /contexts`."""
    request = _decoded(CreateContext, body or b"{}")
    cwd = request.cwd
    _must(cwd is None or (isinstance(cwd, str) and len(cwd) <= 4096 and "\0" not in cwd), "cwd is a path")
    return replace(request, language=_language(request.language))


def context_name(path: str) -> str:
    """Return the context that a path names."""
    return path.split("/")[2]


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


def _language(wanted: object) -> str:
    """Return the language by the name that is used here; python unless one is wanted."""
    name = "python" if wanted is None else str(wanted).strip().lower()
    if name not in _LANGUAGES:
        raise errors.NoSuchLanguage("UnsupportedLanguage", f"{name[:64]!r} does not run here; python and bash do")
    return _LANGUAGES[name]


def _without_default(body: bytes) -> dict[str, object]:
    """Return a body that does not leave open whether it is stateless: those of E2B, which say nothing of it, are not."""
    try:
        wire = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.BadRequest("InvalidRequest", "the body is not JSON") from error
    _must(isinstance(wire, dict), "the body is not a JSON object")
    return {"stateless": False, **wire}


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


def check_variables(variables: object) -> None:
    """Accept variables that every command can be started with, or None.

    Raises:
        BadRequest: one of them is not such, or they are too many.
    """
    if variables is None:
        return
    _must(isinstance(variables, dict), "env_vars is an object of texts")
    assert isinstance(variables, dict)  # noqa: S101 - told to the type checker
    for name, value in variables.items():
        _must(_VARIABLE.match(name) is not None, "names in env_vars are letters, digits and underscores")
        _must(isinstance(value, str) and "\0" not in value and _has_bytes(value), "env_vars is an object of texts")
    size = sum(len(name) + len(value.encode()) for name, value in variables.items())
    _must(size <= MAX_ENV_BYTES, f"env_vars hold at most {MAX_ENV_BYTES} bytes together")
    _must(len(variables) <= MAX_VARIABLES, f"env_vars are at most {MAX_VARIABLES}")


def _has_bytes(text: str) -> bool:
    """True unless half a character is in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(kind: type[Wire], body: bytes | dict[str, Any]) -> Wire:
    try:
        return kind.decode(body)
    except WireError as error:
        raise errors.BadRequest("InvalidRequest", str(error)) from error


def _short(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 256


def _must(holds: bool, sentence: str, reason: str = "InvalidRequest") -> None:
    if not holds:
        raise errors.BadRequest(reason, sentence)
