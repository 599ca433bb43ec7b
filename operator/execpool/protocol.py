"""The wire between gateway or operator and an executor. Standard library only: the executor imports it.

Two ports. The *data* port speaks E2B's code-interpreter protocol (`POST /execute`, NDJSON) and is the only one that a
proxy path may ever reach. The *control* port carries ownership, and nothing that user code says is interpreted there.

Ownership (DESIGN rule 3) is compare-and-set at the executor:

    gateway                                   executor (phase Warm)
    POST /challenge {nonce, podUID}     ->    421 when podUID is not mine (an IP was reused)
                                        <-    {executorID, proof = HMAC(SHA-256(secret), nonce|podUID|executorID)}
    verifies the proof: nothing secret, and no code, has been sent so far
    POST /claim {secret, principal}     ->    403 unless SHA-256(secret) is mine; 409 when another principal holds it
                                        <-    {token, epoch, slots}; phase Claimed, for this principal for life
    POST /execute (data port)                 401 without the token; 412 when the epoch is not the latest

A claim belongs to a principal. A restarted gateway claims again for the same principal and gets a *higher* epoch, which
fences its predecessor. `/retire` is the other side of the same compare-and-set: the operator retires what nobody holds,
or what has been idle, and gets 409 when that is no longer so.

A claim may become a *session* (`POST /session`): the executor is its alone, until a deadline which it keeps by itself, idle
or busy. What a gateway has to know of a session is told in `/state`, so any replica finds it there.
"""

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self

DATA_PORT = 49999
ENVD_PORT = 49983
"""E2B's port for files and commands; a gateway reaches it as it does the data port."""
CONTROL_PORT = 49901

HEADER_TOKEN = "X-Execpool-Token"  # noqa: S105 - a header's name
HEADER_EPOCH = "X-Execpool-Epoch"
HEADER_EXECUTION = "X-Execpool-Execution"

ENV_EXECUTOR_ID = "EXECPOOL_EXECUTOR_ID"
ENV_POD_UID = "EXECPOOL_POD_UID"
ENV_SECRET_HASH = "EXECPOOL_SECRET_SHA256"  # noqa: S105 - the hash of a secret, by design not secret
ENV_SLOTS = "EXECPOOL_SLOTS"
ENV_IDLE_SECONDS = "EXECPOOL_IDLE_SECONDS"
ENV_MAX_AGE_SECONDS = "EXECPOOL_MAX_AGE_SECONDS"
ENV_NETWORK = "EXECPOOL_NETWORK"
ENV_MEMORY_BYTES = "EXECPOOL_MEMORY_BYTES"
ENV_SOCKET_DIR = "EXECPOOL_SOCKET_DIR"
ENV_STATE_DIR = "EXECPOOL_STATE_DIR"
ENV_RUNTIME = "EXECPOOL_RUNTIME"
ENV_REFUSE_SELF = "EXECPOOL_REFUSE_SELF"
"""1: connections from the server's own address are refused. In a pod, user code has that address too."""

SOCKET_DIR = "/run/execpool"
"""The emptyDir that server and runner share; read-only in the runner."""
HOME_DIR, WORK_DIR = "/home/user", "/work"
"""What contexts and commands of a claim share, as in E2B; where every run gets a directory of its own."""
STATE_DIR = "/var/lib/execpool"
"""The server's own emptyDir: a marker there says that this executor has been claimed, and outlives a container restart."""

AGE_GRACE_SECONDS = 600
"""A warm executor ends by itself this long after `maxAgeSeconds`, should the operator be away."""
KEEPALIVE_SECONDS = 5.0
"""Silence on an /execute stream after which a keepalive line is sent, as E2B does."""
MAX_OUTPUT_BYTES = 1 << 20
"""Output kept of one execution; more is dropped with a flag, and a program that goes on is ended."""
MAX_RESULT_BYTES = 4 << 20
"""Results of one execution together, as JSON; one that does not fit is replaced by a note, with a flag."""
MAX_CODE_BYTES = 1 << 20
MAX_ABOUT_BYTES = 32 << 10
"""What a gateway may have an executor remember of a session, as JSON."""
MAX_SESSION_SECONDS = 86_400.0
DEFAULT_TIMEOUT_SECONDS = 60.0
MAX_TIMEOUT_SECONDS = 3600.0


