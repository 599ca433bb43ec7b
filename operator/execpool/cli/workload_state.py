"""What is known of a running workload: one row per query, moved by what the gateway says. Pure.

Events are the lines of the gateway's NDJSON answer, as they come; a problem answer is the event `refused`, which the stream
knows too, and a broken connection the event `lost`. What is not known is ignored: a newer gateway may say more.
"""

import ast
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from execpool.api.names import Outcome
from execpool.cli.workload_facts import Birth, Facts

DATA_LIBRARIES = frozenset({"pandas", "scipy", "sklearn", "matplotlib"})
"""What makes a program one of data science here: it asks for the tier that is meant for those."""
SEED = "before execpool: 27-320 s per query, rate limited, 0 executions on warm sandboxes"
"""The same workload on the setup that this project started from."""

Event = Mapping[str, Any]


class Stage(StrEnum):
    """How far a query is."""

    SENT = "sent"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True)
class Query:
    """One program of one user."""

    user: str
    name: str
    code: str

    @property
    def label(self) -> str:
        """`user/name`, unique in a workload."""
        return f"{self.user}/{self.name}"

    @property
    def question(self) -> str:
        """The program's docstring, in one line; empty when it has none or is not Python."""
        try:
            return " ".join((ast.get_docstring(ast.parse(self.code)) or "").split())
        except (SyntaxError, ValueError):
            return ""

    @property
    def is_data_science(self) -> bool:
        """True when the program imports one of DATA_LIBRARIES; False when it is not Python."""
        try:
            nodes = list(ast.walk(ast.parse(self.code)))
        except (SyntaxError, ValueError):
            return False
        imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
        return not DATA_LIBRARIES.isdisjoint(name.partition(".")[0] for name in imported)


@dataclass(frozen=True)
class Row:
    """What is known of one query. Seconds are as the gateway measured them, but for `started_at`."""

    query: Query
    stage: Stage = Stage.SENT
    position: int = 0
    """Place in the queue, 1 is next; 0 while unknown."""
    executor: str = ""
    tier: str = ""
    started_at: float = 0.0
    wait_seconds: float = 0.0
    run_seconds: float = 0.0
    total_seconds: float = 0.0
    outcome: str = ""
    """`Succeeded`, or why not: an outcome, `Refused`, or `Lost` when the gateway never said."""
    detail: str = ""
    result: str = ""

    @property
    def waited_seconds(self) -> float:
        """All that came before it ran: the queue, the claim, and on E2B a context."""
        return max(self.total_seconds - self.run_seconds, self.wait_seconds)

    @property
    def is_good(self) -> bool:
        """True when the program ran to its end."""
        return self.outcome == Outcome.SUCCEEDED

    @property
    def is_pooled(self) -> bool:
        """True when an executor of the pool ran it."""
        return self.outcome in set(Outcome) and bool(self.executor)

    def apply(self, event: Event, now: float) -> Self:
        """Return the row after an event; a row that is done stays as it is."""
        if self.stage is Stage.DONE:
            return self
        match event.get("type"):
            case "accepted":
                return replace(self, stage=Stage.WAITING)
            case "waiting":
                return replace(self, stage=Stage.WAITING, position=int(event.get("position") or 0))
            case "started":
                executor, tier = str(event.get("executor", "")), str(event.get("tier", ""))
                return replace(self, stage=Stage.RUNNING, position=0, started_at=now, executor=executor, tier=tier)
            case "answer":
                return self._answered(event)
            case "refused":
                problem = event.get("problem") or {}
                return self._ended("Refused", f"{problem.get('reason', '')}: {problem.get('detail', '')}")
            case "lost":
                return self._ended("Lost", str(event.get("detail", "")))
        return self

    def _ended(self, outcome: str, detail: str) -> Self:
        return replace(self, stage=Stage.DONE, position=0, outcome=outcome, detail=detail)

    def _answered(self, answer: Event) -> Self:
        route, timings = answer.get("route") or {}, answer.get("timings") or {}
        return replace(
            self._ended(str(answer.get("status", "")), _why(answer)),
            executor=str(route.get("executor") or self.executor),
            tier=str(route.get("tier") or self.tier),
            wait_seconds=float(timings.get("waitSeconds", 0.0)),
            run_seconds=float(timings.get("runSeconds", 0.0)),
            total_seconds=float(timings.get("totalSeconds", 0.0)),
            result=_main_result(answer),
        )


