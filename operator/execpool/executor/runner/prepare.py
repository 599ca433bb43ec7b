"""What all runs share, made once before the first fork: imports, a frozen heap, a filter that works, clean directories.

Invariant: one thread when this is done. A fork carries only the thread that called it, and the locks of the others stay
held in the child for ever; so the numeric libraries are told to start none before they are imported, and it is checked.
"""

import gc
import importlib
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from execpool.executor import settings
from execpool.executor.runner import child, figures, limits, sandbox, supervisor

log = logging.getLogger("execpool.executor")

_FONTS = ".matplotlib"
_PRELOADED = ("numpy", "pandas")


class NotSingleThreadedError(RuntimeError):
    """An import started a thread; forking would lose it and keep its locks."""


def prepare(options: settings.RunnerSettings) -> child.Tools:
    """Import, freeze and check everything that runs share.

    Raises:
        NotSingleThreadedError: when an import started a thread.
        SandboxError: when the kernel does not take the filter.
    """
    began = time.monotonic()
    settings.keep_to_one_thread()
    loaded = _preload()
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise NotSingleThreadedError(f"{threads} threads after importing {', '.join(loaded)}")
    cpus = limits.cpu_count()
    tools = child.Tools(
        limits=limits.derive(
            options.memory_bytes,
            options.slots,
            limits.data_bytes(),
            own_namespace=limits.in_own_namespace(),
            cpus=cpus,
        ),
        sandbox=sandbox.Sandbox(internet=options.network is settings.Network.EGRESS),
        network=options.network is settings.Network.EGRESS,
        environment=_environment(options, cpus),
    )
    sandbox.adopt_orphans()
    sandbox.set_dumpable(False)
    _try_in_child(tools.sandbox.enter)
    reseed()
    gc.collect()
    gc.freeze()
    log.info("imports done", extra={"imports": loaded, "seconds": round(time.monotonic() - began, 3)})
    return tools


def sweep(directories: Iterable[Path]) -> None:
    """Empty directories of this container, but for what `prepare` has put there."""
    for directory in directories:
        with suppress(OSError):
            for path in list(directory.iterdir()):
                if path.name != _FONTS:
                    supervisor.remove(path)


def _preload() -> list[str]:
    loaded = []
    for name in _PRELOADED:
        with suppress(ImportError):
            importlib.import_module(name)
            loaded.append(name)
    if "pandas" in loaded:
        # The first rendering of a frame costs 10 ms; paid here, no run pays it again.
        frame = importlib.import_module("pandas").DataFrame({"a": [1.5]})
        repr(frame)
        frame._repr_html_()
    figures.quiet_show()
    return loaded


def reseed() -> None:
    """Draw a new state for numpy's global generator, which the next run inherits; `random` does so at every fork.

    Here and not in the run, where it would cost half a millisecond before the first line.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()


def _environment(options: settings.RunnerSettings, cpus: int) -> dict[str, str]:
    """Return what every run starts with; matplotlib gets a writable copy of the image's list of fonts."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **dict(options.user_environment)}
    environment |= {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": str(cpus)}
    fonts = options.work_dir / _FONTS
    with suppress(OSError):
        if options.font_cache is None:
            fonts.mkdir(exist_ok=True)
        else:
            shutil.copytree(options.font_cache, fonts, dirs_exist_ok=True)
        environment["MPLCONFIGDIR"] = str(fonts)
    return environment


def _try_in_child(step: Callable[[], None]) -> None:
    """Do something irrevocable in a child, to learn here whether it works."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            step()
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1] != 0:
        raise sandbox.SandboxError("the kernel refused the filter")
