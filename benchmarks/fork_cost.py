"""What a fork costs, and what full isolation adds: a program that runs in the runner's container.

It prepares itself as the zygote does (same imports, same malloc, frozen) and then forks in turn: a process that writes
one byte and nothing else, and one that goes through every step of `isolate` and then writes the byte. Both are a fork of
the same process, so their pages are the same. With `--rate`, bare forks one after the other, ended and waited for.

Run by `executor_start` and `executor_rate`; prints JSON.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from execpool.executor import settings
from execpool.executor.runner import isolate, prepare, sandbox

ROUNDS = 100
RATE_SECONDS = 3.0


def main() -> None:
    wants_rate = "--rate" in sys.argv  # the notebook replaces them
    place = Path(tempfile.mkdtemp(dir=os.environ["EXECPOOL_WORK_DIR"]))
    try:
        for name in ("work", "scratch", "home"):
            (place / name).mkdir()
        options = settings.RunnerSettings(
            work_dir=place / "work", sweep_dirs=(place / "scratch",), home_dir=place / "home", memory_bytes=1 << 30
        )
        tools = prepare.prepare(options, sandbox.Measures())
        if wants_rate:
            print(json.dumps(_rate()))
        else:
            isolated = _isolated(tools, place)
            _to_first_byte(_bare), _to_first_byte(isolated)
            print(json.dumps([[_to_first_byte(_bare), _to_first_byte(isolated)] for _ in range(ROUNDS)]))
    finally:
        shutil.rmtree(place)


def _bare(write_end: int) -> None:
    os.write(write_end, b"x")


def _isolated(tools: isolate.Tools, place: Path) -> Callable[[int], None]:
    def body(write_end: int) -> None:
        isolate.begin()
        isolate.keep((0, 1, 2, write_end))
        isolate.own_streams()
        settings.replace_environment(isolate.environment(tools, place / "home", place / "scratch", place / "home"))
        sandbox.adopt_orphans()
        isolate.enter(tools, [place / "work"])
        os.write(3, b"x")

    return body


def _to_first_byte(body: Callable[[int], None]) -> float:
    read_end, write_end = os.pipe()
    began = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            body(write_end)
        finally:
            os._exit(0)
    os.close(write_end)
    said = os.read(read_end, 1)
    took = time.perf_counter() - began
    os.waitpid(pid, 0)
    os.close(read_end)
    if not said:
        raise RuntimeError("a fork failed before its first byte")
    return took


def _rate() -> float:
    """Return forks per second, each ended and waited for before the next."""
    began, forks = time.perf_counter(), 0
    while time.perf_counter() - began < RATE_SECONDS:
        _to_first_byte(_bare)
        forks += 1
    return forks / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