@dataclass(frozen=True)
class WorkloadState:
    """All queries of a workload, in their order."""

    rows: tuple[Row, ...]
    began: float
    ended: float | None = None
    """When the last query was done; None before."""
    submitted_at: float = 0.0
    """When everything was sent, in UNIX seconds, as the facts have their times."""
    facts: Facts | None = None
    """What the cluster tells; None where nobody looks."""

    @classmethod
    def of(cls, queries: list[Query], now: float, submitted_at: float = 0.0) -> Self:
        """Return the state in which everything has been sent and nothing heard."""
        return cls(tuple(Row(query) for query in queries), now, submitted_at=submitted_at)

    def apply(self, query: Query, event: Event, now: float) -> Self:
        """Return the state after an event of one query."""
        rows = tuple(row.apply(event, now) if row.query == query else row for row in self.rows)
        is_over = self.ended is None and all(row.stage is Stage.DONE for row in rows)
        return replace(self, rows=rows, ended=now if is_over else self.ended)

    def row(self, query: Query) -> Row:
        """Return the row of a query."""
        return next(row for row in self.rows if row.query == query)

    def count(self, stage: Stage) -> int:
        """Return how many queries are at a stage."""
        return sum(row.stage is stage for row in self.rows)

    @property
    def makespan(self) -> float:
        """Seconds from the first submission to the last answer."""
        return (self.ended or self.began) - self.began

    @property
    def pooled(self) -> int:
        """How many queries ran on executors of the pool."""
        return sum(row.is_pooled for row in self.rows)

    @property
    def failed(self) -> tuple[Row, ...]:
        """Queries that did not end well."""
        return tuple(row for row in self.rows if row.stage is Stage.DONE and not row.is_good)

    # What follows from the facts

    def birth(self, row: Row) -> Birth | None:
        """Return when a query's executor came to be; None while that is not known."""
        return self.facts.birth(row.executor) if self.facts and row.executor else None

    def creation_seconds(self, row: Row) -> float:
        """Return how much of a query's wait its executor was being created."""
        birth = self.birth(row)
        waited = row.waited_seconds if row.stage is Stage.DONE else row.started_at - self.began
        return birth.seconds_between(self.submitted_at, self.submitted_at + waited) if birth else 0.0

    def is_warm_hit(self, row: Row) -> bool | None:
        """True when a query's executor had been asked for before the query came; None while that is not known."""
        birth = self.birth(row)
        return birth.begun <= self.submitted_at if birth else None

    def created_on_path(self) -> set[str]:
        """Return the executors that were asked for after a query that then ran in them."""
        return {row.executor for row in self.rows if row.is_pooled and self.is_warm_hit(row) is False}

    def executions_by_sandbox(self) -> dict[str, int]:
        """Return how many executions each sandbox has had: by the ledger, or else by the gateway's answers."""
        if self.facts is None:
            return {}
        ran = Counter(row.executor for row in self.rows if row.is_pooled)
        counts = ran if self.facts.executions is None else self.facts.executions
        return {one.name: counts.get(one.name, 0) for one in self.facts.sandboxes}

    def users_by_executor(self) -> dict[str, set[str]]:
        """Return whom each executor served."""
        users: dict[str, set[str]] = {}
        for row in self.rows:
            if row.is_pooled:
                users.setdefault(row.executor, set()).add(row.query.user)
        return users

    def report(self) -> dict[str, Any]:
        """Return the whole as a JSON object."""
        users = self.users_by_executor()
        return {
            "makespanSeconds": round(self.makespan, 3),
            "queries": [_report(row) for row in self.rows],
            "throughPool": self.pooled,
            "executors": len(users),
            "executorsSharedByUsers": sum(len(served) > 1 for served in users.values()),
            "failed": len(self.failed),
            **self._report_of_facts(),
        }

    def _report_of_facts(self) -> dict[str, Any]:
        if self.facts is None:
            return {}
        sandboxes = self.executions_by_sandbox()
        on_path = self.created_on_path()
        return {
            "refusedWith429": self.facts.refused,
            "sandboxesCreated": self.facts.created,
            "createsOnRequestPath": len(on_path & sandboxes.keys()),
            "podsCreatedOnRequestPath": len(on_path - sandboxes.keys()),
            "executionsBySandbox": sandboxes,
        }


def _report(row: Row) -> dict[str, Any]:
    return {
        "user": row.query.user,
        "query": row.query.name,
        "question": row.query.question,
        "status": row.outcome,
        "detail": row.detail,
        "result": row.result,
        "tier": row.tier,
        "executor": row.executor,
        "waitSeconds": row.wait_seconds,
        "runSeconds": row.run_seconds,
        "totalSeconds": row.total_seconds,
    }


def _why(answer: Event) -> str:
    if error := answer.get("error"):
        return f"{error.get('name', '')}: {error.get('value', '')}"
    return ": ".join(str(answer[key]) for key in ("reason", "message") if answer.get(key))


def _main_result(answer: Event) -> str:
    texts = [str(result.get("text", "")) for result in answer.get("results") or () if result.get("is_main_result")]
    return texts[-1] if texts else ""
