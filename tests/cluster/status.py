"""What runs, for a person (a table) or a program (JSON)."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from . import processes
from .cluster import Cluster
from .layout import API_URL, Layout
from .record import Record

_COLUMNS = "{:<26} {:>8}  {:<8} {:>12}"


@dataclass(frozen=True)
class ComponentStatus:
    """One component as seen now."""

    name: str
    pid: int
    state: str
    """Running or Dead."""
    memory_mib: int


@dataclass(frozen=True)
class ClusterStatus:
    """The whole cluster as seen now."""

    healthy: bool
    state_folder: Path
    components: tuple[ComponentStatus, ...]

    def as_json(self) -> str:
        """Return it for programs."""
        fields = {
            "healthy": self.healthy,
            "server": API_URL,
            "kubeconfig": str(Layout(self.state_folder, self.state_folder).kubeconfig),
            "components": [asdict(one) for one in self.components],
        }
        return json.dumps(fields, indent=2)

    def as_table(self) -> str:
        """Return it for the terminal."""
        if not self.components:
            return f"no cluster in {self.state_folder}"
        rows = [_COLUMNS.format("COMPONENT", "PID", "STATE", "MEMORY (MiB)")]
        rows += [_COLUMNS.format(one.name, one.pid, one.state, one.memory_mib) for one in self.components]
        total = sum(one.memory_mib for one in self.components)
        verdict = "healthy" if self.healthy else "NOT healthy"
        return "\n".join(
            [*rows, "", f"{verdict}; {total} MiB in all; {API_URL}; state and logs in {self.state_folder}"]
        )


def read(layout: Layout) -> ClusterStatus:
    """Look at every component of the record; without a cluster there is none."""
    record = Record.load(layout.record) or Record()
    components = tuple(_look(name, process) for name, process in record.processes.items())
    healthy = bool(components) and Cluster(layout).healthy()
    return ClusterStatus(healthy=healthy, state_folder=layout.state, components=components)


def _look(name: str, process: processes.Process) -> ComponentStatus:
    state = "Running" if processes.alive(process) else "Dead"
    return ComponentStatus(name, process.pid, state, round(processes.memory_mib(process) if state == "Running" else 0))
