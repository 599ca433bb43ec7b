"""The API server of `memory`, for component tests: with a record of every request, and faults before or after its effect."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from execpool.kube.kinds import Kind
from execpool.kube.memory import Call, MemoryKube

__all__ = ["Call", "FakeKube"]


def _counted() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"uid-{next(numbers)}"


@dataclass
class FakeKube(MemoryKube):
    """The double of `KubeClient`. Its clock stands still.

    Attributes:
        calls: every request so far, in order.
        before: called with each request before it has its effect; raise to refuse it.
        after: called with each request after its effect; raise to lose the answer of a write that happened.
    """

    now: Callable[[], float] = lambda: 1_767_225_600.0
    draw_uid: Callable[[], str] = field(default_factory=_counted)
    calls: list[Call] = field(default_factory=list)
    before: Callable[[Call], None] = lambda _call: None
    after: Callable[[Call], None] = lambda _call: None

    def writes(self) -> tuple[Call, ...]:
        """Return the requests that changed or tried to change something."""
        return tuple(call for call in self.calls if call.writes)

    def _begin(self, verb: str, kind: Kind, namespace: str | None, name: str, body: Any = None) -> Call:
        call = super()._begin(verb, kind, namespace, name, copy.deepcopy(body))
        self.calls.append(call)
        self.before(call)
        return call

    def _end(self, call: Call) -> None:
        self.after(call)