class WireError(ValueError):
    """A message of the other side that does not have the agreed form."""


class ExecutorPhase(StrEnum):
    """Phase of an executor as it reports it."""

    STARTING = "Starting"
    WARM = "Warm"
    CLAIMED = "Claimed"
    RETIRED = "Retired"


class Egress(StrEnum):
    """Whether the executor reached the API server's address at its start, which no policy of ours allows."""

    UNKNOWN = "Unknown"
    CLOSED = "Closed"
    OPEN = "Open"


class Expect(StrEnum):
    """What `/retire` expects to find; anything else is answered by 409 and changes nothing."""

    WARM = "Warm"
    IDLE = "Idle"
    """Claimed, no run in progress, and the epoch named still the latest."""
    ANY = "Any"
    """End it whatever it does: a forced deletion."""


class RunStatus(StrEnum):
    """How a run ended, in `end_of_execution`."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    TIMED_OUT = "TimedOut"
    KILLED = "Killed"
    CANCELLED = "Cancelled"
    UNKNOWN = "Unknown"
    NOT_SUPPORTED = "NotSupported"
    """Of the Monty runtime alone: nothing happened; run it elsewhere, `message` says why."""


class RunReason(StrEnum):
    """Why a run ended other than by itself."""

    NONE = ""
    TIME_LIMIT = "TimeLimit"
    MEMORY_LIMIT = "MemoryLimit"
    OUTPUT_LIMIT = "OutputLimit"
    SIGNALLED = "Signalled"
    RUNNER_LOST = "RunnerLost"
    CLIENT_GONE = "ClientGone"
    RETIRED = "Retired"
    NOT_STARTED = "NotStarted"
    """There was no process to run it: nothing of it has happened."""
    CONTEXT_LOST = "ContextLost"
    """The process of a context ended, and its state with it."""


class EventType(StrEnum):
    """Types of the NDJSON lines of `/execute`. All but the fields of END_OF_EXECUTION are E2B's."""

    NUMBER_OF_EXECUTIONS = "number_of_executions"
    STDOUT = "stdout"
    STDERR = "stderr"
    RESULT = "result"
    ERROR = "error"
    KEEPALIVE = "keepalive"
    END_OF_EXECUTION = "end_of_execution"


