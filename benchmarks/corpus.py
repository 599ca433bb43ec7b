"""`python -m benchmarks.corpus PATH [--all]`: run the development corpus through a real executor, and compare answers.

PATH is a JSON Lines file of programs with what CPython answered (`expected`: stdout, last_expr, ans, error); its inputs
lie in `inputs/` beside it. Every item whose answer and inputs are there runs in a fork of its own, as `POST /execute`
runs it. An item is `equal`; or `notebook`, where a notebook is meant to show the same answer in another way (NOTEBOOK
says how); or `absent`, when it needs a file that the corpus has not, or a library that this executor has not; or
`different`, with what was expected and what came. Exit status 1 when one is different, or is not equal for a reason that
LISTED (and so docs/notebook.md) does not give.
"""

import argparse
import ast
import asyncio
import base64
import hashlib
import json
import re
import sys
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.component.executor_process import LocalExecutor, executor

from execpool.executor.runner.display_events import unquoted

SLOTS = 2
SECONDS = 60.0
NOTEBOOK = {
    "layout": "the same value in the layout of IPython: long ones over several lines, sets sorted, beyond 1000 items cut",
    "frame": "the text of a data frame as pandas writes it in a notebook (a real ipykernel's too): up to 20 columns over several blocks, where a terminal has fewer and `...`",
    "address": "the address of an object",
}
STATSMODELS = "it imports statsmodels, which the image has not: ModuleNotFoundError"
NO_FILE = "it reads `inputs/description.md`, which the corpus has not: FileNotFoundError"
LISTED = {
    "dseval-exercise-02-filtering-sorting-chipotle-mid": NOTEBOOK["frame"],
    "dseval-exercise-02-filtering-sorting-fictional-army-mid": NOTEBOOK["frame"],
    "dseval-exercise-03-grouping-alcohol-consumption-mid": NOTEBOOK["frame"],
    "dseval-exercise-04-apply-students-alcohol-consumption-mid": NOTEBOOK["frame"],
    "dseval-kaggle-netflix-ott-revenue-and-subscribers-csv-file-full": NOTEBOOK["frame"],
    "dseval-kaggle-monthly-food-price-estimates-full": STATSMODELS,
    "dseval-kaggle-monthly-food-price-estimates-mid": STATSMODELS,
    "dseval-kaggle-students-performance-full": NO_FILE,
    "dseval-kaggle-students-performance-mid": NO_FILE,
}
"""Items of the development corpus that are not equal, and why."""
_ANS = "\0ans "
_ADDRESS = re.compile(r"0x[0-9a-f]+")
_SIZE = re.compile(r"\[\d+ rows x \d+ columns\]")
_ABSENT = ("FileNotFoundError", "ModuleNotFoundError")


@dataclass(frozen=True)
class Verdict:
    """What came of one item: equal, notebook or different, and why."""

    item: str
    kind: str
    why: str = ""


