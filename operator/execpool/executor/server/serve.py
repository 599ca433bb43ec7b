"""Puts the server together and keeps it until its end: two ports, the runner's socket, the clock of its life.

One process, one event loop. Uvicorn serves both ports; its own handling of signals and its ten wake-ups a second are
replaced, since an idle executor should cost nothing and only `lifecycle` decides when to leave.
"""

import asyncio
import logging
import signal
import socket
import time

import uvloop

from execpool.executor import frames, logs
from execpool.executor.server.app import ControlPort
from execpool.executor.server.claim import Ownership
from execpool.executor.server.data import DataPort
from execpool.executor.server.envd.app import Envd
from execpool.executor.server.lifecycle import Lifecycle, end_runs
from execpool.executor.server.marker import Marker
from execpool.executor.server.runs import Runs
from execpool.executor.settings import ServerSettings
from execpool.protocol import Egress
from execpool.serving import Port, bounded

log = logging.getLogger("execpool.executor")

_EGRESS_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 640
"""Longer than any client keeps an idle connection, so that none is closed under a request (as E2B does)."""
_CLOSE_SECONDS = 2
_MAX_CONNECTIONS = 512
"""Of one port. A gateway needs one for each slot and each call; what holds more of them idle costs itself, not the others."""


def run(settings: ServerSettings) -> int:
    """Serve until the executor ends; return the exit status."""
    logs.configure(component="server", executor_id=settings.executor_id)
    marker = Marker(settings.state_dir)
    if marker.exists():
        (settings.socket_dir / frames.GONE_NAME).touch()
        log.info("exiting", extra={"why": "ClaimedBefore"})
        return 0
    uvloop.run(_serve(settings, marker))
    return 0


async def _serve(settings: ServerSettings, marker: Marker) -> None:
    now = time.monotonic()
    ownership = Ownership(
        slots=settings.slots,
        idle_seconds=settings.idle_seconds,
        max_age_seconds=settings.max_age_seconds,
        now=now,
    )
    lifecycle = Lifecycle(ownership)
    runs = Runs(ownership, settings.socket_dir, lifecycle.changed)
    control = ControlPort(settings, ownership, runs, marker, lifecycle.changed)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, lifecycle.terminate)
    data_socket = _listen(settings.host, settings.data_port)
    control_socket = _listen(settings.host, settings.control_port)
    envd_socket = _listen(settings.host, settings.envd_port)
    envd = Envd(ownership, lambda: runs.link.start_agent(socket.SOCK_SEQPACKET), lifecycle.changed, runs.env)
    protocol = bounded(_MAX_CONNECTIONS, refuses_itself=settings.refuses_itself)
    applications = (envd, DataPort(ownership, runs, lifecycle.changed).application(), control.application())
    ports = [
        Port(application, protocol, keep_alive_seconds=_KEEP_ALIVE_SECONDS, close_seconds=_CLOSE_SECONDS)
        for application in applications
    ]
    sockets = (envd_socket, data_socket, control_socket)
    serving = [asyncio.create_task(port.serve([listening])) for port, listening in zip(ports, sockets, strict=True)]
    egress = asyncio.create_task(_check_egress(control, settings.api_server))
    runs.link.listen()
    log.info(
        "listening",
        extra={
            "data_port": data_socket.getsockname()[1],
            "control_port": control_socket.getsockname()[1],
            "envd_port": envd_socket.getsockname()[1],
        },
    )
    why = await lifecycle.reason_to_leave()
    log.info("exiting", extra={"why": why})
    envd.close()
    await end_runs(runs)
    runs.link.goodbye()
    egress.cancel()
    for port in ports:
        port.close()
    await asyncio.gather(*serving, egress, return_exceptions=True)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=512, dualstack_ipv6=host == "::")


async def _check_egress(control: ControlPort, api_server: tuple[str, int] | None) -> None:
    """Try to reach what no policy of ours allows, once: the answer tells whether policies are enforced here."""
    if api_server is None:
        return
    try:
        async with asyncio.timeout(_EGRESS_SECONDS):
            _, writer = await asyncio.open_connection(*api_server)
    except (OSError, TimeoutError):
        control.egress = Egress.CLOSED
    else:
        control.egress = Egress.OPEN
        writer.close()
    log.info("egress checked", extra={"egress": control.egress})
