"""The hostile programs, by class, in the order of the list that they come from."""

from tests.hostile.model import Absent, Program
from tests.hostile.programs import (
    cpu,
    escapes,
    files,
    integrity,
    kernel,
    memory,
    network,
    output,
    parsing,
    processes,
)

_CLASSES = (cpu, memory, processes, output, parsing, files, network, kernel, escapes, integrity)
PROGRAMS: tuple[Program, ...] = tuple(program for part in _CLASSES for program in part.PROGRAMS)
ABSENT: tuple[Absent, ...] = tuple(absent for part in _CLASSES for absent in getattr(part, "ABSENT", ()))
LISTED = 130
"""Entries of the list."""
