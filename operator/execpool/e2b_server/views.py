"""How sandboxes look on the wire. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

CLIENT_ID = "6532622b"
"""The same for everybody, as on E2B."""
ENVD_VERSION = "0.6.8"
"""What the executor speaks; clients choose by it what they ask for."""
DISK_MB = 10 * 1024


class Shown(StrEnum):
    """State of a sandbox, as it is shown: there are no others."""

    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True)
class View:
    """What clients are told of a sandbox. Times are seconds since the epoch."""

    id: str
    template: str
    state: Shown
    started_at: float
    ends_at: float
    metadata: Mapping[str, str]
    cpu_count: int
    memory_mb: int
    internet: bool
    private_traffic: bool = False
    """Ports of the sandbox, but envd's, are closed to whoever has not its traffic token."""
    pauses_at_deadline: bool = False
    auto_resume: bool = False


def moment(seconds: float) -> str:
    """Return a time as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def created(view: View, *, access_token: str, traffic_token: str, domain: str) -> dict[str, Any]:
    """Return the answer to a creation, or to a connection."""
    traffic = {"trafficAccessToken": traffic_token} if traffic_token else {}
    return {
        "templateID": view.template,
        "alias": view.template,
        "sandboxID": view.id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": access_token,
        "domain": domain or None,
        **traffic,
    }


def listed(view: View) -> dict[str, Any]:
    """Return an item of a list."""
    return {
        "templateID": view.template,
        "alias": view.template,
        "sandboxID": view.id,
        "clientID": CLIENT_ID,
        "startedAt": moment(view.started_at),
        "endAt": moment(view.ends_at),
        "envdVersion": ENVD_VERSION,
        "cpuCount": view.cpu_count,
        "memoryMB": view.memory_mb,
        "diskSizeMB": DISK_MB,
        "state": view.state.value,
        "metadata": dict(view.metadata),
    }


def detailed(view: View, *, access_token: str, domain: str) -> dict[str, Any]:
    """Return all that is told of a sandbox."""
    return {
        **listed(view),
        "envdAccessToken": access_token,
        "domain": domain or None,
        "allowInternetAccess": view.internet,
        "network": {"allowPublicTraffic": not view.private_traffic},
        "lifecycle": {"onTimeout": "pause" if view.pauses_at_deadline else "kill", "autoResume": view.auto_resume},
    }
