"""`execpool-gateway`: settings, logs, the API server, signals. Everything else is `service.py`."""

import asyncio
import logging
import signal
import sys

import uvloop

from execpool.core.proof import KeyRing
from execpool.gateway.service import Service
from execpool.kube.client import KubeClient
from execpool.settings import GatewaySettings, RootKeyError
from execpool.telemetry import logs
from execpool.telemetry.metrics import count_request

log = logging.getLogger(__name__)


def run() -> None:
    """Run the gateway until SIGTERM or SIGINT; exit 1 when it cannot go on."""
    settings = GatewaySettings()
    logs.configure(settings.log_level)
    try:
        keys = settings.key_ring()
    except RootKeyError as error:
        sys.exit(f"execpool-gateway: {error}")
    sys.exit(uvloop.run(serve(settings, keys)))


async def serve(settings: GatewaySettings, keys: KeyRing) -> int:
    """Serve until told to stop; return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    kubeconfig = None if settings.kubeconfig is None else str(settings.kubeconfig)
    async with await KubeClient.connect(
        kubeconfig=kubeconfig, context=settings.context, on_request=count_request
    ) as kube:
        return 0 if await Service(settings, kube, keys).run(stop) else 1


if __name__ == "__main__":
    run()
