"""`python -m tests.component.notebook_page`: writes docs/notebook.md, its tables from the snippets and the corpus."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.corpus import LISTED
from tests.component.notebook_snippets import SNIPPETS

from execpool.executor.runner.display_events import MAX_EVENT_BYTES, MAX_TEXT
from execpool.executor.server.output import MAX_REPORT_BYTES
from execpool.protocol import KEEPALIVE_SECONDS, MAX_CODE_BYTES, MAX_OUTPUT_BYTES, MAX_RESULT_BYTES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "notebook.md"
MIB = 1 << 20

_HEAD = f"""# The notebook: what code can do, and where it differs from a Jupyter kernel

Written by `python -m tests.component.notebook_page`; `tests/generated/test_notebook_page.py` holds it to its sources.

Code is a cell. It runs in IPython's shell inside a forked process, without a kernel process, sockets of its own or threads
(`operator/execpool/executor/runner/notebook.py`); clients of E2B's code interpreter see what a kernel behind E2B would show.

## What a cell can do

- The value of the last expression is the main result; `display()`, figures and `?help` are further results, in order with
  what was printed. Formats: `text` (without one pair of quotes), `html`, `markdown`, `svg`, `png`, `jpeg`, `pdf`, `latex`,
  `javascript`, `json` (lists and dicts too), `data` (columns of a DataFrame), `chart` (matplotlib), the rest as `extra`.
- Line and cell magics (`%time`, `%%capture`, `%%bash`, `%run`, ...), `!command`, `name?`, top-level `await`, `async for`.
  `%pip` works where the image has pip and the tier a network.
- Every exception is one `error` with name, value and a traceback without colours and frames of ours. `sys.exit()` is an
  error in a context, as in a kernel; in a stateless run a program that ends with status 0 has succeeded.
- `input()` and `getpass()` raise StdinNotImplementedError with a sentence; standard input is empty; `breakpoint()` is nothing.

## Contexts and languages

- A *stateless* execution gets a process and a directory of its own, and nothing of it stays. A *context* keeps its names,
  files and directory from one execution to the next, runs one at a time, and counts them.
- A context's execution that is to stop (time limit, client gone, output limit) is interrupted: KeyboardInterrupt, the state
  stays. 0.4 s later its process is ended; the next execution finds a new one, and the error is `ContextRestarting`.
  An interrupt never cuts an event in two: signals wait while one is written.
- Languages: `python` (`python3`) and `bash` (`sh`; an exit status other than 0 is an error, `ExitStatus` in a context, `SystemExit` in a run). All others are
  refused with status 500 and a sentence, as E2B does when a kernel cannot be started.
- Silence on the stream is broken by a `keepalive` every {KEEPALIVE_SECONDS:.0f} s.

## Limits

| what | limit | beyond it |
| --- | --- | --- |
| code | {MAX_CODE_BYTES // MIB} MiB | 413, nothing ran |
| stdout and stderr together | {MAX_OUTPUT_BYTES // MIB} MiB (`output_bytes`) | dropped, `truncated`; as much again: `Killed`, `OutputLimit` |
| the text of a result | {MAX_TEXT // MIB} MiB | both ends stay, a note between them, `truncated` |
| one result | {MAX_EVENT_BYTES / MIB:g} MiB as JSON | its largest formats are left out, the text says which, `truncated` |
| all results of an execution | {MAX_RESULT_BYTES // MIB} MiB as JSON | the text's beginning and a note, `truncated`; beyond {2 * MAX_REPORT_BYTES // MIB} MiB: `Killed`, `OutputLimit` |

Errors and the end of an execution are heard whatever was shown before. Results are written by the process of the program,
so a program can forge its own: only results and errors pass (`operator/execpool/executor/server/output.py`), with fields of
the protocol, of their types, within bounds; other lines are dropped with `truncated`.
"""

_KERNEL = """
## Differences from ipykernel

`tests/component/test_notebook_kernel.py` runs {count} snippets here and in a real ipykernel and compares output, errors,
results with all their formats, tracebacks and order. {equal} are equal. The others, each with its reason; the test fails when
one appears and when one goes away.

| difference | in | snippets |
| --- | --- | --- |
"""

_ADDED = """
Results also have E2B's additions, which a plain ipykernel has not: `data`, `chart`, `json` of lists and dicts, and a picture
that PIL shows or saves.

## Programs of the development corpus

`python -m benchmarks.corpus PATH` runs each program that has a known answer and compares. All are equal but these:

| reason | programs |
| --- | --- |
"""


def page() -> str:
    """Return the text of docs/notebook.md."""
    differing = [snippet for snippet in SNIPPETS if snippet.differs]
    kernel = _KERNEL.format(count=len(SNIPPETS), equal=len(SNIPPETS) - len(differing))
    return "".join((_HEAD, kernel, *_differences(), _ADDED, *_programs()))


def _differences() -> Iterator[str]:
    reasons = {difference.why: None for snippet in SNIPPETS for difference in snippet.differs.values()}
    for why in reasons:
        differing = [snippet for snippet in SNIPPETS if any(each.why == why for each in snippet.differs.values())]
        aspects = {name for snippet in differing for name, each in snippet.differs.items() if each.why == why}
        yield f"| {_cell(why)} | {', '.join(sorted(aspects))} | {'; '.join(snippet.name for snippet in differing)} |\n"


def _programs() -> Iterator[str]:
    for why in dict.fromkeys(LISTED.values()):
        yield f"| {_cell(why)} | {', '.join(item for item, reason in LISTED.items() if reason == why)} |\n"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
