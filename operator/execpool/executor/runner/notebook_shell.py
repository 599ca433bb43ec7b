"""IPython's shell as a kernel would run it, without kernel, files, threads and a home directory, and faster.

`run_cell` is IPython's own, so that a cell means what it means in a notebook. What made it slow is replaced where it
cannot matter:

- *Transformation.* A cell that is Python already, as nearly all are, needs none of IPython's: it is parsed once, in C,
  and the tree is used again to compile. Only cells that do not parse go through IPython's tokenizer, and those that IPython
  would change although they are Python: a blank or indented first line, pasted prompts, one line that begins with
  the name of a magic (`ls`) or a macro, and everything once the program has added transformers of its own.
- *Await.* Compiled a second time only if the word occurs. Cells with it run in one event loop per process; others run
  without, so that `asyncio.run()` works, unless they use functions that need a running loop.
- *History* is kept in memory, and output not at all.

Exceptions lose the frames of this directory and get IPython's traceback without colours. An exception group is shown by
the standard library, which knows groups.
"""

import ast
import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from IPython.core import page
from IPython.core.async_helpers import get_asyncio_loop
from IPython.core.autocall import ExitAutocall, IPyAutocall
from IPython.core.compilerop import CachingCompiler
from IPython.core.error import StdinNotImplementedError, UsageError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.macro import Macro
from traitlets import Any as Anything
from traitlets import Instance, Type, default
from traitlets.config import Config

from execpool.executor.runner import display, limits, magics, notebook_errors, notebook_interrupts
from execpool.executor.runner.display_formats import NotebookFormatter
from execpool.executor.runner.notebook_captured import Captured

NOWHERE = "/nonexistent"
"""Stands for the directories of IPython that do not exist here."""

_FIRST_WORD = re.compile(r"[^\W\d]\w*")
_NEEDS_LOOP = re.compile(r"\b(create_task|ensure_future|get_running_loop|gather)\s*\(")
_BRINGS_LOOP = re.compile(r"\basyncio\.run\(|\b(run_until_complete|run_forever|Runner)\(")
_NO_INPUT = "raw_input was called, but this frontend does not support input requests."
_NO_GETPASS = "getpass was called, but this frontend does not support input requests."
_NO_TERMINAL = (
    "execpool: nobody answers a program here; put what it is to read into the code, a file or an environment variable"
)
_UNPRINTABLE = "<exception str() failed>"


class Exit(ExitAutocall):  # type: ignore[misc]
    """`exit()` and `quit()` end the cell, as they end a program."""

    rewrite = False

    def __call__(self, code: object = None) -> NoReturn:
        raise SystemExit(code)


