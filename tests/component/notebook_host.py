"""The notebook as the executor uses it, for tests: warmed up once, every list of cells in a fork of its own.

    python -m tests.component.notebook_host     reads {"cells": [...]} lines, answers one JSON line each

Standard output and errors of a cell go to files, and every event notes how far these had come: so the order of prints
and results is exact, though they travel apart.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from execpool.executor.runner import figures
from execpool.executor.runner.notebook import Notebook

Cell = dict[str, Any]


class Host:
    """A running host; use as a context."""

    def __enter__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="execpool-notebook-")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.component.notebook_host"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(self._directory.name),
            text=True,
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)
        self._directory.cleanup()

    def run(self, *cells: str, program: bool = False, network: bool = True) -> list[Cell]:
        """Run cells one after the other in one fork; each answer has stdout, stderr, events and how it ended.

        `program` is followed by the end of the process, and believed when it reports success.
        """
        self._process.stdin.write(json.dumps({"cells": cells, "program": program, "network": network}) + "\n")
        self._process.stdin.flush()
        answers = json.loads(self._process.stdout.readline())
        assert len(answers) == len(cells), answers
        return answers


def _environment(directory: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG") if name in os.environ}
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join([str(Path(source) / "operator"), source, kept.get("PYTHONPATH", "")])
    cache = str(Path(tempfile.gettempdir()) / "execpool-test-matplotlib")
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **figures.ENVIRONMENT, **threads, "PYTHONPATH": path, "HOME": directory, "MPLCONFIGDIR": cache}


def main() -> None:
    """Serve until the input ends."""
    notebook = Notebook()
    importlib.import_module("matplotlib.pyplot")  # what a second zygote has
    importlib.import_module("pandas")
    notebook.warm_up()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a thread is left"
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for request in requests:
        wanted = json.loads(request)
        with tempfile.TemporaryFile("w+") as report, tempfile.TemporaryDirectory() as directory:
            if os.fork() == 0:
                _serve(wanted, report, directory)
            os.wait()
            report.seek(0)
            answers.write(json.dumps([json.loads(line) for line in report]) + "\n")
            answers.flush()


def _serve(wanted, report, directory):
    os.chdir(directory)
    notebook = Notebook(network=wanted["network"])
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - stays
    for cell in wanted["cells"]:
        report.write(json.dumps(_evaluated(notebook, cell, program=wanted["program"])) + "\n")
        report.flush()
    os._exit(0)


def _evaluated(notebook, cell, *, program) -> Cell:
    events: list[Cell] = []
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.stdout = sys.__stdout__ = _text(1)
        sys.stderr = sys.__stderr__ = _text(2)

        def emit(event):
            assert json.dumps(event, allow_nan=False)
            events.append({**event, "after": [os.fstat(file.fileno()).st_size for file in (out, err)]})

        ended = notebook.evaluate(cell, emit, believe_exit=program)
        left = notebook.leave(emit) if program else ended
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0) for file in (out, err)]
    return {
        "stdout": texts[0].decode("utf-8", "replace"),
        "stderr": texts[1].decode("utf-8", "replace"),
        "events": events,
        "how": ended.how,
        "exit_code": ended.exit_code,
        "well": ended.well and left.well,
    }


def _text(descriptor):
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
