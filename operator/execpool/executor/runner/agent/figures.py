"""What the container uses, as far as its files say: E2B's `/metrics`. Zero where the kernel does not tell."""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from execpool.executor.runner import limits

_V2, _V1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")


class Figures:
    """Remembers the processor time of the last reading."""

    def __init__(self) -> None:
        self._at = time.monotonic()
        self._used = _cpu_seconds()

    def read(self, home: str) -> dict[str, Any]:
        """Return the figures of now; processor use is since the last reading."""
        now, used = time.monotonic(), _cpu_seconds()
        share = (used - self._used) / max(now - self._at, 0.001)
        self._at, self._used = now, used
        disk = os.statvfs(home)
        total = _first(_V2 / "memory.max", _V1 / "memory.limit_in_bytes")
        return {
            "ts": int(time.time()),
            "cpu_count": limits.cpu_count(),
            "cpu_used_pct": round(max(share, 0.0) * 100, 2),
            "mem_total": total if total < 1 << 60 else 0,
            "mem_used": _first(_V2 / "memory.current", _V1 / "memory.usage_in_bytes"),
            "mem_cache": _field("cache ", _V1 / "memory.stat") or _field("file ", _V2 / "memory.stat"),
            "disk_total": disk.f_blocks * disk.f_frsize,
            "disk_used": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
        }


def _cpu_seconds() -> float:
    microseconds = _field("usage_usec ", _V2 / "cpu.stat")
    return microseconds / 1e6 if microseconds else _first(Path("/sys/fs/cgroup/cpuacct/cpuacct.usage")) / 1e9


def _first(*files: Path) -> int:
    for file in files:
        with suppress(OSError, ValueError):
            return int(file.read_text(encoding="ascii"))
    return 0


def _field(name: str, file: Path) -> int:
    with suppress(OSError, ValueError):
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.removeprefix(name))
    return 0
