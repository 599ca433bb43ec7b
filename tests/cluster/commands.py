"""Runs the host's tools: always with a time limit, never with output lost on failure."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .errors import CommandError

QUICK = 30.0
"""Seconds for tools that only touch the local machine (ip, mount, openssl)."""


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = QUICK,
    check: bool = True,
    stdin: IO[Any] | str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run a tool to its end and return its standard output; `stdin` is an open file or text.

    With `check`, a non-zero exit raises CommandError with what the tool said.
    """
    words = [str(word) for word in argv]
    source: dict[str, Any] = {"input": stdin} if isinstance(stdin, str) else {"stdin": stdin or subprocess.DEVNULL}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(
            words, **source, capture_output=True, text=True, timeout=timeout, check=False, env=env, cwd=cwd
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"`{' '.join(words)}` did not end within {timeout:.0f} s") from error
    except OSError as error:
        raise CommandError(f"`{words[0]}` cannot be run: {error.strerror}") from error
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise CommandError(f"`{' '.join(words)}` exited with {done.returncode}:\n{said}")
    return done.stdout


def note(text: str) -> None:
    """Tell the person at the terminal; standard output stays for what scripts read."""
    print(text, file=sys.stderr, flush=True)
