"""What a request is for: one port serves the control plane and every sandbox. Pure.

    X-API-Key                                    the control plane
    Host <port>-<id>[-suffix].<domain>           that port of that sandbox
    E2b-Sandbox-Id and E2b-Sandbox-Port          that port of that sandbox
    /files with a signature                      the sandbox whose token made it: such a URL holds no id
    anything else                                the control plane, which will ask for a key

Ids have no hyphen: what follows one is what older clients append, and is dropped.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from execpool.e2b_server.errors import NotFoundError
from execpool.protocol import DATA_PORT, ENVD_PORT

_HOST = re.compile(r"(?P<port>\d{1,5})-(?P<id>[a-z0-9]+)(-[a-z0-9-]+)?\.")
_ID = re.compile(r"[a-z0-9]{1,64}\Z")


class Call(StrEnum):
    """Every kind of call: what faults are ordered for and what the ledger names."""

    HEALTH = "health"
    CREATE = "create"
    LIST = "list"
    GET = "get"
    TIMEOUT = "timeout"
    REFRESH = "refresh"
    CONNECT = "connect"
    RESUME = "resume"
    PAUSE = "pause"
    KILL = "kill"
    METRICS = "metrics"
    ALL_METRICS = "all_metrics"
    LOGS = "logs"
    NOT_OFFERED = "not_offered"
    EXECUTE = "execute"
    CONTEXTS = "contexts"
    FILES = "files"
    PROCESS = "process"
    FILESYSTEM = "filesystem"
    ENVD = "envd"
    """Other calls to a sandbox, its health among them."""


@dataclass(frozen=True)
class Control:
    """A call to the control plane."""


@dataclass(frozen=True)
class Inside:
    """A call to a port of a sandbox."""

    sandbox_id: str
    port: int


@dataclass(frozen=True)
class Signed:
    """A signed URL: the sandbox has to be found by its token."""


@dataclass(frozen=True)
class Misrouted:
    """A call that names no sandbox as it has to be named; the sentence is the real proxy's."""

    sentence: str


Destination = Control | Inside | Signed | Misrouted


def destination(headers: Mapping[str, str], path: str, query: Mapping[str, list[str]]) -> Destination:
    """Return what a request is for; header names are in lower case."""
    if "x-api-key" in headers:
        return Control()
    if found := _HOST.match(headers.get("host", "").lower()):
        return Inside(found["id"], int(found["port"]))
    sandbox_id, port = headers.get("e2b-sandbox-id", ""), headers.get("e2b-sandbox-port", "")
    if sandbox_id or port:
        return _by_headers(without_suffix(sandbox_id), port)
    if path == "/files" and "signature" in query:
        return Signed()
    return Control()


def without_suffix(sandbox_id: str) -> str:
    """Return an id without what clients of version 1.0 append."""
    return sandbox_id.partition("-")[0]


def control_call(method: str, path: str) -> tuple[Call, str]:
    """Return which call of the control plane this is, and the sandbox that it names.

    Raises:
        NotFoundError: there is no such path.
    """
    for wanted, pattern, call in _CONTROL:
        if wanted == method and (found := pattern.fullmatch(path)):
            return call, without_suffix(found.groupdict().get("id", ""))
    if _ELSEWHERE.match(path):
        return Call.NOT_OFFERED, ""
    raise NotFoundError(f"there is no {method} {path[:100]}")


def inside_call(port: int, path: str) -> Call:
    """Return which call to a sandbox this is."""
    first = path.lstrip("/").partition("/")[0]
    return _INSIDE.get((port, first), Call.ENVD)


def _by_headers(sandbox_id: str, port: str) -> Destination:
    if not (sandbox_id and port):
        return Misrouted("missing header")
    if not _ID.match(sandbox_id):
        return Misrouted("Invalid sandbox ID")
    if not (port.isascii() and port.isdigit() and len(port) < 6):
        return Misrouted("invalid sandbox port")
    return Inside(sandbox_id, int(port))


_INSIDE = {
    (DATA_PORT, "execute"): Call.EXECUTE,
    (DATA_PORT, "contexts"): Call.CONTEXTS,
    (ENVD_PORT, "files"): Call.FILES,
    (ENVD_PORT, "process.Process"): Call.PROCESS,
    (ENVD_PORT, "filesystem.Filesystem"): Call.FILESYSTEM,
}

_CONTROL = [
    (method, re.compile(path.replace("{id}", r"(?P<id>[^/]+)")), call)
    for method, path, call in (
        ("GET", "/health", Call.HEALTH),
        ("POST", "(/v2)?/sandboxes", Call.CREATE),
        ("GET", "(/v2)?/sandboxes", Call.LIST),
        ("GET", "/sandboxes/metrics", Call.ALL_METRICS),
        ("GET", "/sandboxes/{id}", Call.GET),
        ("DELETE", "/sandboxes/{id}", Call.KILL),
        ("POST", "/sandboxes/{id}/timeout", Call.TIMEOUT),
        ("POST", "/sandboxes/{id}/refreshes", Call.REFRESH),
        ("POST", "(/v2)?/sandboxes/{id}/connect", Call.CONNECT),
        ("POST", "/sandboxes/{id}/resume", Call.RESUME),
        ("POST", "/sandboxes/{id}/pause", Call.PAUSE),
        ("GET", "/sandboxes/{id}/metrics", Call.METRICS),
        ("GET", "(/v2)?/sandboxes/{id}/logs", Call.LOGS),
    )
]

_ELSEWHERE = re.compile(
    r"/(sandboxes/[^/]+/(network|snapshots|fork)|snapshots|(v\d/)?templates|volumes|volumecontent|secrets)(/|\Z)"
)
"""What the real service has beside this."""
