"""Calls that are no executions: while one goes on, the executor is not idle."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from execpool.executor.server.claim import Ownership


@contextmanager
def visit(ownership: Ownership, on_change: Callable[[], None]) -> Iterator[None]:
    """Count a call while it goes on; `on_change` is called when the executor may have become idle."""
    ownership.visit(now=time.monotonic())
    try:
        yield
    finally:
        ownership.leave(now=time.monotonic())
        on_change()
