"""The program that the pool starts in the place of Monty: puts on every limit, then becomes Monty.

    pool (in the runner) -> launcher script -> main(): descriptors, limits, Landlock, seccomp -> execve(monty)

The launcher is written by the runner at its start, since the pool wants one file to execute; it runs Python isolated
from environment, site-packages and working directory. Monty gets an empty environment and its three descriptors; its
error output goes nowhere, for a panic quotes what it worked on.
"""

import os
import resource
import sys
import sysconfig
from pathlib import Path

from execpool.executor.monty import fence
from execpool.executor.runner import landlock, sandbox

MEMORY_BYTES = 32 << 20
"""Heap of one run, as Monty counts it."""
DATA_BYTES = 128 << 20
"""RLIMIT_DATA: heap, what a conversion doubles for a moment, and 17 MiB that an idle worker has."""
_CPU_SECONDS = 900
"""Of a worker's whole life; it is replaced after 1,000 runs of 0.25 s at most."""

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_LOADER_FILES = ("/etc/ld.so.cache", "/proc/self/maps", "/proc/sys/vm/overcommit_memory")

_LAUNCHER = """#!{python} -ISB
import sys
sys.path.insert(0, {source!r})
from execpool.executor.monty import worker
worker.main({binary!r}, sys.argv[1:])
"""


def binary() -> Path:
    """Return Monty's program, which its wheel puts beside Python's."""
    return Path(sysconfig.get_path("scripts")) / "monty"


def write_launcher(directory: Path) -> Path:
    """Write the script that the pool executes; returns its path."""
    path = directory / "monty-worker"
    source = str(Path(__file__).resolve().parents[3])
    path.write_text(_LAUNCHER.format(python=sys.executable, source=source, binary=str(binary())), encoding="utf-8")
    path.chmod(0o500)
    return path


def main(program: str, arguments: list[str]) -> None:
    """Become Monty, fenced in. Raises when a fence is refused: then there is no worker, and nothing runs."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    _limit()
    sandbox.prefer_as_victim()
    version = landlock.abi()
    if version:
        sandbox.no_new_privileges()
        landlock.enter_files(version, _grants(program))
    fence.enter_filter()
    os.execve(program, [program, *arguments], {})  # noqa: S606 - no shell is the point


def _grants(program: str) -> list[tuple[str, int]]:
    may_load = landlock.EXECUTE | landlock.READ_FILE
    loaded = [(path, may_load) for path in (program, *_LIBRARIES)]
    return [*loaded, *((path, landlock.READ_FILE) for path in _LOADER_FILES)]


def _limit() -> None:
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_DATA, DATA_BYTES),
    ):
        resource.setrlimit(kind, (most, most))
