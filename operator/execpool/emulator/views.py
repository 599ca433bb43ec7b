"""How sandboxes look on the wire. Pure."""

from datetime import UTC, datetime
from typing import Any

from execpool.emulator.account import Sandbox

CLIENT_ID = "6532622b"
"""The same for everybody, as on E2B."""
ENVD_VERSION = "0.6.8"
"""What the executor speaks; clients choose by it what they ask for."""
DISK_MB = 10 * 1024


def moment(seconds: float) -> str:
    """Return a time as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def created(sandbox: Sandbox, *, access_token: str, traffic_token: str, domain: str) -> dict[str, Any]:
    """Return the answer to a creation, or to a connection."""
    traffic = {"trafficAccessToken": traffic_token} if traffic_token else {}
    return {
        "templateID": sandbox.order.template.name,
        "alias": sandbox.order.template.name,
        "sandboxID": sandbox.id,
        "clientID": CLIENT_ID,
        "envdVersion": ENVD_VERSION,
        "envdAccessToken": access_token,
        "domain": domain or None,
        **traffic,
    }


def listed(sandbox: Sandbox) -> dict[str, Any]:
    """Return an item of a list."""
    order = sandbox.order
    return {
        "templateID": order.template.name,
        "alias": order.template.name,
        "sandboxID": sandbox.id,
        "clientID": CLIENT_ID,
        "startedAt": moment(sandbox.started_at),
        "endAt": moment(sandbox.deadline),
        "envdVersion": ENVD_VERSION,
        "cpuCount": order.template.cpu_count,
        "memoryMB": order.template.memory_mb,
        "diskSizeMB": DISK_MB,
        "state": sandbox.state.value,
        "metadata": order.metadata,
    }


def detailed(sandbox: Sandbox, *, access_token: str, domain: str) -> dict[str, Any]:
    """Return all that is told of a sandbox."""
    order = sandbox.order
    return {
        **listed(sandbox),
        "envdAccessToken": access_token,
        "domain": domain or None,
        "allowInternetAccess": order.internet,
        "network": {"allowPublicTraffic": not order.private_traffic},
        "lifecycle": {"onTimeout": "pause" if order.pauses_at_deadline else "kill", "autoResume": order.auto_resume},
    }
