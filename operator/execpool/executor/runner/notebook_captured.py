"""User code may raise anything anywhere, also in a repr: `Captured` takes such an exception as a value.

The one place of the notebook that catches everything; whoever uses it decides what the exception means. Where an
interrupt must go on to end the cell, only `Exception` is taken.
"""

from types import TracebackType
from typing import Self


class Captured:
    """`with Captured() as captured:` takes whatever user code raises, SystemExit included, as `captured.error`."""

    def __init__(self, kind: type[BaseException] = BaseException) -> None:
        self._kind = kind
        self.error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is not None and not isinstance(error, self._kind):
            return False
        self.error = error
        return True
