r"""Magics that start programs, without a terminal and without threads: `!command`, `%pip`, `%%bash` and its relatives.

IPython runs `!command` on a pseudo-terminal and `%%bash` through a thread with an event loop. Neither suits a process
whose filter may refuse terminals and which may fork again; both become one loop over pipes here, that passes output on
as it arrives, to whatever `sys.stdout` is at the time (`%%capture` works). The differences that show: line ends are
`\\n`, programs see no terminal, the input is empty.

`%%script` with options (`--bg`, `--out`, ...) stays IPython's own.
"""

import codecs
import importlib.util
import os
import selectors
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magics._table import default_script_magics
from IPython.core.magics.script import ScriptMagics

from execpool.executor import settings

_CHUNK = 1 << 16
_NO_PIP = "pip is not part of this executor's image: ask for an image that has the package, or a pool with pip in it."


def run_command(command: str) -> int:
    """Run a command line in a shell, output and errors together on stdout; return its status, negative for a signal."""
    shell = settings.current_environment().get("SHELL", "sh")
    return run_program([shell, "-c", command], together=True)


def run_program(argv: Sequence[str], source: str = "", *, together: bool = False) -> int:
    """Run a program to its end and pass on what it says; an error on the way, or an interrupt, ends it."""
    sys.stdout.flush()
    sys.stderr.flush()
    errors = subprocess.STDOUT if together else subprocess.PIPE
    # A file, since a pipe would have to be fed while the output is read.
    with tempfile.TemporaryFile() as program:
        program.write(source.encode("utf-8", "surrogateescape"))
        program.seek(0)
        stdin = program if source else subprocess.DEVNULL
        process = subprocess.Popen(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=errors)
    with process:
        try:
            _relay(process)
            process.wait()
        finally:
            if process.poll() is None:
                process.kill()
    return process.returncode if process.returncode <= 128 else 128 - process.returncode


def _relay(process: "subprocess.Popen[bytes]") -> None:
    with selectors.DefaultSelector() as selector:
        for source, name in ((process.stdout, "stdout"), (process.stderr, "stderr")):
            if source is not None:
                selector.register(
                    source, selectors.EVENT_READ, (name, codecs.getincrementaldecoder("utf-8")("replace"))
                )
        while selector.get_map():
            for key, _ in selector.select():
                name, decoder = key.data
                data = os.read(key.fd, _CHUNK)
                stream: TextIO = getattr(sys, name)
                stream.write(decoder.decode(data, not data))
                stream.flush()
                if not data:
                    selector.unregister(key.fileobj)


@magics_class
class ProgramMagics(Magics):  # type: ignore[misc]
    """`%pip`, and `%%script` with the names that stand for it."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell=shell)
        for name in default_script_magics():
            self.magics["cell"][name] = self._named(name)

    @line_magic  # type: ignore[untyped-decorator]
    def pip(self, line: str) -> None:
        """Run pip for this interpreter."""
        if importlib.util.find_spec("pip") is None:
            print(_NO_PIP, file=sys.stderr)  # noqa: T201 - what the program sees
            return
        self.shell.system(f"{shlex.quote(sys.executable)} -m pip {line}")
        print("Note: you may need to restart the kernel to use updated packages.")  # noqa: T201 - as IPython says

    @cell_magic  # type: ignore[untyped-decorator]
    def script(self, line: str, cell: str) -> None:
        """Run the cell by a program."""
        argv = shlex.split(line)
        if not argv or any(argument.startswith("--") for argument in argv):
            ScriptMagics(self.shell).shebang(line, cell)
            return
        try:
            status = run_program(argv, cell)
        except FileNotFoundError:
            print(f"Couldn't find program: {argv[0]!r}")  # noqa: T201 - as IPython says
            return
        if status:
            raise subprocess.CalledProcessError(status, cell.encode())

    def _named(self, name: str) -> Callable[[str, str], None]:
        return lambda line, cell: self.script(f"{name} {line}", cell)
