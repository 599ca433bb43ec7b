"""`python -m tests.hostile.document`: writes docs/hostile-programs.md from the programs; `--check` says whether it is current."""

import sys
from pathlib import Path

from tests.hostile.model import ENDS, Program
from tests.hostile.programs import ABSENT, LISTED, PROGRAMS
from tests.hostile.residue import CHANNELS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hostile-programs.md"

_HEAD = f"""# Hostile programs: what is tried, and what must hold

Written by `python -m tests.hostile.document` from `tests/hostile/programs`. The list behind it has {LISTED} entries in ten
classes; {len(PROGRAMS)} programs stand for them, {len(ABSENT)} entries are tested elsewhere or do not exist here (below).

Each program runs as a stateless run, in a context and in Monty: the light ones on a local executor inside namespaces of its
own (`tests/component/test_hostile.py`), all of them in the real restricted pod (`tests/e2e/test_hostile_pod.py`), with a
polite program in the slot beside it all the time. After every one of them must hold:

- it ended as the table says (in a context: as any of {", ".join(sorted(ENDS))}; in Monty also NotSupported), within its limit
  and a second, in one well-formed stream of bounded length;
- it did not do what it tried, by its own word; no canary (claim secret, token, what is in the server's environment) in
  anything that it said; nothing connected;
- the server answers `/health` within a second, the next `1 + 1` gives 2, every polite run beside succeeded;
- in the end no process and no file more than before, no container started again, no secret in a log.

In Monty, the same programs are also handed to a fenced worker without the check that refuses most of them before
(`tests/component/test_monty_worker.py`), which tries the interpreter and its fence by themselves.
"""

_RESIDUE = f"""## What a run leaves for the next one

{len(CHANNELS)} channels between two stateless runs of one principal, tried with nothing else running and with another run beside.
Between principals there is none: an executor serves one principal for its life. A context keeps its state on purpose.

| channel | next run alone | with another run beside |
| --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for kind in dict.fromkeys(program.kind for program in PROGRAMS):
        programs = [program for program in PROGRAMS if program.kind == kind]
        rows = "".join(_row(program) for program in programs)
        parts.append(
            f"## {kind[0].upper()}{kind[1:]} ({len(programs)})\n\n| program | ends as | where |\n| --- | --- | --- |\n{rows}"
        )
    absent = "".join(f"| {entry.name} | {entry.kind} | {entry.why} |\n" for entry in ABSENT)
    parts.append(f"## Not among them\n\n| entry | class | why |\n| --- | --- | --- |\n{absent}")
    channels = "".join(
        f"| {channel.name} | not seen | {f'seen: {channel.why}' if channel.beside else 'not seen'} |\n"
        for channel in CHANNELS
    )
    parts.append(_RESIDUE + channels)
    return "\n".join(parts)


def _row(program: Program) -> str:
    ends = "any that is told" if program.ends == ENDS else " or ".join(sorted(program.ends))
    name = program.name.replace("*", "\\*")
    return f"| {name} | {ends} | {'local, pod' if program.light else 'pod'} |\n"


def main(arguments: list[str]) -> int:
    """Write, or compare."""
    if "--check" in arguments:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
