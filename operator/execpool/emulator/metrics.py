"""What sandboxes use, measured on their processes."""

import os
import time
from typing import Any

from execpool.e2b_server import views
from execpool.emulator.account import Sandbox
from execpool.providers.local_executor import LocalExecutor


class Metrics:
    """Remembers the processor time of the last reading of each sandbox."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def read(self, sandbox: Sandbox, executor: LocalExecutor, now: float) -> dict[str, Any]:
        """Return one reading; processor use is since the last one, or since the processes began."""
        usage, clock = executor.usage(), time.monotonic()
        since, used = self._last.get(sandbox.id, (clock - executor.age_seconds(), 0.0))
        self._last[sandbox.id] = clock, usage.cpu_seconds
        share = (usage.cpu_seconds - used) / max(clock - since, 0.001)
        disk = os.statvfs(executor.places.root)
        return {
            "timestamp": views.moment(now),
            "timestampUnix": int(now),
            "cpuCount": sandbox.order.template.cpu_count,
            "cpuUsedPct": round(max(share, 0.0) * 100, 2),
            "memUsed": usage.memory_bytes,
            "memTotal": sandbox.order.template.memory_mb << 20,
            "memCache": 0,
            "diskUsed": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            "diskTotal": disk.f_blocks * disk.f_frsize,
        }
