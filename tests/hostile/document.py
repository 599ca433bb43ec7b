"""`python -m tests.hostile.document`: writes docs/hostile-programs.md from the programs; `--check` says whether it is current."""

import sys
from pathlib import Path

from tests.hostile import figures
from tests.hostile.model import ENDS, Program
from tests.hostile.programs import ABSENT, AS_COMMANDS, FOR_MONTY, LISTED, PROGRAMS
from tests.hostile.reasons import WHY
from tests.hostile.residue import CHANNELS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hostile-programs.md"

_HEAD = f"""# Hostile programs: what is tried, and what must hold

Written by `python -m tests.hostile.document` from `tests/hostile/programs`. The list behind it has {LISTED} entries in ten
classes. {LISTED - len(ABSENT)} of them apply and are programs here; {len(ABSENT)} do not, and the table *Not among them* says why and where they
are tested instead. Some entries need more than one program, and some programs were found by us: {len(PROGRAMS)} in all.

Each program runs as a stateless run, in a context and in Monty: the light ones on a local executor inside namespaces of its
own (`tests/component/test_hostile.py`), all of them in the real restricted pod (`tests/e2e/test_hostile_pod.py`), with a
polite program in the slot beside it all the time. There, {len(AS_COMMANDS)} also run as commands that envd starts. After every one of
them must hold:

- it ended as the table says (in a context, and as a command: as any of {", ".join(sorted(ENDS))}; in Monty also
  NotSupported), within its limit and a second, in one well-formed stream of bounded length;
- it did not do what it tried, by its own word; no canary (claim secret, token, what is in the server's environment) in
  anything that it said; nothing connected;
- the server answers `/health` within a second, the next `1 + 1` gives 2, every polite run beside succeeded;
- in the end no process, thread, byte or file more than before, on any file system of the pod that can be written to; no
  container started again, no secret in a log, the neighbour as it was, and nothing of the platform in `/files`.

Monty refuses most of these programs before anything runs; {len(FOR_MONTY)} more are written so that they reach its interpreter. All of
them are also handed to a fenced worker without that check (`tests/component/test_monty_worker.py`), which tries the
interpreter and its fence by themselves. What each measure holds alone, and that its tests fail without it:
`tests/component/test_executor_measures.py`.

## Held, but not by a limit of the run

- *Shared anonymous maps* count for no limit of a process. A program that fills them and lets them go meets the limit of the
  container; the kernel then ends what it finds largest, which may be the process that keeps the scientific libraries. It
  comes back within seconds, and until then programs import by themselves. Memory files, which were worse, are refused.
- *Processes* (384 in a user namespace of the pod's own) are counted for all programs of one executor, which has one
  principal: a fork bomb makes others of that principal wait until it is ended.
- *Commands* share their signals with the agent that starts them, so one may end all others of its claim. They have no cap on
  output, as in E2B: it is read as fast as the client does.
- On control groups v2 the kubelet has the kernel end a whole container that is out of memory: then all runs in it are over.
"""

_RESIDUE = f"""## What a run leaves for the next one

{len(CHANNELS)} channels between two stateless runs of one principal, tried with nothing else running and with another run beside;
{sum(channel.beside for channel in CHANNELS)} of them are seen, and only with another run beside (or a context, or an agent, whose files they may be). Each was seen
by the run that planted it, or is refused there, so the looks are good ones. They are the 26 of campaign C7, with System V in
three rows and TMPDIR added. Between principals there is none: an executor serves one principal for its life. A context
keeps its state on purpose, as do files of contexts and commands in /home/user, until the claim ends.

| channel | next run alone | with another run beside | why |
| --- | --- | --- | --- |
"""

_FIGURES = """## Figures of the campaigns in the real pod

Recorded by `EXECPOOL_RECORD_FIGURES=1 pytest tests/e2e/test_hostile_pod.py` on the test cluster: a `restricted` pod in a user
namespace, 2 slots, 1 CPU, 768 MiB, control groups v1, two processors shared with all of the cluster. Polite runs are
`sum(range(10))` in the other slot. *Late* is the longest time from a program's limit to its answer.

| variant | programs | findings | late | polite runs | p50 | p99 | longest | processes, tasks before and after |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD, _FIGURES + "".join(_figures_row(name, found) for name, found in figures.read().items())]
    for kind in dict.fromkeys(program.kind for program in (*PROGRAMS, *AS_COMMANDS, *FOR_MONTY)):
        programs = [each for each in dict.fromkeys((*PROGRAMS, *AS_COMMANDS, *FOR_MONTY)) if each.kind == kind]
        rows = "".join(_row(program) for program in programs)
        parts.append(
            f"## {kind[0].upper()}{kind[1:]} ({len(programs)})\n\n| program | ends as | where |\n| --- | --- | --- |\n{rows}"
        )
    absent = "".join(f"| {entry.name} | {entry.kind} | {entry.why} |\n" for entry in ABSENT)
    parts.append(f"## Not among them\n\n| entry | class | why |\n| --- | --- | --- |\n{absent}")
    channels = "".join(
        f"| {channel.name} | not seen | {'seen' if channel.beside else 'not seen'} | {channel.why or WHY[channel.name]} |\n"
        for channel in CHANNELS
    )
    parts.append(_RESIDUE + channels)
    return "\n".join(parts)


def _figures_row(variant: str, found: figures.Figures) -> str:
    counted = f"{found.before[0]}, {found.before[1]} and {found.after[0]}, {found.after[1]}"
    times = f"{found.p50 * 1000:.0f} ms | {found.p99 * 1000:.0f} ms | {found.longest:.1f} s"
    cells = f"{found.tried} | {found.problems} | {found.latest:.2f} s | {found.polite} | {times} | {counted}"
    return f"| {variant} | {cells} |\n"


def _row(program: Program) -> str:
    ends = "any that is told" if program.ends == ENDS else " or ".join(sorted(program.ends))
    name = program.name.replace("*", "\\*")
    where = ["local"] if program.light and program in PROGRAMS else []
    where += ["pod"] if program in PROGRAMS else []
    where += ["command in the pod"] if program in AS_COMMANDS else []
    where += ["Monty in the pod"] if program in FOR_MONTY else []
    return f"| {name} | {ends} | {', '.join(where)} |\n"


def main(arguments: list[str]) -> int:
    """Write, or compare."""
    if "--check" in arguments:
        return int(PAGE.read_text(encoding="utf-8") != page())
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
