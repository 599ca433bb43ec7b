"""CPU time and memory of processes of this host, from /proc.

Containers of the one-node cluster are processes of this machine, found by the UID of their pod in their cgroup. CPU time
is the scheduler's own (nanoseconds, `schedstat`), since ticks of 10 ms are too coarse for what hardly runs.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import BenchmarkError

PROC = Path("/proc")
MIB = 1 << 20


@dataclass(frozen=True)
class Usage:
    """What some processes have used and hold: CPU seconds so far, MiB now."""

    cpu_seconds: float
    rss: float
    pss: float


def of_pod(uid: str) -> dict[str, tuple[int, ...]]:
    """Return the processes of a pod by its containers' ids."""
    forms = (f"pod{uid}/", f"pod{uid.replace('-', '_')}")
    found: dict[str, list[int]] = {}
    for pid in _pids():
        group = _read(pid, "cgroup").splitlines()
        path = next((line.split(":", 2)[2] for line in group if any(form in line for form in forms)), "")
        if path:
            found.setdefault(path.rsplit("/", 1)[-1], []).append(pid)
    return {container: tuple(pids) for container, pids in found.items()}


def of_container(uid: str, argument: str) -> tuple[int, ...]:
    """Return the processes of the container of a pod in which a process was started with this last argument."""
    for pids in of_pod(uid).values():
        if any(
            command(pid)[-1:] == [argument] or command(pid)[-1:] == [f"/opt/execpool/bin/{argument}"] for pid in pids
        ):
            return pids
    raise BenchmarkError(f"no process of pod {uid} runs {argument!r} on this host; the cluster must be on this machine")


def named(program: str) -> tuple[int, ...]:
    """Return the processes of a program."""
    found = tuple(pid for pid in _pids() if command(pid)[:1] and Path(command(pid)[0]).name == program)
    if not found:
        raise BenchmarkError(f"{program} does not run on this host")
    return found


def command(pid: int) -> list[str]:
    """Return the command line of a process; empty when it is gone."""
    return _read(pid, "cmdline").split("\0")[:-1]


def is_victim(pid: int) -> bool:
    """True for a process that the kernel is to end first when memory runs out."""
    return _read(pid, "oom_score_adj").strip() == "1000"


def private_mib(pid: int) -> float:
    """Return what a process holds that it shares with no other; 0 when it is gone."""
    lines = _read(pid, "smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / MIB


def age_seconds(pid: int) -> float:
    """Return for how long a process has been there."""
    ticks = int(_read(pid, "stat").rpartition(")")[2].split()[19])
    return float(_read_uptime()) - ticks / os.sysconf("SC_CLK_TCK")


def usage(pids: Iterable[int]) -> Usage:
    """Return the sum over processes; those that have gone count as nothing."""
    listed = tuple(pids)
    sizes = [_sizes(pid) for pid in listed]
    return Usage(
        cpu_seconds=sum(_cpu_seconds(pid) for pid in listed),
        rss=sum(rss for rss, _ in sizes),
        pss=sum(pss for _, pss in sizes),
    )


def _cpu_seconds(pid: int) -> float:
    total = 0
    for task in (PROC / str(pid) / "task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[0])
        except (OSError, IndexError):
            continue
    return total / 1e9


def _sizes(pid: int) -> tuple[float, float]:
    fields = dict(line.split(":", 1) for line in _read(pid, "smaps_rollup").splitlines() if ":" in line)
    return tuple(int(fields.get(name, "0 kB").split()[0]) * 1024 / MIB for name in ("Rss", "Pss"))  # type: ignore[return-value]


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _read_uptime() -> str:
    return (PROC / "uptime").read_text().split()[0]


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""