class _Wire:
    """JSON in and out for the frozen dataclasses below; unknown fields are ignored, missing ones are an error."""

    @classmethod
    def decode(cls, data: bytes | str | dict[str, Any]) -> Self:
        """Read a message.

        Raises:
            WireError: when it is not a JSON object, or lacks a field.
        """
        try:
            wire = data if isinstance(data, dict) else json.loads(data)
        except (TypeError, ValueError, RecursionError) as error:
            raise WireError(f"{cls.__name__}: not JSON") from error
        if not isinstance(wire, dict):
            raise WireError(f"{cls.__name__}: not a JSON object")
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        try:
            return cls(**{name: value for name, value in wire.items() if name in known})
        except TypeError as error:
            raise WireError(f"{cls.__name__}: {error}") from error

    def encode(self) -> bytes:
        """Return the message as one line of JSON without its line end."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()  # type: ignore[call-overload]


@dataclass(frozen=True)
class Challenge(_Wire):
    """`POST /challenge`: prove who you are before I tell you anything."""

    nonce: str
    pod_uid: str


@dataclass(frozen=True)
class Proof(_Wire):
    """Answer to a Challenge."""

    executor_id: str
    proof: str


@dataclass(frozen=True)
class ClaimRequest(_Wire):
    """`POST /claim`: hold this executor for a principal.

    `principal` is an opaque digest, so that the executor never learns a tenant's or a user's name.
    """

    secret: str
    principal: str
    env_vars: dict[str, str] | None = None
    """Variables of all that runs under this claim, from its next process on (E2B's `envVars`); None changes nothing."""


@dataclass(frozen=True)
class ClaimGrant(_Wire):
    """Answer to a ClaimRequest: what later calls must carry, and how many executions may run at once."""

    token: str
    epoch: int
    slots: int


@dataclass(frozen=True)
class RetireRequest(_Wire):
    """`POST /retire`: take no further work and exit. `epoch` is only looked at with Expect.IDLE."""

    secret: str
    expect: str
    epoch: int = 0


@dataclass(frozen=True)
class SessionRequest(_Wire):
    """`POST /session`, with the headers of a call on the data port: give the executor to a session, or move its end.

    The first one needs an executor that has run nothing; afterwards only this session's calls are taken.
    """

    session: str
    """Its id: letters and digits."""
    ends_in_seconds: float
    """From now; not above 0: the session is over at once, and the executor with it."""
    about: dict[str, Any] | None = None
    """Told in `State`, so nothing secret; None leaves it as it is."""
    env_vars: dict[str, str] | None = None
    """As in ClaimRequest."""


@dataclass(frozen=True)
class SessionState(_Wire):
    """Which session has an executor, for `State`."""

    id: str
    left_seconds: float
    about: dict[str, Any]


@dataclass(frozen=True)
class ClaimState(_Wire):
    """Who holds an executor, for `State`. Seconds are durations, so that no two clocks are compared."""

    principal: str
    epoch: int
    held_seconds: float
    idle_seconds: float
    """Since the last run ended or the claim was made; 0 while something runs, or a session has it."""
    running: int
    executions: int
    """Runs started under this claim so far."""


@dataclass(frozen=True)
class State(_Wire):
    """`GET /state`: what an executor says of itself. Needs no secret and holds none."""

    executor_id: str
    pod_uid: str
    phase: str
    egress: str
    slots: int
    age_seconds: float
    claim: dict[str, Any] | None = None
    modules: dict[str, str] | None = None
    """What programs can import, with versions: the gateway routes by it. None while no runner has said so."""
    session: dict[str, Any] | None = None

    def held_by(self) -> ClaimState | None:
        """Return the claim, typed; None while unclaimed."""
        return None if self.claim is None else ClaimState.decode(self.claim)

    def of_session(self) -> SessionState | None:
        """Return the session that has it, typed; None while none has."""
        return None if self.session is None else SessionState.decode(self.session)


@dataclass(frozen=True)
class ExecuteRequest(_Wire):
    """`POST /execute`: E2B's four keys, and the limits of this run."""

    code: str
    context_id: str | None = None
    language: str | None = None
    env_vars: dict[str, str] | None = None
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    output_bytes: int = MAX_OUTPUT_BYTES
    stateless: bool = True
    """In a fresh process. Without this field on the wire, as in E2B's bodies, or with a `context_id`: in a context."""


@dataclass(frozen=True)
class CreateContext(_Wire):
    """`POST /contexts`, as E2B has it."""

    cwd: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class End(_Wire):
    """The last line of an `/execute` stream (`type` is added on the wire); E2B's SDKs ignore the extra fields."""

    status: str
    reason: str = ""
    message: str = ""
    truncated: bool = False
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0


def secret_hash(secret: str) -> str:
    """Return the SHA-256 of a claim secret, which is all that an executor knows of it before its claim."""
    return hashlib.sha256(secret.encode()).hexdigest()


def prove(hashed_secret: str, nonce: str, pod_uid: str, executor_id: str) -> str:
    """Return the executor's answer to a challenge; the gateway computes the same and compares."""
    message = f"challenge/v1|{nonce}|{pod_uid}|{executor_id}".encode()
    return hmac.new(hashed_secret.encode(), message, hashlib.sha256).hexdigest()


def proof_holds(proof: str, hashed_secret: str, nonce: str, pod_uid: str, executor_id: str) -> bool:
    """True when `proof` answers the challenge; compared in constant time."""
    return hmac.compare_digest(proof, prove(hashed_secret, nonce, pod_uid, executor_id))


def secret_matches(secret: str, hashed_secret: str) -> bool:
    """True when `secret` is the one whose hash the executor was started with; compared in constant time."""
    return hmac.compare_digest(secret_hash(secret), hashed_secret)
