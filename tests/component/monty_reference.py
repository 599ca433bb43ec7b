"""What CPython answers to a program, to compare Monty's answers with. Runs only programs of this repository's own tests."""

import ast
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

from execpool.executor.monty import worker
from execpool.executor.monty.engine import Answer, Engine, Job
from execpool.executor.monty.tree import NotSupported


@dataclass(frozen=True)
class Reference:
    """Output and text of the last expression, or the exception."""

    printed: str
    text: str | None
    error: str | None = None


def cpython(code: str) -> Reference:
    """Run a program here and now."""
    tree = ast.parse(code)
    shown = tree.body and isinstance(tree.body[-1], ast.Expr) and not code.rstrip().endswith(";")
    last = tree.body.pop() if shown else None
    names = {"__name__": "__main__"}
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            exec(compile(tree, "<cell>", "exec"), names)  # noqa: S102
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)  # noqa: S307
        except Exception as error:  # noqa: BLE001 - any of them is the reference
            return Reference(out.getvalue(), None, type(error).__name__)
    text = None if value is None else repr(value)
    return Reference(out.getvalue(), text[1:-1] if isinstance(value, str) and text else text)


async def monty(engine: Engine, code: str) -> Answer | str:
    """Run a program in Monty; a text says why it was not."""
    try:
        return await engine.run(Job(code))
    except NotSupported as why:
        return str(why)


def engine(directory: Path) -> Engine:
    """Return a pool of one fenced worker."""
    return Engine(1, worker.write_launcher(directory))


def difference(code: str, answer: Answer | str) -> str:
    """Say how an answer differs from CPython's; empty when it does not, or when there is none."""
    if isinstance(answer, str):
        return ""
    expected = cpython(code)
    if (answer.printed, answer.text, None) == (expected.printed, expected.text, expected.error):
        return ""
    return f"CPython: {expected}\nMonty:   {answer}\nProgram:\n{code}"
