"""What the cluster and the emulator's ledger tell of a workload's executors, beside what the gateway says. Pure.

    pods, records of sandboxes  ->  Birth of each executor: when it was asked for, and when it was there
    ledger                      ->  the same for sandboxes, more exactly; executions that started in each; 429s

A **create on the request path** is an executor that was asked for after a query had been submitted, and then ran that query: the
query has waited for a creation. That the pool would have made it anyhow, to have its warm number again, is no excuse.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

RATE_LIMITED = 429


@dataclass(frozen=True)
class Birth:
    """When an executor came to be, in UNIX seconds.

    Attributes:
        begun: when it was asked for.
        ready: when it was there; None while it is not, and where nobody tells.
    """

    begun: float
    ready: float | None = None

    def seconds_between(self, start: float, end: float) -> float:
        """Return how much of a while it was being created."""
        return max(min(self.ready or end, end) - max(self.begun, start), 0.0)


@dataclass(frozen=True)
class Executor:
    """An executor as the API server shows it; `sandbox_id` and `is_claimed` are a sandbox's."""

    name: str
    birth: Birth
    sandbox_id: str = ""
    is_claimed: bool = False


@dataclass(frozen=True)
class Ledger:
    """What happened at the emulator, by sandbox id, since a moment."""

    births: Mapping[str, Birth] = field(default_factory=dict)
    executions: Mapping[str, int] = field(default_factory=dict)
    created: int = 0
    refused: int = 0
    """Calls answered with 429."""

    @classmethod
    def read(cls, lines: Iterable[str], since: float) -> Self:
        """Read the emulator's lines; births are kept of all sandboxes, the rest since `since`."""
        births: dict[str, Birth] = {}
        executions: Counter[str] = Counter()
        created = refused = 0
        for entry in map(json.loads, lines):
            moment, event, sandbox = float(entry["time"]), entry["event"], entry.get("sandbox_id", "")
            if event == "Created":
                took = entry.get("drawn_seconds", 0.0) + entry.get("late_seconds", 0.0)
                births[sandbox] = Birth(moment - took, moment)
                created += moment - took >= since
            elif moment >= since:
                executions[sandbox] += event == "ExecutionStarted"
                refused += entry.get("status") == RATE_LIMITED
        return cls(births, +executions, created, refused)


@dataclass(frozen=True)
class Facts:
    """All that is known beside the gateway's answers.

    Attributes:
        executors: that were seen, by name.
        executions: starts by name of the sandbox, as the emulator's ledger has them; None where there is no ledger.
        created: sandboxes asked for since the workload began.
        refused: 429s since then.
    """

    executors: Mapping[str, Executor] = field(default_factory=dict)
    executions: Mapping[str, int] | None = None
    created: int = 0
    refused: int = 0

    def birth(self, name: str) -> Birth | None:
        """Return when an executor came to be; None while that is not known."""
        executor = self.executors.get(name)
        return executor.birth if executor else None

    @property
    def sandboxes(self) -> tuple[Executor, ...]:
        """Those of the executors that are sandboxes."""
        return tuple(executor for executor in self.executors.values() if executor.sandbox_id)


def read_executors(listed: Mapping[str, Any]) -> dict[str, Executor]:
    """Return the executors in a list of pods and E2BSandboxes, by name."""
    executors = (_of_sandbox(item) if item["kind"] == "E2BSandbox" else _of_pod(item) for item in listed["items"])
    return {executor.name: executor for executor in executors}


def combine(executors: Mapping[str, Executor], ledger: Ledger) -> Facts:
    """Return the facts where there is a ledger: it knows when a sandbox was really asked for, and what ran in it."""
    exact = {name: replace(one, birth=ledger.births.get(one.sandbox_id, one.birth)) for name, one in executors.items()}
    names = {one.sandbox_id: name for name, one in executors.items() if one.sandbox_id}
    executions = {names.get(sandbox_id, sandbox_id): count for sandbox_id, count in ledger.executions.items()}
    return Facts(exact, executions, ledger.created, ledger.refused)


def _of_sandbox(item: Mapping[str, Any]) -> Executor:
    status = item.get("status") or {}
    return Executor(
        item["metadata"]["name"],
        Birth(_moment(item["spec"]["attemptAt"])),
        status.get("sandboxID", ""),
        status.get("claim") is not None,
    )


def _of_pod(item: Mapping[str, Any]) -> Executor:
    """Its times are whole seconds, cut off."""
    conditions = (item.get("status") or {}).get("conditions") or []
    ready = [
        _moment(one["lastTransitionTime"]) for one in conditions if (one["type"], one["status"]) == ("Ready", "True")
    ]
    metadata = item["metadata"]
    return Executor(metadata["name"], Birth(_moment(metadata["creationTimestamp"]), ready[0] if ready else None))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