def main() -> int:
    """Read the command line, run, print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.corpus", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path, help="JSON Lines file of programs with expected answers")
    parser.add_argument("--all", action="store_true", help="show every item that is not equal, not only different ones")
    arguments = parser.parse_args()
    items = [json.loads(line) for line in arguments.path.read_text(encoding="utf-8").splitlines()]
    runnable = [item for item in items if item["expected"] is not None and not item.get("inputs_not_included")]
    began = time.monotonic()
    verdicts = asyncio.run(_run(runnable, arguments.path.parent))
    _show(items, verdicts, time.monotonic() - began, everything=arguments.all)
    unlisted = [each.item for each in verdicts if each.kind != "equal" and each.item not in LISTED]
    print(f"  {len(unlisted):4} neither equal nor listed: {' '.join(unlisted) or 'none'}")
    return 1 if unlisted or any(verdict.kind == "different" for verdict in verdicts) else 0


def _show(items: list[dict], verdicts: list[Verdict], seconds: float, *, everything: bool) -> None:
    for verdict in verdicts:
        if verdict.kind == "different" or (everything and verdict.kind != "equal"):
            print(f"{verdict.kind:10} {verdict.item}: {verdict.why}")
    counts = Counter(verdict.kind for verdict in verdicts)
    print(f"{len(items)} items, {len(verdicts)} with answer and inputs, {seconds:.0f} s: {dict(counts.most_common())}")
    for why, meaning in NOTEBOOK.items():
        print(f"  {sum(verdict.why == why for verdict in verdicts):4} {why}: {meaning}")


async def _run(items: list[dict], root: Path) -> list[Verdict]:
    async with executor(slots=SLOTS) as running:
        await running.claim()
        free = asyncio.Semaphore(SLOTS)
        return await asyncio.gather(*(_judged(running, free, item, root) for item in items))


async def _judged(running: LocalExecutor, free: asyncio.Semaphore, item: dict, root: Path) -> Verdict:
    code = _with_inputs(item, root)
    if item["expected"].get("ans") is not None:
        code += f"\n_ = __import__('sys').stderr.write({_ANS!r} + repr(ans))"
    async with free:
        events = await running.execute(code, timeout_seconds=SECONDS)
    return _compared(item, events)


def _with_inputs(item: dict, root: Path) -> str:
    """Put the input files that a program names before it; it must find them in its directory, which is new and empty."""
    if not item.get("inputs_dir"):
        return item["code"]
    files = [path for path in sorted((root / item["inputs_dir"]).iterdir()) if path.name in item["code"]]
    packed = {path.name: base64.b85encode(zlib.compress(path.read_bytes(), 9)).decode() for path in files}
    unpack = (
        "import base64, os, zlib\nos.makedirs('inputs')\nfor name, data in files.items():\n"
        "    open('inputs/' + name, 'wb').write(zlib.decompress(base64.b85decode(data)))"
    )
    return f"exec({unpack!r}, {{'files': {packed!r}}})\n{item['code']}"


def _compared(item: dict, events: list[dict]) -> Verdict:
    expected = item["expected"]
    texts = {name: "".join(event["text"] for event in events if event["type"] == name) for name in ("stdout", "stderr")}
    error = next((event["name"] for event in events if event["type"] == "error"), None)
    main = next((event["text"] for event in events if event["type"] == "result" and event["is_main_result"]), None)
    if error != expected["error"]:
        value = next((event["value"] for event in events if event["type"] == "error"), events[-1]["reason"])
        return Verdict(item["id"], "absent" if error in _ABSENT else "different", f"error {error}: {value}")
    answers = [(expected["stdout"], texts["stdout"])]
    if expected["stdout"] is None and hashlib.sha256(texts["stdout"].encode()).hexdigest() != expected["stdout_sha256"]:
        return Verdict(item["id"], "different", f"stdout by its hash; came {texts['stdout'][:200]!r}")
    if expected.get("ans") is not None:
        answers.append((expected.get("ans"), texts["stderr"].rpartition(_ANS)[2]))
    if expected.get("last_expr") is not None:
        answers.append((unquoted(expected.get("last_expr")), main))
    kinds = [_kind(wanted, came) for wanted, came in answers if wanted is not None]
    worst = max(kinds, key=lambda kind: (kind[0] != "equal") + (kind[0] == "different"))
    return Verdict(item["id"], *worst)


def _kind(wanted: str, came: str | None) -> tuple[str, str]:
    """Compare two answers."""
    if wanted == came:
        return "equal", ""
    if came is None:
        return "different", f"nothing, expected {wanted[:200]!r}"
    if _ADDRESS.sub("", wanted) == _ADDRESS.sub("", came):
        return "notebook", "address"
    if _value(wanted) == _value(came) or "".join(wanted.split()) == "".join(came.split()) or "...]" in came[-5:]:
        return "notebook", "layout"
    if _cells(wanted) <= _cells(came) and "..." in wanted:
        return "notebook", "frame"
    return "different", f"expected {wanted[:300]!r}, came {came[:300]!r}"


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _cells(text: str) -> set[str]:
    """The words of a table, but for what stands for others."""
    return {word for word in _SIZE.sub("", text).split() if set(word) - {".", "\\"}}


if __name__ == "__main__":
    sys.exit(main())
