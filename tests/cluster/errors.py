"""What can go wrong with the test cluster.

ClusterError                 the message is for the person at the terminal; exit 1
 +- PackagesMissingError     Debian packages are missing and cannot be installed; exit 2
 +- CommandError             a tool exited non-zero or ran past its time limit
 +- BuildError               a Go component or an image did not build
 +- ComponentError           a component ended or never answered; carries its log's end
 +- AnotherClusterError      this machine's one cluster lives in another state folder
 +- NotRunningError          the command needs a running cluster
"""

from pathlib import Path

LOG_TAIL_LINES = 20


class ClusterError(Exception):
    """Base of all: shown without a traceback."""

    exit_code = 1


class PackagesMissingError(ClusterError):
    """Needed Debian packages are missing; the message holds the command that installs them."""

    exit_code = 2


class CommandError(ClusterError):
    """A tool exited non-zero or ran past its time limit."""


class BuildError(ClusterError):
    """A Go component or an image did not build."""


class AnotherClusterError(ClusterError):
    """The machine's one cluster is up, with another state folder."""


class NotRunningError(ClusterError):
    """The command needs a running cluster."""


class ComponentError(ClusterError):
    """A component ended, or did not answer in time."""

    def __init__(self, component: str, problem: str, log: Path) -> None:
        self.component = component
        super().__init__(f"{component} {problem}; the end of {log}:\n{log_tail(log)}")


def log_tail(log: Path) -> str:
    """Return the last lines of a log, or a note that there is none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError as error:
        return f"  (unreadable: {error.strerror})"
    return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:]) or "  (empty)"
