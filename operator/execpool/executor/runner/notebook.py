"""Notebook semantics in one process: warmed up once before the first fork, evaluating cells in the children.

    zygote: Notebook() -> warm_up()          imports IPython, runs every kind of cell once, forgets all traces of it
    child:  evaluate(code, emit) -> Evaluated     once (a stateless run), or again and again (a context)

What an evaluation gives, as a kernel behind E2B would (the table of tests/component/test_notebook_kernel.py holds them side
by side and names every difference):

- The last expression is a `result` with `is_main_result`; `display()`, figures and `?help` are results without; text goes
  to descriptors 1 and 2, flushed before each event.
- Whatever is raised is one `error` {name, value, traceback}. SystemExit is an error too, also `sys.exit(0)`, unless
  `believe_exit` says that a program which reports success is believed; either way it is `How.EXIT` with the code.
- `input()` and `getpass()` raise StdinNotImplementedError.

First use is what costs in a fork (traceback 100 ms, await 30, DataFrame 20), so `warm_up` runs each path and then puts
back what cells leave: names, counters, history, the event loop, cached lines. It starts no thread and no process.

Knows nothing of forks and pipes. One per process image: the shell is IPython's singleton.
"""

import atexit
import builtins
import ctypes
import getpass
import io
import linecache
import os
import sys
import threading
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from execpool.executor.runner import display, figures, limits, notebook_shell, notebook_warmth
from execpool.executor.runner.display import Emit
from execpool.executor.runner.notebook_captured import Captured
from execpool.executor.runner.notebook_shell import NotebookShell

_BEGINNING = ("__doc__", "__package__", "__loader__", "__spec__", "_", "__", "___")


_libc = ctypes.CDLL(None)


class How(StrEnum):
    """How an evaluation ended."""

    OK = "ok"
    RAISED = "raised"
    EXIT = "exit"


@dataclass(frozen=True)
class Evaluated:
    """What came of a cell; its results and errors have gone to `emit` already."""

    how: How
    error_name: str = ""
    exit_code: int = 0
    """Of `How.EXIT`, as the process would return it: 1 for a text."""

    @property
    def well(self) -> bool:
        """True when the program would call this a success."""
        return self.how is How.OK or (self.how is How.EXIT and self.exit_code == 0)


class Notebook:
    """Cells of one process."""

    def __init__(self, *, network: bool = True) -> None:
        """Make the shell, before libraries are imported that look whether there is one.

        Args:
            network: False explains connections that are refused.
        """
        self._shell: NotebookShell = NotebookShell.instance()
        builtins.get_ipython = self._shell.get_ipython  # type: ignore[attr-defined]
        self._shell.network = network
        self._beginning = {name: self._shell.user_ns.get(name) for name in _BEGINNING}
        self._flags = self._shell.compile.flags
        self._pid = 0
        warnings.filterwarnings("ignore", message="To exit: use 'exit'", category=UserWarning)

    def warm_up(self) -> None:
        """Run every kind of cell once and leave no trace: for the single-threaded process that will fork."""
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            for cell in notebook_warmth.cells():
                self.evaluate(cell, lambda _: None)
        self._forget()
        # Clears names of a process that ends anyway; half a millisecond between a program's end and its answer.
        atexit.unregister(self._shell.atexit_operations)

    def touch(self, emit: Emit, *, deeply: bool = False) -> None:
        """Run a cell where the next one will run, and leave no trace: what a cell writes to is copied from the parent now.

        Args:
            emit: as that of a cell that counts, but without effect.
            deeply: also cells that use the libraries which are there.
        """
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            for cell in notebook_warmth.first_uses(deeply=deeply):
                self.evaluate(cell, emit)
        self._forget()
        self._arrive()

    def evaluate(self, code: str, emit: Emit, *, believe_exit: bool = False) -> Evaluated:
        """Run one cell."""
        shell = self._shell
        if self._pid != os.getpid():
            self._arrive()
        shell.outlet.open(emit)
        shell.believe_exit = believe_exit
        with Captured() as captured:
            figures.prepare(code)
            error = _error_of(shell.run_cell(code, store_history=True))
        if captured.error is not None:
            error = captured.error
        with Captured():
            self._account_for(error)
        display.flush()
        return self._evaluated(error)

    def leave(self, emit: Emit) -> Evaluated:
        """Do what Python does after a program's last statement: threads, exit functions, C's buffers."""
        self._shell.outlet.open(emit)
        with Captured() as captured:
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what Py_Finalize does first
            atexit._run_exitfuncs()  # noqa: SLF001 - what Py_Finalize does second; we leave through os._exit
            _libc.fflush(None)
        self._account_for(captured.error)
        display.flush()
        return self._evaluated(captured.error)

    def _account_for(self, error: BaseException | None) -> None:
        """Report an error that the shell has not: one of ours on the way, or one that it prints and no more."""
        if isinstance(error, SystemExit) and isinstance(error.code, str) and self._shell.believe_exit:
            print(error.code, file=sys.stderr)  # noqa: T201 - what Python does with a text
        if error is None or self._shell.outlet.error_name is not None or self._shell.is_believed(error):
            return
        if isinstance(error, MemoryError):
            limits.use_headroom()
        with Captured():
            self._shell.outlet.failure(type(error).__name__, str(error), "")
            return
        self._shell.outlet.failure(type(error).__name__, "", "")

    def _evaluated(self, error: BaseException | None) -> Evaluated:
        name = self._shell.outlet.error_name or ""
        if isinstance(error, SystemExit):
            code = 0 if error.code is None else error.code
            return Evaluated(How.EXIT, "SystemExit", code if isinstance(code, int) else 1)
        return Evaluated(How.RAISED, name) if error is not None or name else Evaluated(How.OK)

    def _arrive(self) -> None:
        """Make the shell at home in this process: what it had looked up belongs to the one that forked it."""
        self._pid = os.getpid()
        sys.modules["__main__"] = self._shell.user_module
        sys.argv = [""]
        if "" not in sys.path:
            sys.path.insert(0, "")
        builtins.input = notebook_shell.refuse_input
        sys.breakpointhook = lambda *_, **__: None  # nobody will ever attach
        getpass.getpass = notebook_shell.refuse_getpass  # type: ignore[assignment]
        with Captured(OSError):
            self._shell.history_manager.dir_hist[:] = [Path.cwd()]
            self._shell.starting_dir = str(Path.cwd())
        self._shell.home_dir = str(Path("~").expanduser())

    def _forget(self) -> None:
        """Put back what cells leave behind."""
        shell = self._shell
        notebook_shell.forget_loop()
        shell.reset(new_session=True)
        shell.user_ns.update(self._beginning)
        history = shell.history_manager
        history._i00 = history._i = history._ii = history._iii = ""  # noqa: SLF001 - what `_i` and its relatives show next
        shell.outlet.open(lambda _: None)
        shell.compile.flags = self._flags
        shell.compile._filename_map.clear()  # noqa: SLF001 - grows by a name per cell, and is read for tracebacks
        for name in [name for name in linecache.cache if name.startswith("<ipython-input-")]:
            del linecache.cache[name]
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                delattr(sys, name)
        shell.InteractiveTB.tb = None
        self._pid = 0


def _error_of(result: Any) -> BaseException | None:
    if result is None:
        return None
    error: BaseException | None = result.error_before_exec or result.error_in_exec
    return error
