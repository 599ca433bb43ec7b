"""What a component is: a name, a command line and the configuration files it reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Component:
    """One process of the cluster, as a value: building it touches nothing."""

    name: str
    command: tuple[str, ...]
    files: Mapping[Path, str] = field(default_factory=dict)
    own_mounts: bool = False
    """Runs in kubelet's nested mount namespace (see mounts.py)."""


def flags(**values: object) -> tuple[str, ...]:
    """Return `--a-b=value` words for `a_b=value`; booleans become true and false."""
    return tuple(f"--{name.replace('_', '-')}={_text(value)}" for name, value in values.items())


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
