"""`python -m benchmarks [NAME...] [--output json]`: run benchmarks, or list them.

Each is bounded in time and works in a namespace of its own, which is removed afterwards. Exit status 1 when one failed,
2 when there is nothing to measure.
"""

import argparse
import asyncio
import os
import sys
import time

import aiohttp
from rich.console import Console

from benchmarks.cluster import Cluster, open_cluster
from benchmarks.figures import BenchmarkError
from benchmarks.report import Outcome, document, show
from benchmarks.suite import SUITE, Benchmark
from execpool.kube.errors import KubeError

LIMIT_SECONDS = 90.0
"""Longest time for one benchmark, without the removal of what it made."""


def main() -> int:
    """Read the command line and run; return the exit status."""
    arguments = _arguments()
    if arguments.list:
        print(*(f"{name:16} {benchmark.question}" for name, benchmark in SUITE.items()), sep="\n")
        return 0
    unknown = [name for name in arguments.names if name not in SUITE]
    if unknown:
        print(f"benchmarks: there is no {', '.join(unknown)}; there are {', '.join(SUITE)}", file=sys.stderr)
        return 2
    console = Console(stderr=arguments.output == "json", highlight=False)
    try:
        outcomes = asyncio.run(_run_all(arguments.names or list(SUITE), console))
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    if arguments.output == "json":
        print(document(outcomes))
    return int(any(outcome.result is None for outcome in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure execpool on the cluster of `make up`."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run; all of them when none is named")
    parser.add_argument("--list", action="store_true", help="say which benchmarks there are")
    parser.add_argument(
        "--output", choices=("table", "json"), default="table", help="json: tables on stderr, one document on stdout"
    )
    return parser.parse_args()


async def _run_all(names: list[str], console: Console) -> list[Outcome]:
    outcomes = []
    for name in names:
        async with open_cluster() as cluster:  # again each time: execpool may have been installed anew meanwhile
            outcome = await _run(name, SUITE[name], cluster)
        show(console, outcome)
        outcomes.append(outcome)
    return outcomes


async def _run(name: str, benchmark: Benchmark, cluster: Cluster) -> Outcome:
    load, began = os.getloadavg()[0], time.monotonic()
    result, error = None, ""
    try:
        async with cluster.namespace() as namespace, asyncio.timeout(LIMIT_SECONDS):
            result = await benchmark.measure(namespace)
    except TimeoutError:
        error = f"not done within {LIMIT_SECONDS:.0f} s; the machine may be too busy (load {os.getloadavg()[0]:.1f})"
    except (BenchmarkError, KubeError) as failure:
        error = str(failure)
    except (aiohttp.ClientError, OSError) as failure:
        error = f"a connection failed; is somebody installing execpool anew? {failure!r}"
    return Outcome(name, benchmark.question, time.monotonic() - began, load, os.getloadavg()[0], result, error)


if __name__ == "__main__":
    sys.exit(main())
