"""What a ground holds when nothing runs: processes and threads, and bytes and names on the file systems that runs write to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Footprint:
    """One look. A campaign's last one may exceed its first in nothing."""

    processes: tuple[str, ...]
    """Every process that user code may have made, those of the runner itself included."""
    tasks: int = 0
    """What the pids controller counts: threads and zombies too; 0 where there is none."""
    used: tuple[tuple[str, int, int], ...] = ()
    """By file system in memory: bytes, and names."""

    def size(self) -> tuple[int, int, tuple[tuple[str, int, int], ...]]:
        """Return what is compared."""
        return len(self.processes), self.tasks, self.used

    def beyond(self, baseline: "Footprint") -> list[str]:
        """Return in what this exceeds the baseline, in words."""
        found = []
        if len(self.processes) > len(baseline.processes):
            found.append(f"{len(self.processes) - len(baseline.processes)} more processes: {self.processes[:30]}")
        if self.tasks > baseline.tasks:
            found.append(f"{self.tasks - baseline.tasks} more tasks")
        for (where, size, names), (_, size_before, names_before) in zip(self.used, baseline.used, strict=True):
            if size > size_before:
                found.append(f"{size - size_before} more bytes on {where}")
            if names > names_before:
                found.append(f"{names - names_before} more names on {where}")
        return found


def used(places: Mapping[str, Path]) -> tuple[tuple[str, int, int], ...]:
    """Return how full file systems are."""
    return tuple((name, *_used(path)) for name, path in places.items())


def _used(path: Path) -> tuple[int, int]:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_files - found.f_ffree
