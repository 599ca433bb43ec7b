"""Run every program twice on one core: CPU time, memory, and whether it prints the same both times.

    python examples/workload/measure.py

Prints the table of README.md.
"""

import os
import subprocess
import sys
from pathlib import Path

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def run(program: Path) -> tuple[bytes, float, float, int]:
    """Return what a program prints, its CPU seconds, its peak memory in MiB and its exit code."""
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, env=os.environ | ONE_THREAD) as process:
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return output, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, process.returncode


def main() -> int:
    """Print one row for each program; 1 when one fails or is not deterministic."""
    failures = 0
    print("| program | CPU seconds | peak MiB | same output twice |\n| --- | ---: | ---: | --- |")
    for program in sorted(Path(__file__).parent.glob("user-*/*.py")):
        (first, seconds, memory, code), (second, again, *_) = run(program), run(program)
        fine = code == 0 and first == second
        failures += not fine
        name = program.relative_to(Path(__file__).parent)
        print(f"| {name} | {min(seconds, again):.1f} | {memory:.0f} | {'yes' if fine else 'NO'} |", flush=True)
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
