"""What a hostile program is, and what must hold after it, whatever it does.

A program reports by itself what it should not have been able to do: `attempt(what, call, *arguments)` calls, and prints
the mark when the call succeeds; `escaped(what)` prints the mark. The harness looks for the mark, for the canaries, and
at everything that a program cannot report: time, processes, files, the server.
"""

from dataclasses import dataclass
from string import Template

MARK = "ESCAPED"

PRELUDE = f"""
def escaped(what, got=''):
    print('{MARK[:3]}' + '{MARK[3:]}', what, repr(got)[:200], flush=True)

def attempt(what, call, *arguments, **options):
    try:
        got = call(*arguments, **options)
    except BaseException as error:
        print(what, '->', type(error).__name__, str(error)[:80], flush=True)
        return None
    escaped(what, got)
    return got

"""

ENDS = frozenset({"Succeeded", "Failed", "TimedOut", "Killed"})
"""Any end that was seen and told; Unknown, a lost runner, is none of them."""
STOPPED = frozenset({"TimedOut"})
CUT = frozenset({"Killed", "TimedOut"})
WELL = frozenset({"Succeeded"})
RAISED = frozenset({"Failed"})


@dataclass(frozen=True)
class Program:
    """One entry of the list of reliability section 9."""

    name: str
    kind: str
    code: str
    ends: frozenset[str] = ENDS
    """Statuses that a Python runtime may answer with; Monty may also say NotSupported, to any of them."""
    seconds: float = 1.5
    """Its limit."""
    says: str = ""
    """What its output must contain."""
    light: bool = True
    """False for what would disturb others on a shared machine; such programs run in a pod alone."""


@dataclass(frozen=True)
class Absent:
    """An entry of the list for which there is no program, and why."""

    name: str
    kind: str
    why: str


@dataclass(frozen=True)
class Targets:
    """Whom the programs aim at; addresses are those that user code would find out."""

    server_pid: int = 1
    control: str = "127.0.0.1:49901"
    data: str = "127.0.0.1:49999"
    state_dir: str = "/var/lib/execpool"
    socket_dir: str = "/run/execpool"
    api: str = "10.96.0.1:443"
    gateway: str = "127.0.0.1:8080"
    envd: str = "127.0.0.1:49983"
    neighbour: str = "127.0.0.1:49901"
    neighbour_data: str = "127.0.0.1:49999"
    neighbour_envd: str = "127.0.0.1:49983"
    node: str = "127.0.0.1"
    resolver: str = "10.96.0.10"

    def code(self, program: Program) -> str:
        """Return a program as it is sent; without the prelude unless it reports, for Monty refuses what is in that."""
        prelude = PRELUDE if "attempt(" in program.code or "escaped(" in program.code else ""
        return prelude + Template(program.code).safe_substitute(
            {name.upper(): str(v) for name, v in vars(self).items()}
        )
