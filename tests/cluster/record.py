"""The cluster's memory on disk: which processes it started, and whether `up` ever finished."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from .processes import Process


@dataclass
class Record:
    """What a later command needs to know; written after every start, so that a killed `up` leaves it true."""

    processes: dict[str, Process] = field(default_factory=dict)
    complete: bool = False

    @classmethod
    def load(cls, file: Path) -> "Record | None":
        """Read the record; None where there is none or a write was cut short."""
        try:
            raw = json.loads(file.read_text())
        except (OSError, ValueError):
            return None
        processes = {name: Process(**one) for name, one in raw["processes"].items()}
        return cls(processes=processes, complete=raw["complete"])

    def save(self, file: Path) -> None:
        """Replace the record in one step."""
        processes = {name: {"pid": one.pid, "started": one.started} for name, one in self.processes.items()}
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps({"processes": processes, "complete": self.complete}, indent=2))
        partial.replace(file)
