"""How much of a corpus Monty answers, how fast, and whether every answer is CPython's.

`python -m benchmarks.monty_corpus PATH [PATH ...]`: JSON Lines with `code`, `tier_label` and `expected` (`stdout_sha256`,
`last_expr`, `error`), as in the project's corpus, which is read where it is. The peer is a new
CPython process with a program that does nothing. Exit status 1 when an answer is wrong.
"""

import argparse
import asyncio
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import percentile
from execpool.executor.monty import worker
from execpool.executor.monty.engine import Answer, Engine, Job
from execpool.executor.monty.tree import NotSupported

_PEERS = 25
"""New CPython processes that are timed."""
_REASONS = 12


@dataclass
class Tally:
    """What came of the programs of one tier label."""

    items: int = 0
    answered: int = 0
    checked: int = 0
    wrong: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    refusal_seconds: list[float] = field(default_factory=list)


def main() -> int:
    """Read the corpus, run it, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.monty_corpus", description="Run a corpus in Monty.")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files of JSON Lines")
    items = list(_items(parser.parse_args().paths))
    tallies = asyncio.run(_run(items))
    for label, tally in sorted(tallies.items()):
        _print(label, tally)
    _print_peer()
    return int(any(tally.wrong for tally in tallies.values()))


def _items(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


async def _run(items: list[dict[str, Any]]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="execpool-bench-") as name:
        async with Engine(1, worker.write_launcher(Path(name))) as engine:
            await engine.run(Job("1"))  # starts the worker
            for item in items:
                await _one(engine, item, tallies.setdefault(item["tier_label"], Tally()))
    return tallies


async def _one(engine: Engine, item: dict[str, Any], tally: Tally) -> None:
    tally.items += 1
    began = time.perf_counter()
    try:
        answer = await engine.run(Job(item["code"]))
    except NotSupported as why:
        tally.refusals[str(why)] += 1
        tally.refusal_seconds.append(time.perf_counter() - began)
        return
    tally.seconds.append(time.perf_counter() - began)
    tally.answered += 1
    expected = item["expected"]
    if expected is not None:
        tally.checked += 1
        if not _is_right(answer, expected):
            tally.wrong.append(item["id"])


def _is_right(answer: Answer, expected: dict[str, Any]) -> bool:
    printed = hashlib.sha256(answer.printed.encode()).hexdigest() == expected["stdout_sha256"]
    shown = expected["last_expr"]
    # The corpus has reprs; a text loses one pair of quotes on its way to E2B's clients.
    return printed and not expected["error"] and (answer.text == shown or (shown or "")[1:-1] == answer.text)


def _print(label: str, tally: Tally) -> None:
    print(f"{label}: {tally.answered} of {tally.items} answered ({tally.answered / tally.items:.1%})")
    print(f"  wrong: {len(tally.wrong)} of {tally.checked} with a known answer {tally.wrong or ''}")
    for name, seconds in (("answer", tally.seconds), ("NotSupported", tally.refusal_seconds)):
        if seconds:
            p50, p99 = (percentile(seconds, percent) * 1000 for percent in (50, 99))
            print(f"  {name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {max(seconds) * 1000:.1f} ms, n {len(seconds)}")
    for reason, count in tally.refusals.most_common(_REASONS):
        print(f"  {count:5} not supported: {reason}")


def _print_peer() -> None:
    seconds = []
    for _ in range(_PEERS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "print(1 + 1)"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    print(f'peer, python -c "print(1 + 1)": p50 {percentile(seconds, 50) * 1000:.1f} ms, n {len(seconds)}')


if __name__ == "__main__":
    sys.exit(main())
