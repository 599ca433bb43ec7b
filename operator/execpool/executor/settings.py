"""What the two processes of an executor are told from outside: read once from the environment, frozen, passed down.

This is the only module of the executor that looks at the environment. The same module puts a clean environment in place
for user code (`replace_environment`), so that nothing of ours is left in it: neither the names of the platform's
services nor our own settings.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from execpool import protocol as wire

Environment = Mapping[str, str]

ENV_HOST = "EXECPOOL_HOST"
ENV_DATA_PORT = "EXECPOOL_DATA_PORT"
ENV_CONTROL_PORT = "EXECPOOL_CONTROL_PORT"
ENV_ENVD_PORT = "EXECPOOL_ENVD_PORT"
ENV_WORK_DIR = "EXECPOOL_WORK_DIR"
ENV_SWEEP_DIRS = "EXECPOOL_SWEEP_DIRS"
ENV_HOME_DIR = "EXECPOOL_HOME_DIR"
ENV_SCIENCE = "EXECPOOL_SCIENCE"

_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_NUM_THREADS")
_KEPT_FOR_USER_CODE = ("PATH", "LANG", "LC_ALL", "TZ")


class SettingsError(ValueError):
    """The environment does not describe an executor; nothing was started."""


class Network(StrEnum):
    """What user code may reach."""

    NONE = "None"
    EGRESS = "Egress"


class Runtime(StrEnum):
    """What runs user code."""

    PYTHON = "Python"
    """CPython, in forks of a process that has imported most of what programs need."""
    MONTY = "Monty"
    """An interpreter of a part of Python that reaches nothing; what it cannot answer as CPython does is NotSupported."""


@dataclass(frozen=True)
class ServerSettings:
    """Of the process that owns claim, HTTP, limits and results."""

    executor_id: str
    pod_uid: str
    secret_sha256: str
    slots: int = 1
    """Executions of the one principal at the same time."""
    idle_seconds: float = 120.0
    """A claimed executor without a run ends after this long."""
    max_age_seconds: float = 3600.0 + wire.AGE_GRACE_SECONDS
    """An unclaimed executor ends after this long; whoever sets it has added the grace."""
    host: str = "0.0.0.0"
    data_port: int = wire.DATA_PORT
    """0 takes a free port and logs it, as for the control port."""
    control_port: int = wire.CONTROL_PORT
    envd_port: int = wire.ENVD_PORT
    socket_dir: Path = Path(wire.SOCKET_DIR)
    state_dir: Path = Path(wire.STATE_DIR)
    refuses_itself: bool = False
    """Whether connections from its own address are refused."""
    api_server: tuple[str, int] | None = None
    """What the egress check tries to reach; None outside a cluster."""


@dataclass(frozen=True)
class RunnerSettings:
    """Of the process that forks and ends user code."""

    network: Network = Network.NONE
    runtime: Runtime = Runtime.PYTHON
    memory_bytes: int = 0
    """Memory limit of the runner's container; 0 means that there is none to stay below."""
    slots: int = 1
    socket_dir: Path = Path(wire.SOCKET_DIR)
    work_dir: Path = Path("/tmp")  # noqa: S108 - a tmpfs of this container, never the host's
    """Every run gets a directory of its own in here."""
    sweep_dirs: tuple[Path, ...] = ()
    """What all runs share, the first one as a context's place for temporary files. Emptied when the runner starts and
    whenever nobody runs. The image names /tmp and /dev/shm, which are this container's own; outside an image nobody's
    /tmp is touched."""
    home_dir: Path | None = None
    """What contexts and the agent share as their home, emptied when the runner starts; without it, or when it cannot be
    written to, a directory in `work_dir` is made."""
    science: bool = True
    """Whether a second zygote imports scipy, scikit-learn and matplotlib, which takes 90 MiB more."""
    font_cache: Path | None = None
    """A matplotlib configuration directory to link to, so that no run builds the list of fonts again."""
    user_environment: tuple[tuple[str, str], ...] = ()
    """What every run starts with, before its own `env_vars`."""


