"""How long `execpool dev` takes from nothing to the first answer: the command, its pool, one execution through its gateway.

Measured from outside, from the start of the process until the program's first line is there, in a fresh process each time; files
are in the page cache, as on a machine where somebody works. As root it runs as an ordinary user too, with no right but to
read where Python is. Needs no cluster: `python -m benchmarks.dev_start` runs it alone.

Peers, in turn with ours in the same minutes:

- `python -c "import pandas"`: what no start of anything with pandas can be faster than;
- a Jupyter kernel, started and asked for the same line by jupyter_client: the usual way to have code run on one's own machine.
"""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from tests.component.dev_world import NOBODY, command

from benchmarks.figures import BenchmarkError, Result, times
from benchmarks.report import Outcome, show

ROUNDS = 10
QUESTION = "how long from `execpool dev` to the first answer?"
SOURCE = Path(__file__).resolve().parents[1] / "operator"
PROGRAM = "import pandas\nprint('hello', flush=True)\n"
_KERNEL = """
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel()
client.execute_interactive("import pandas; print('hello')", timeout=60)
client.stop_channels()
manager.shutdown_kernel(now=True)
"""


async def measure(_space: object) -> Result:
    """Measure; the namespace of a cluster that benchmarks are given is not used."""
    with _program() as program:
        ours = ("dev", "--port", "0", "--run", str(program))
        commands = {
            "peer: `import pandas` in a new Python": (sys.executable, "-c", PROGRAM),
            "peer: a Jupyter kernel to its first answer": (sys.executable, "-c", _KERNEL),
            "`execpool dev` to its first answer": tuple(command(*ours)),
        }
        if os.geteuid() == 0:
            commands["the same without root"] = tuple(command(*ours, uid=NOBODY))
        took: dict[str, list[float]] = {label: [] for label in commands}
        for number in range(ROUNDS + 1):
            for label, line in commands.items():
                seconds = await _until_first_line(line)
                if number:  # the first round fills caches
                    took[label].append(seconds)
    peer = took["peer: a Jupyter kernel to its first answer"]
    rows = tuple(times(label, series, peer=() if label.startswith("peer") else peer) for label, series in took.items())
    best = ", ".join(f"{label} {min(series):.2f} s" for label, series in took.items())
    return Result(
        rows, (f"best of {ROUNDS}: {best}", "ratios are to the kernel, which serves one user without limits.")
    )


@contextmanager
def _program() -> Iterator[Path]:
    """The program in a file that the other user can read."""
    with TemporaryDirectory(prefix="ep-", dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        file = Path(directory) / "program.py"
        file.write_text(PROGRAM)
        yield file


async def _until_first_line(line: tuple[str, ...]) -> float:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)}
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *line, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    answer = await process.stdout.readline()
    took = time.monotonic() - began
    _, said = await process.communicate()
    if answer != b"hello\n" or process.returncode != 0:
        raise BenchmarkError(f"{line[:4]} ended with {process.returncode}: {said.decode()[-500:]}")
    return took


def main() -> None:
    """Measure and show, without a cluster."""
    load, began = os.getloadavg()[0], time.monotonic()
    result = asyncio.run(measure(None))
    show(
        Console(highlight=False),
        Outcome("dev_start", QUESTION, time.monotonic() - began, load, os.getloadavg()[0], result),
    )


if __name__ == "__main__":
    main()
