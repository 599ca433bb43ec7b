"""Makes a forked process a stranger to the runner: step by step, in an order that matters, never to be undone.

    own_signals  every signal as in a fresh interpreter; a supervisor does it for all that it parks
    begin        a session of its own, dies with its parent, first victim of the kernel, nothing of ours in modules that
                 remember things
    keep         exactly the descriptors named; everything else of the runner's is closed
    enter        limits, then Landlock, then the filter, since each step needs what the next one refuses

A step that fails raises: the caller must end the process then, and no code may run in it.
"""

import fcntl
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from execpool.executor.runner import landlock, limits, processes, sandbox, seccomp
from execpool.executor.runner.notebook import Notebook

_HIGH = 64
"""Descriptors are moved above this one before they get their final numbers, so that none is overwritten on the way."""


@dataclass(frozen=True)
class Tools:
    """What the zygote has prepared once for all that it forks."""

    measures: sandbox.Measures
    limits: limits.Limits
    filter: seccomp.Filter
    landlock: int
    """The version in use; 0 for none."""
    grants: tuple[tuple[str, int], ...]
    """What every program may do with files, beside its own directories."""
    network: bool
    environment: Mapping[str, str]
    work_dir: Path
    fonts: tuple[Path, ...]
    """Files of matplotlib's list of fonts, to be linked to."""
    scratch: tuple[Path, ...]
    """Directories that all programs share."""
    touches_deeply: bool
    """Whether what is parked for long copies what the libraries write to, 9 MiB of each."""
    notebook: Notebook
    """Warmed up: what a first use would import and cache is there."""
    home: Path
    """Of contexts and of the agent, which share it; a run has a directory of its own."""

    @property
    def has_domains(self) -> bool:
        """True when processes can be kept from signalling those outside."""
        return self.landlock >= landlock.SCOPES_SINCE


def begin() -> None:
    """Leave the parent's session, signals and memory of things behind; end when it does."""
    os.setsid()
    sandbox.end_with_parent(signal.SIGKILL)
    sandbox.prefer_as_victim()
    os.umask(0o022)
    tempfile.tempdir = None
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)
    _reseed()


def own_signals() -> None:
    """Take every signal as a fresh interpreter does."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) not in (signal.SIG_DFL, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def keep(descriptors: Sequence[int]) -> None:
    """Make these descriptors 0, 1, 2, ... in their order, and close everything else; only the first three are inherited."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH) for descriptor in descriptors]
    for number, descriptor in enumerate(high):
        os.dup2(descriptor, number, inheritable=number < 3)
    os.closerange(len(high), os.sysconf("SC_OPEN_MAX"))


def own_streams() -> None:
    """Make Python's standard streams anew on descriptors 0, 1 and 2: by lines, so that output arrives while work goes on."""
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    sys.stdout = sys.__stdout__ = _text(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2)  # type: ignore[misc]


def enter(tools: Tools, writable: Sequence[Path]) -> None:
    """Put on every limit; `writable` are the directories of this program.

    Raises:
        OSError: the kernel refused one.
    """
    measures = tools.measures
    if measures.limits:
        limits.apply(tools.limits)
    sandbox.no_new_privileges()
    sandbox.drop_capabilities()
    if tools.landlock:
        own = [(str(path), landlock.WRITE) for path in writable]
        landlock.enter_files(tools.landlock, (*tools.grants, *own))
    if measures.seccomp:
        tools.filter.enter()
    if not measures.undumpable:
        sandbox.set_dumpable(True)


def enter_domain(tools: Tools, outsider: int) -> None:
    """Keep signals apart from those of the runner and of other slots; for who ends all that it forks, before it does.

    Args:
        tools: say that there are domains.
        outsider: a process of this user that must be out of reach then: everything of this user is otherwise.

    Raises:
        NotInDomainError: it is not.
        SandboxError: the kernel refused.
    """
    sandbox.no_new_privileges()
    landlock.enter_domain(tools.landlock)
    if sandbox.may_signal(outsider):
        raise processes.NotInDomainError


def environment(tools: Tools, home: Path, scratch: Path, fonts: Path) -> dict[str, str]:
    """Return what a program finds in its environment before anybody adds to it."""
    places = {"HOME": home, "PWD": home, "TMPDIR": scratch, "MPLCONFIGDIR": fonts}
    return {**tools.environment, **{name: str(path) for name, path in places.items()}}


def _text(descriptor: int) -> Any:
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _reseed() -> None:
    """Draw a new state for numpy's global generator; `random` does so at every fork, and the others ask the kernel."""
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        # 512 bits by ourselves: what numpy does without an argument takes ten times as long, in every fork.
        numpy.random.seed(numpy.frombuffer(os.urandom(64), numpy.uint32))