def server_settings(environ: Environment | None = None) -> ServerSettings:
    """Read the server's settings.

    Raises:
        SettingsError: when one is missing or does not parse.
    """
    env = os.environ if environ is None else environ
    api_host = env.get("KUBERNETES_SERVICE_HOST", "")
    return ServerSettings(
        executor_id=_required(env, wire.ENV_EXECUTOR_ID),
        pod_uid=_required(env, wire.ENV_POD_UID),
        secret_sha256=_required(env, wire.ENV_SECRET_HASH),
        slots=_whole(env, wire.ENV_SLOTS, 1, least=1),
        idle_seconds=_seconds(env, wire.ENV_IDLE_SECONDS, 120.0),
        max_age_seconds=_seconds(env, wire.ENV_MAX_AGE_SECONDS, 3600.0 + wire.AGE_GRACE_SECONDS),
        host=env.get(ENV_HOST, "0.0.0.0"),
        data_port=_whole(env, ENV_DATA_PORT, wire.DATA_PORT),
        control_port=_whole(env, ENV_CONTROL_PORT, wire.CONTROL_PORT),
        envd_port=_whole(env, ENV_ENVD_PORT, 0 if env.get(ENV_DATA_PORT) == "0" else wire.ENVD_PORT),
        socket_dir=Path(env.get(wire.ENV_SOCKET_DIR, wire.SOCKET_DIR)),
        state_dir=Path(env.get(wire.ENV_STATE_DIR, wire.STATE_DIR)),
        refuses_itself=_whole(env, wire.ENV_REFUSE_SELF, 0) > 0,
        api_server=(api_host, _whole(env, "KUBERNETES_SERVICE_PORT", 443)) if api_host else None,
    )


def runner_settings(environ: Environment | None = None) -> RunnerSettings:
    """Read the runner's settings.

    Raises:
        SettingsError: when one does not parse.
    """
    env = os.environ if environ is None else environ
    network = env.get(wire.ENV_NETWORK, Network.NONE)
    if network not in set(Network):
        raise SettingsError(f"{wire.ENV_NETWORK} must be one of {', '.join(Network)}, not {network!r}")
    runtime = env.get(wire.ENV_RUNTIME, Runtime.PYTHON)
    if runtime not in set(Runtime):
        raise SettingsError(f"{wire.ENV_RUNTIME} must be one of {', '.join(Runtime)}, not {runtime!r}")
    fonts = env.get("MPLCONFIGDIR", "")
    return RunnerSettings(
        network=Network(network),
        runtime=Runtime(runtime),
        memory_bytes=_whole(env, wire.ENV_MEMORY_BYTES, 0),
        slots=_whole(env, wire.ENV_SLOTS, 1, least=1),
        socket_dir=Path(env.get(wire.ENV_SOCKET_DIR, wire.SOCKET_DIR)),
        work_dir=Path(env.get(ENV_WORK_DIR, "/tmp")),  # noqa: S108 - as above
        sweep_dirs=tuple(Path(name) for name in env.get(ENV_SWEEP_DIRS, "").split(":") if name),
        home_dir=Path(env[ENV_HOME_DIR]) if env.get(ENV_HOME_DIR) else None,
        science=_whole(env, ENV_SCIENCE, 1) > 0,
        font_cache=Path(fonts) if fonts else None,
        user_environment=tuple((name, env[name]) for name in _KEPT_FOR_USER_CODE if name in env),
    )


def keep_to_one_thread() -> None:
    """Tell the numeric libraries, before they are imported, to start no threads: a fork would lose them."""
    os.environ.update(dict.fromkeys(_THREADS, "1"))


def current_environment() -> dict[str, str]:
    """Return the whole environment of this process."""
    return dict(os.environ)


def replace_environment(variables: Mapping[str, str]) -> None:
    """Make `variables` the whole environment of this process."""
    os.environ.clear()
    os.environ.update(variables)


def add_to_environment(variables: Mapping[str, str]) -> None:
    """Add to the environment of this process for good."""
    os.environ.update(variables)


@contextmanager
def changed_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Add to the environment of this process for a while; what the names were before is put back."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _required(env: Environment, name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set")
    return value


def _whole(env: Environment, name: str, default: int, *, least: int = 0) -> int:
    text = env.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise SettingsError(f"{name} must be a whole number of at least {least}, not {text!r}")
    return int(text)


def _seconds(env: Environment, name: str, default: float) -> float:
    text = env.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError as error:
        raise SettingsError(f"{name} must be a number of seconds, not {text!r}") from error
    if not 0 < value < float("inf"):
        raise SettingsError(f"{name} must be above 0 and finite, not {text!r}")
    return value
