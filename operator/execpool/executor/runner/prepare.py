"""What all forks share, made once before the first: imports, a frozen heap, measures that work, clean directories.

Invariant: one thread when this is done. A fork carries only the thread that called it, and the locks of the others stay
held in the child for ever; so the numeric libraries are told to start none before they are imported, and it is checked.

The heap is frozen (`gc.freeze`): a collection in a fork would otherwise write to every object, and copy 77 MB.
"""

import gc
import importlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from execpool.executor import frames, settings
from execpool.executor.runner import clean, figures, isolate, landlock, limits, sandbox, seccomp
from execpool.executor.runner.isolate import Tools
from execpool.executor.runner.notebook import Notebook

log = logging.getLogger("execpool.executor")

_BASE = ("numpy", "pandas")
_SCIENCE = (
    "scipy.stats", "scipy.optimize", "scipy.linalg", "scipy.integrate", "scipy.interpolate", "scipy.signal",
    "sklearn.linear_model", "sklearn.ensemble", "sklearn.model_selection", "sklearn.preprocessing", "sklearn.metrics",
    "matplotlib.pyplot",
)  # fmt: skip
_MOST_MODULES = 2000


class NotSingleThreadedError(RuntimeError):
    """An import started a thread; forking would lose it and keep its locks."""


def prepare(options: settings.RunnerSettings, measures: sandbox.Measures) -> Tools:
    """Import, freeze and check everything that forks share.

    Raises:
        NotSingleThreadedError: when an import started a thread.
        SandboxError: when the kernel does not take a measure.
    """
    began = time.monotonic()
    os.chdir("/")
    _import_from_read_only_places(options)
    settings.keep_to_one_thread()
    with_network = options.network is settings.Network.EGRESS
    notebook = Notebook(network=with_network)
    loaded = _import(_BASE)
    notebook.warm_up()
    _import_from_read_only_places(options)  # the notebook adds the current directory, as a kernel does
    tools = _tools(options, measures, notebook, with_network=with_network)
    sandbox.adopt_orphans()
    sandbox.set_dumpable(False)
    _try_in_child(lambda: isolate.enter(tools, [options.work_dir]))
    _freeze(loaded)
    log.info(
        "imports done",
        extra={"imports": loaded, "seconds": round(time.monotonic() - began, 3), "landlock": tools.landlock},
    )
    return tools


def prepare_science(options: settings.RunnerSettings, tools: Tools) -> None:
    """Import more, for the branch.

    Raises:
        NotSingleThreadedError: when an import started a thread.
    """
    began = time.monotonic()
    fonts = options.work_dir / f"{clean.RUN_PREFIX}science{clean.FONTS_SUFFIX}"
    link_fonts(fonts, tools.fonts)
    settings.add_to_environment({"MPLCONFIGDIR": str(fonts), **figures.ENVIRONMENT})
    gc.unfreeze()
    loaded = _import(_SCIENCE)
    tools.notebook.warm_up()
    _import_from_read_only_places(options)
    _freeze(loaded)
    log.info("imports done", extra={"imports": loaded, "seconds": round(time.monotonic() - began, 3)})


def has_science(options: settings.RunnerSettings) -> bool:
    """True when there is to be a branch: it is wanted, and the container is not too small for it."""
    return options.science and not 0 < options.memory_bytes < limits.LEAST_FOR_SCIENCE


def link_fonts(directory: Path, files: Iterable[Path]) -> None:
    """Make a configuration directory for matplotlib that has the image's list of fonts."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for path in files:
        with suppress(FileExistsError):
            (directory / path.name).symlink_to(path)


def inventory() -> BinaryIO:
    """Return a memory file with {module: version} of what is installed, from the names of its directories alone."""
    found: dict[str, str] = {}
    for place in sys.path:
        with suppress(OSError):
            for path in Path(place or ".").glob("*.dist-info"):
                name, _, version = path.name.removesuffix(".dist-info").partition("-")
                found.setdefault(name.replace("_", "-").lower(), version)
    listed = dict(sorted(found.items())[:_MOST_MODULES])
    file = os.fdopen(os.memfd_create("inventory"), "wb+", buffering=0)
    file.write(json.dumps(listed).encode()[: frames.MAX_INVENTORY_BYTES])
    return file


def _tools(
    options: settings.RunnerSettings, measures: sandbox.Measures, notebook: Notebook, *, with_network: bool
) -> Tools:
    cpus = limits.cpu_count()
    version = min(landlock.abi(), measures.newest_landlock) if measures.landlock else 0
    python = (sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path)
    return Tools(
        measures=measures,
        limits=limits.derive(
            options.memory_bytes,
            options.slots,
            limits.data_bytes(),
            own_namespace=limits.in_own_namespace(),
            cpus=cpus,
            overhead_bytes=limits.overhead(options.slots, science=has_science(options)),
        ),
        filter=seccomp.Filter(internet=with_network),
        landlock=version,
        grants=(
            *landlock.system_grants(map(os.path.realpath, python), options.work_dir),
            *(landlock.scratch_grant(path, options.work_dir) for path in options.sweep_dirs),
        ),
        network=with_network,
        environment=_environment(options, cpus),
        touches_deeply=True,
        notebook=notebook,
        work_dir=options.work_dir,
        fonts=tuple(options.font_cache.glob("*.json")) if options.font_cache else (),
        scratch=options.sweep_dirs,
        home=_home(options),
    )


def _home(options: settings.RunnerSettings) -> Path:
    """Return the home directory that contexts and the agent share: the one of the settings, if it can be written to."""
    if options.home_dir is not None and os.access(options.home_dir, os.W_OK):
        return options.home_dir
    home = options.work_dir / "home"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def _environment(options: settings.RunnerSettings, cpus: int) -> dict[str, str]:
    """Return what every program starts with, but for its places."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **dict(options.user_environment)}
    return {**environment, **figures.ENVIRONMENT, "OMP_NUM_THREADS": str(cpus)}


def _import_from_read_only_places(options: settings.RunnerSettings) -> None:
    """Forget paths in which user code could leave a module: this process and its forks would import it."""
    writable = [path for path in (options.work_dir, options.home_dir, *options.sweep_dirs) if path is not None]
    places = {place: Path(place or ".").resolve() for place in sys.path}
    sys.path[:] = [
        place for place, path in places.items() if place and not any(path.is_relative_to(each) for each in writable)
    ]


def _import(names: Iterable[str]) -> list[str]:
    loaded = []
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)
            loaded.append(name)
    return loaded


def _freeze(loaded: list[str]) -> None:
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads != 1:
        raise NotSingleThreadedError(f"{threads} threads after importing {', '.join(loaded)}")
    gc.collect()
    gc.freeze()
    sandbox.drop_code_pages()


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
        raise sandbox.SandboxError("the kernel refused the measures that hold a run")
