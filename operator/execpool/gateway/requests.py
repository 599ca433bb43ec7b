"""What `POST /v1/executions` accepts: the one place where a caller's JSON becomes a value.

Unknown fields are refused by name, so that a typo is never an option silently ignored. Fields of the full API that this
release does not honour yet are refused as such.
"""

import re
from typing import Annotated, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel
from pydantic_core import from_json

from execpool.api.fields import DNS_LABEL, DNS_SUBDOMAIN
from execpool.api.names import Isolation, Refusal
from execpool.gateway.errors import GatewayError
from execpool.protocol import DEFAULT_TIMEOUT_SECONDS, MAX_CODE_BYTES, MAX_TIMEOUT_SECONDS, ExecuteRequest

NOT_YET = frozenset({"workload", "files", "outputs", "cache", "language", "contextId"})
MAX_ENV = 64
MAX_ENV_BYTES = 32 << 10
MAX_FIELDS = 32
MAX_WIRE_BYTES = 3 * 512 * 1024
"""What an executor takes as the body of a run: code and variables as JSON, where a newline is two bytes and a NUL six."""
_WORST_ESCAPE = 6
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("only printable characters are allowed")
    return value


def _bounded(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is not the name of an environment variable")
        if "\0" in value:
            raise ValueError(f"the value of {name} holds a NUL character")
    size = sum(len(name) + len(value.encode()) for name, value in env.items())
    if size > MAX_ENV_BYTES:
        raise ValueError(f"{size} bytes of names and values; {MAX_ENV_BYTES} are allowed")
    return env


class Order(BaseModel):
    """One execution as asked for."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        strict=True,
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    code: str
    """Python source, at most 1 MiB, and 1.5 MiB together with `env` as JSON."""
    pool: Annotated[str, StringConstraints(max_length=253, pattern=DNS_SUBDOMAIN)] | None = None
    """Name of the pool; may be left out when the key sees exactly one."""
    user: Annotated[str, StringConstraints(max_length=128), AfterValidator(_printable)] = ""
    """End user behind the key. Key's tenant and user together never share an executor with anybody else."""
    tier: Annotated[str, StringConstraints(max_length=32, pattern=DNS_LABEL)] | None = None
    """Name of the tier; left out, the pool's tiers are tried in their order."""
    timeout_seconds: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_SECONDS)] = DEFAULT_TIMEOUT_SECONDS
    """Longest run, in seconds."""
    max_wait_seconds: Annotated[float, Field(ge=0, le=MAX_TIMEOUT_SECONDS)] | None = None
    """Longest wait for an executor, in seconds; the pool's `queue.maxWaitSeconds` is the limit. 0 means not to wait."""
    env: Annotated[dict[str, str], Field(max_length=MAX_ENV), AfterValidator(_bounded)] = Field(default_factory=dict)
    """Environment variables of the run."""
    retry: Literal["Never", "Safe"] = "Never"
    """Safe: the code may be run once more when what became of the first run cannot be known."""
    min_isolation: Isolation | None = None
    """Least isolation: Interpreter, Container, UserNamespace, Sandboxed or MicroVM."""


def read_order(body: bytes) -> Order:
    """Read a request's body.

    Raises:
        GatewayError: InvalidRequest, UnsupportedOption or RequestTooLarge, naming the field.
    """
    _check_fields(body)
    try:
        order = Order.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    _check_size(order)
    return order


def execute_body(order: Order) -> bytes:
    """Return the request to an executor."""
    return orjson.dumps(ExecuteRequest(order.code, env_vars=order.env, timeout_seconds=order.timeout_seconds))


def _check_fields(body: bytes) -> None:
    """Refuse what is far from a request before pydantic looks at each of its fields, which takes 2 us for every one."""
    try:
        fields = from_json(body)
    except ValueError as error:
        sentence = f"the body is not an execution request: {str(error)[:300]}"
        raise GatewayError(Refusal.INVALID_REQUEST, sentence) from None
    if not isinstance(fields, dict):
        return
    if len(fields) > MAX_FIELDS:
        sentence = f"the body has {len(fields)} fields; {MAX_FIELDS} are allowed"
        raise GatewayError(Refusal.INVALID_REQUEST, sentence)
    for name, value in fields.items():
        if isinstance(value, dict | list) and len(value) > MAX_ENV:
            sentence = f"{name[:200]}: {len(value)} entries; {MAX_ENV} are allowed"
            raise GatewayError(Refusal.INVALID_REQUEST, sentence, field=name[:200])


def _check_size(order: Order) -> None:
    """Refuse here what every executor would refuse."""
    size = len(order.code.encode())
    if size > MAX_CODE_BYTES:
        sentence = f"code has {size} bytes; {MAX_CODE_BYTES} are allowed"
        raise GatewayError(Refusal.REQUEST_TOO_LARGE, sentence, field="code")
    if _WORST_ESCAPE * (size + MAX_ENV_BYTES) < MAX_WIRE_BYTES:
        return
    written = len(execute_body(order))
    if written > MAX_WIRE_BYTES:
        sentence = f"code and env have {written} bytes as JSON; {MAX_WIRE_BYTES} are allowed"
        raise GatewayError(Refusal.REQUEST_TOO_LARGE, sentence, field="code")


def _refusal(error: ValidationError) -> GatewayError:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"])[:200]
    if not field:
        return GatewayError(Refusal.INVALID_REQUEST, f"the body is not an execution request: {first['msg'][:300]}")
    if first["type"] != "extra_forbidden":
        return GatewayError(Refusal.INVALID_REQUEST, f"{field}: {first['msg'][:300]}", field=field)
    if field in NOT_YET:
        return GatewayError(Refusal.UNSUPPORTED_OPTION, f"{field} is not supported by this release", field=field)
    return GatewayError(Refusal.INVALID_REQUEST, f"unknown field {field}", field=field)