class Compiler(CachingCompiler):  # type: ignore[misc]
    """IPython's compiler, which does not parse again what `NotebookShell` has parsed."""

    def __init__(self) -> None:
        super().__init__()
        self.parsed: tuple[str, ast.AST] | None = None

    def parse(self, source: str, filename: str) -> ast.AST:
        """Parse in any case."""
        return super().ast_parse(source, filename)  # type: ignore[no-any-return]

    def ast_parse(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> ast.AST:
        parsed, self.parsed = self.parsed, None
        if parsed is not None and parsed[0] == source:
            return parsed[1]
        return super().ast_parse(source, filename, symbol)  # type: ignore[no-any-return]


class NotebookShell(InteractiveShell):  # type: ignore[misc]
    """One per process image: made before the first fork, used in its children."""

    displayhook_class = Type(display.ResultHook)
    display_pub_class = Type(display.Publisher)
    compiler_class = Type(Compiler)
    exiter = Instance(ExitAutocall)
    kernel = Anything(help="Nothing; libraries look whether there is one, to know a notebook from a terminal.")
    outlet: display.Outlet
    network = True
    """False when refused connections are to be explained."""
    believe_exit = False
    """True when a program that says it ended well is believed, instead of reported as a kernel does."""

    def __init__(self, **kwargs: Any) -> None:
        self.outlet = display.Outlet()
        super().__init__(config=_configuration(), **kwargs)
        self.register_magics(magics.ProgramMagics)
        self.loop_runner: Callable[[Coroutine[Any, Any, Any]], Any] = notebook_interrupts.run_in_loop
        self.db: dict[str, Any] = {}
        self._transformers = self._count_transformers()

    @default("exiter")  # type: ignore[untyped-decorator]
    def _default_exiter(self) -> Exit:
        return Exit(self)

    def init_ipython_dir(self, ipython_dir: object) -> None:  # noqa: ARG002 - IPython's signature
        self.ipython_dir = NOWHERE

    def _ipython_dir_changed(self, change: object) -> None:
        """Make no directory."""

    def init_profile_dir(self, profile_dir: object) -> None:  # noqa: ARG002 - IPython's signature
        self.profile_dir = None

    def init_virtualenv(self) -> None:
        """As in a kernel: the interpreter decides."""

    def init_hooks(self) -> None:
        super().init_hooks()
        self.set_hook("show_in_pager", page.as_hook(self._show_page), 99)

    def init_display_formatter(self) -> None:
        self.display_formatter = NotebookFormatter(parent=self)
        self.configurables.append(self.display_formatter)

    def enable_gui(self, gui: str | None = None) -> None:
        """Accept what needs no window.

        Raises:
            UsageError: for everything else.
        """
        if gui not in (None, "inline", "none", "asyncio"):
            raise UsageError(f"Invalid GUI request {gui!r}: there is no display here")

    def system(self, cmd: str) -> None:
        """Run `!command`."""
        if cmd.rstrip().endswith("&"):
            raise OSError("Background processes not supported.")
        status = magics.run_command(self.var_expand(cmd, depth=1))
        self.user_ns["_exit_code"] = status
        if self.system_raise_on_error and status:
            raise subprocess.CalledProcessError(status, cmd)

    system_piped = system_raw = system

    def transform_cell(self, raw_cell: str) -> str:
        if self._may_need_transformers(raw_cell):
            return super().transform_cell(raw_cell)  # type: ignore[no-any-return]
        cell = raw_cell if raw_cell.endswith("\n") else raw_cell + "\n"
        with Captured(Exception):
            name = self.compile.cache(cell, self.execution_count, raw_code=raw_cell)
            tree = self.compile.parse(cell, name)
            self.compile.parsed = (cell, tree)
            return cell
        return super().transform_cell(raw_cell)  # type: ignore[no-any-return]

    def should_run_async(
        self, raw_cell: str, *, transformed_cell: Any = None, preprocessing_exc_tuple: Any = None
    ) -> bool:
        if _NEEDS_LOOP.search(raw_cell) and not _BRINGS_LOOP.search(raw_cell) and preprocessing_exc_tuple is None:
            return bool(self.autoawait)
        if "await" not in raw_cell and "async" not in raw_cell:
            return False
        return bool(
            super().should_run_async(
                raw_cell, transformed_cell=transformed_cell, preprocessing_exc_tuple=preprocessing_exc_tuple
            )
        )

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        error = (exc_tuple or sys.exc_info())[1]
        if isinstance(error, MemoryError):
            limits.use_headroom()
        if self.is_believed(error):
            return
        if isinstance(error, BaseException):
            trace = notebook_errors.without_our_end(error.__traceback__)
            error = error.with_traceback(trace)
            if not self.network:
                notebook_errors.explain_network(error)
            if notebook_errors.is_group(error):
                self._showtraceback(type(error), error, notebook_errors.of_group(error))
                return
            exc_tuple = (type(error), error, trace)
        super().showtraceback(exc_tuple, *args, **kwargs)

    def is_believed(self, error: BaseException | None) -> bool:
        """True for the exit of a program that reports success and is believed."""
        if not (self.believe_exit and isinstance(error, SystemExit)):
            return False
        return error.code is None or (isinstance(error.code, int) and error.code == 0)

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        value, trace = _UNPRINTABLE, ""
        with Captured(Exception):
            trace = "\n".join(stb)
        with Captured(Exception):
            value = str(evalue)
        self.outlet.failure(etype.__name__, value, trace)

    def _show_page(self, data: Any, start: int = 0, screen_lines: int = 0, pager_cmd: object = None) -> None:  # noqa: ARG002 - IPython's signature
        self.outlet.result(data if isinstance(data, dict) else {"text/plain": data}, main=False)

    def _tee(self, channel: str) -> AbstractContextManager[None]:  # noqa: ARG002 - IPython's signature
        return nullcontext()

    def _may_need_transformers(self, cell: str) -> bool:
        if cell[:1].isspace() or cell.startswith(("In [", "...")) or self._count_transformers() != self._transformers:
            return True
        word = _FIRST_WORD.match(cell)
        if word is None or "\n" in cell.rstrip("\n"):
            return False
        name = word.group()
        value = self.user_ns.get(name)
        return self.autocall > 0 or isinstance(value, IPyAutocall | Macro) or self._is_line_magic(name)

    def _is_line_magic(self, name: str) -> bool:
        manager = self.magics_manager
        return name in manager.magics["line"] or name in manager.lazy_magics

    def _count_transformers(self) -> int:
        manager = self.input_transformer_manager
        lists = (manager.cleanup_transforms, manager.line_transforms, manager.token_transformers)
        return sum(map(len, (*lists, self.input_transformers_post, self.prefilter_manager.transformers)))


# pandas, tqdm, rich, plotly and others look for this name to know that a notebook shows what they return.
NotebookShell.__name__ = NotebookShell.__qualname__ = "ZMQInteractiveShell"


def refuse_input(_prompt: object = "") -> NoReturn:
    """Stand in for `input`."""
    raise _refusal(_NO_INPUT)


def refuse_getpass(_prompt: str = "Password: ", _stream: object = None, **_: object) -> NoReturn:
    """Stand in for `getpass.getpass`."""
    raise _refusal(_NO_GETPASS)


def _refusal(sentence: str) -> StdinNotImplementedError:
    error = StdinNotImplementedError(sentence)
    error.add_note(_NO_TERMINAL)
    return error


def forget_loop() -> None:
    """Close the event loop of this process, which a child must not share."""
    with Captured(RuntimeError):
        asyncio.get_running_loop()
        return
    get_asyncio_loop().close()


def _configuration() -> Config:
    settings = Config()
    settings.HistoryManager.enabled = False
    settings.HistoryManager.hist_file = ":memory:"
    settings.InteractiveShell.colors = "nocolor"
    settings.InteractiveShell.autoindent = False
    return settings
