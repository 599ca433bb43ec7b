"""What a run may use: the limits that the kernel keeps per process, and the readings they are derived from.

Memory. RLIMIT_DATA (private writable memory) and never RLIMIT_AS: libraries reserve address space that they do not use.
Every process of a run may hold `base + allowance`, with `base` = what the zygote holds already at the fork (VmData) and

    usable    = container limit - 1/8 (scratch files are in memory) - 64 MiB (page tables, /dev/shm) - base - overhead
    overhead  = 16 MiB per parked process and its supervisor + 160 MiB for the branch that has the scientific libraries
    allowance = max(usable / slots, min(usable, 512 MiB))

so that all slots in use stay below the container's limit unless it is small, in which case one run gets 512 MiB rather
than too little to import anything. The hard limit is 32 MiB above: a MemoryError is raised at the soft one, and the
handler raises it to the hard one to have room for the traceback. The limit is per process; a run that spreads over
many processes meets the container's own limit, where the kernel ends it (its `oom_score_adj` is the highest there is).

Processes. As many as `usable` holds at 6 MiB each, at least 64 and at most 384, threads and the runner's own dozen included:
a fork bomb then meets this limit before the container's memory, where the kernel's choice of what to end, and the reading
again of pages it had to drop, hold up everything else in the container (for 160 s, seen in one of 768 MiB).
RLIMIT_NPROC counts per user *and user namespace*, so it is set only in a namespace of our own: elsewhere it would count,
and starve, the executors of others on the same node. There, the pod's pids and memory limits bound a run.
"""

import math
import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
HEADROOM = 32 * MIB
_LEAST_USEFUL = 512 * MIB
_PARKED_BYTES = 16 * MIB
_BRANCH_BYTES = 160 * MIB
LEAST_FOR_SCIENCE = 768 * MIB
"""In a smaller container, the scientific libraries are imported by the runs that use them."""
_MOST_PROCESSES = 384
"""Of all code together, threads included; below what a node gives a pod (512 is common), so that the runner can go on."""
_FEWEST_PROCESSES = 64
_PROCESS_BYTES = 6 * MIB
"""Of a fork that computes nothing: 1.6 MiB to begin with, about 6 once the interrupt at its limit made it tell of an exception."""
_MAX_FILES = 1024
_MAX_FILE_BYTES = 1 << 30

_OOM_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory/memory.oom_control"))
_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CPU_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


@dataclass(frozen=True)
class Limits:
    """Limits of every process of a run; 0 means none."""

    data_bytes: int
    processes: int
    cpus: int
    """Processors that the container may keep busy; at least 1."""


def derive(
    memory_bytes: int, slots: int, base_bytes: int, *, own_namespace: bool, cpus: int, overhead_bytes: int = 0
) -> Limits:
    """Return the limits for a container. Pure."""
    data, processes = 0, _MOST_PROCESSES
    if memory_bytes:
        usable = max(memory_bytes - memory_bytes // 8 - 64 * MIB - base_bytes - overhead_bytes, 32 * MIB)
        data = base_bytes + max(usable // slots, min(usable, _LEAST_USEFUL))
        processes = min(max(usable // _PROCESS_BYTES, _FEWEST_PROCESSES), _MOST_PROCESSES)
    return Limits(data, processes if own_namespace else 0, max(cpus, 1))


def overhead(slots: int, *, science: bool) -> int:
    """Return what the runner itself holds beside the zygote's memory. Pure."""
    return (slots + 1) * _PARKED_BYTES + (_BRANCH_BYTES + 2 * _PARKED_BYTES if science else 0)


def apply(limits: Limits) -> None:
    """Put the limits on this process and all that it starts; processor time comes with each request."""
    wanted = [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _MAX_FILES, _MAX_FILES),
        (resource.RLIMIT_FSIZE, _MAX_FILE_BYTES, _MAX_FILE_BYTES),
    ]
    if limits.processes:
        wanted.append((resource.RLIMIT_NPROC, limits.processes, limits.processes))
    if limits.data_bytes:
        wanted.append((resource.RLIMIT_DATA, limits.data_bytes, limits.data_bytes + HEADROOM))
    for kind, soft, hard in wanted:
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)  # noqa: PLW2901 - never above what we were given
        resource.setrlimit(kind, (soft, hard))


def apply_cpu(limits: Limits, timeout_seconds: float, *, once: bool) -> None:
    """Limit the processor time of this process, and of each that it starts, for one more request.

    The last resort behind the wall clock, for a process that nobody can reach. `once` makes it final.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + (timeout_seconds + 1) * limits.cpus)
    ceiling = resource.getrlimit(resource.RLIMIT_CPU)[1]
    hard = soft + 5 if once else ceiling
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def use_headroom() -> None:
    """Raise the soft memory limit to the hard one, so that a MemoryError can be reported."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def data_bytes() -> int:
    """Return the data memory of this process as RLIMIT_DATA counts it."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def in_own_namespace() -> bool:
    """True in a user namespace, where limits per user are ours alone; never for root, whom NPROC does not bind."""
    mapping = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    return os.getuid() != 0 and mapping != ["0", "0", "4294967295"]


def out_of_memory_kills() -> int:
    """Return how often the kernel ended a process of this container for want of memory; 0 when it does not say."""
    for counter in _OOM_COUNTERS:
        with suppress(OSError, ValueError):
            for line in counter.read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def cpu_count() -> int:
    """Return how many processors this container may keep busy, rounded up; all of the machine's without a quota."""
    everything = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):
        quota, _, period = _CPU_MAX.read_text(encoding="ascii").strip().partition(" ")
        return min(everything, math.ceil(int(quota) / int(period)))
    with suppress(OSError, ValueError):
        quota_us = int(_CPU_QUOTA.read_text(encoding="ascii"))
        if quota_us > 0:
            return min(everything, math.ceil(quota_us / int(_CPU_PERIOD.read_text(encoding="ascii"))))
    return everything
