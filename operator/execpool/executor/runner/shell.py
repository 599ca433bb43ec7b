"""Runs one program as `__main__` and says what came of it, as a notebook cell would: the reference for semantics.

- The last statement, when an expression, becomes a `result` with `is_main_result` (unless None, or followed by `;`):
  `text` is its repr, less one pair of quotes around it, as E2B does; `html` comes from `_repr_html_`, or is left out
  when it is too long to keep whole.
- An exception becomes an `error` {name, value, traceback} without frames of ours. A MemoryError is one of them.
- `sys.exit()` ends the program as Python would: None or 0 well; a text goes to stderr and is a failure; a number other
  than 0 is a failure, `SystemExit` by name. (A kernel calls every SystemExit an error; a program that says it ended
  well is believed here.)
- Standard input is empty, and `input()` raises with a sentence that says why.
- At the end, threads that are not daemons are waited for, open figures are sent, and `atexit` functions run.

User code may raise anything anywhere, also in a repr. `Captured` takes such an exception as a value.
Knows nothing of processes: it works on a module and a function that takes events, so tests run it in-process.
"""

import __future__

import ast
import atexit
import builtins
import errno
import linecache
import sys
import threading
import traceback
from collections.abc import Callable
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn, Self

from execpool.executor.runner import figures, limits

Event = dict[str, Any]
Emit = Callable[[Event], None]

CELL = "<cell>"
"""File name of the program in tracebacks."""

MAX_TEXT = 128 * 1024
MAX_HTML = 256 * 1024
MAX_VALUE = 16 * 1024
MAX_TRACEBACK = 64 * 1024

_FUTURES = 0
for _name in __future__.all_feature_names:
    _FUTURES |= getattr(__future__, _name).compiler_flag

_NO_INPUT = "input() needs somebody at a keyboard: nothing is connected to the standard input of this program"
_NO_NETWORK = "execpool: this executor has no network (the pool's tier says network: None)"


class Captured:
    """`with Captured() as captured:` takes whatever user code raises, SystemExit included, as `captured.error`."""

    error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.error = error
        return True


def run(code: str, emit: Emit, *, network: bool = True) -> bool:
    """Run a program to its end, as the last thing that this process does.

    Returns:
        True when it ended well.
    """
    well = evaluate(code, emit, network=network)
    with Captured() as captured:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what Py_Finalize does first
        figures.emit_open(emit)  # before matplotlib's own exit function closes them
        atexit._run_exitfuncs()  # noqa: SLF001 - what Py_Finalize does second; we leave through os._exit
    return _account_for(captured.error, emit, network=network) and well


def evaluate(code: str, emit: Emit, *, network: bool = True) -> bool:
    """Run the statements of a program in a fresh `__main__`; True when they ended well."""
    module = _fresh_main(code)
    with Captured() as captured:
        value = _execute(code, module)
        if value is not None and not code.rstrip().endswith(";"):
            emit(describe(value))
    return _account_for(captured.error, emit, network=network)


def describe(value: object) -> Event:
    """Return the main result for a value; a repr that raises is an error of the program."""
    text = _bounded(repr(value), MAX_TEXT)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    event: Event = {"type": "result", "text": text, "is_main_result": True}
    with Captured():
        html = None if isinstance(value, type) else getattr(value, "_repr_html_", lambda: None)()
        if isinstance(html, str) and len(html) <= MAX_HTML:
            event["html"] = html
    return event


def explain(error: BaseException, *, network: bool = True) -> Event:
    """Return the error event of an exception."""
    if isinstance(error, MemoryError):
        limits.use_headroom()
    if not network and _wanted_network(error):
        error.add_note(_NO_NETWORK)
    with Captured():
        value = str(error)
        lines = traceback.format_exception(type(error), error, _without_our_frames(error.__traceback__))
        return _error(type(error).__name__, value, "".join(lines))
    return _error(type(error).__name__, "", "")


def _execute(code: str, module: ModuleType) -> object:
    tree = ast.parse(code, CELL)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    body: CodeType = compile(tree, CELL, "exec", dont_inherit=True)
    exec(body, module.__dict__)  # noqa: S102 - what this process exists for
    if not isinstance(last, ast.Expr):
        return None
    futures = body.co_flags & _FUTURES
    return eval(compile(ast.Expression(last.value), CELL, "eval", futures, dont_inherit=True), module.__dict__)  # noqa: S307 - as above


def _account_for(error: BaseException | None, emit: Emit, *, network: bool) -> bool:
    """Report how a program left; True when it left well."""
    if error is None:
        return True
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            return True
        if not isinstance(error.code, int):
            with Captured():
                print(error.code, file=sys.stderr)  # noqa: T201 - what Python does with a text
    emit(explain(error, network=network))
    return False


def _fresh_main(code: str) -> ModuleType:
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    builtins.input = _no_input
    # An entry without a modification time is never checked against a file.
    linecache.cache[CELL] = (len(code), None, code.splitlines(keepends=True), CELL)
    return module


def _no_input(_prompt: object = "") -> NoReturn:
    raise EOFError(_NO_INPUT)


def _without_our_frames(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _wanted_network(error: BaseException) -> bool:
    """True when something below the exception is the filter's answer to a socket, or a name that cannot be looked up."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        refused = isinstance(current, OSError) and current.errno == errno.ENETUNREACH
        if refused or type(current).__name__ == "gaierror":
            return True
        current = current.__cause__ or current.__context__
    return False


def _error(name: str, value: str, trace: str) -> Event:
    return {
        "type": "error",
        "name": _bounded(name, 256),
        "value": _bounded(value, MAX_VALUE),
        "traceback": _bounded(trace, MAX_TRACEBACK),
    }


def _bounded(text: str, limit: int) -> str:
    """Keep both ends of a long text: a traceback's last lines matter most, its first ones next."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
