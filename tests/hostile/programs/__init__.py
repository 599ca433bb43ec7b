"""The hostile programs, by class, in the order of the list that they come from."""

from tests.hostile.model import Absent, Program
from tests.hostile.programs import (
    commands,
    cpu,
    escapes,
    files,
    integrity,
    kernel,
    memory,
    monty,
    network,
    output,
    parsing,
    processes,
)

_CLASSES = (cpu, memory, processes, output, parsing, files, network, kernel, escapes, integrity)
PROGRAMS: tuple[Program, ...] = tuple(program for part in _CLASSES for program in part.PROGRAMS)
ABSENT: tuple[Absent, ...] = tuple(absent for part in _CLASSES for absent in getattr(part, "ABSENT", ()))
AS_COMMANDS: tuple[Program, ...] = (
    *(program for program in PROGRAMS if program.name in commands.ALSO_AS_COMMANDS),
    *commands.AT_THE_AGENT,
)
"""Tried once more, started by envd."""
FOR_MONTY = monty.PROGRAMS
"""In words that reach Monty's interpreter, which most of the others do not: they are refused before anything runs."""
LISTED = 130
"""Entries of the list."""
