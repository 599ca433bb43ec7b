"""Where results and errors of a cell leave: IPython's display hook and publisher, without a kernel's sockets.

    last expression -> ResultHook -> result, is_main_result true     display(), figures -> Publisher -> result, false
    any exception   -> NotebookShell._showtraceback -> error         ?name, %page       -> pager     -> result, false

All of them end in one `Outlet`, which flushes what was printed before, so that the order is the program's, and lets the
first error of a cell pass alone: a client of E2B sees one. As there, updates of an earlier display and `clear_output`
are not passed on: the wire has no way to name an earlier result.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher

from execpool.executor.runner import display_events
from execpool.executor.runner.display_events import Event
from execpool.executor.runner.notebook_captured import Captured

Emit = Callable[[Event], None]

_EMPTY = 2
"""Fields of a result that has no format."""


class Outlet:
    """The events of the evaluation in progress."""

    def __init__(self) -> None:
        self._emit: Emit = lambda _: None
        self.error_name: str | None = None
        """Name of the first error of this evaluation."""

    def open(self, emit: Emit) -> None:
        """Begin an evaluation."""
        self._emit = emit
        self.error_name = None

    def result(self, bundle: Mapping[str, Any], *, main: bool) -> None:
        """Send a result, unless none of its formats can be sent."""
        event = display_events.result(bundle, main=main)
        flush()
        if len(event) > _EMPTY:
            self._emit(event)

    def failure(self, name: str, value: str, traceback: str) -> None:
        """Send the error, unless there was one before."""
        flush()
        if self.error_name is None:
            # Noted once it has been said: an interrupt on the way must be reported in its place.
            self._emit(display_events.failure(name, value, traceback))
            self.error_name = name


class ResultHook(DisplayHook):  # type: ignore[misc]
    """`sys.displayhook` of a cell: sends the bundle instead of printing it."""

    _bundle: Mapping[str, Any] | None = None

    def quiet(self) -> bool:
        """True when the cell's last token is `;`."""
        cells = self.shell.history_manager.input_hist_parsed
        return ";" in cells[-1] and bool(super().quiet())

    def write_output_prompt(self) -> None:
        """A notebook has no prompt."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:  # noqa: ARG002 - IPython's signature
        self._bundle = format_dict

    def log_output(self, format_dict: dict[str, Any]) -> None:
        """Keep the text for `%history -o`, and not every picture of a session."""
        text = format_dict.get("text/plain")
        if isinstance(text, str):
            kept = self.shell.history_manager.output_hist_reprs
            kept[self.prompt_count] = display_events.bounded(text, display_events.MAX_VALUE)

    def finish_displayhook(self) -> None:
        bundle, self._bundle = self._bundle, None
        self._is_active = False
        if bundle:
            self.shell.outlet.result(bundle, main=True)


class Publisher(DisplayPublisher):  # type: ignore[misc]
    """Takes what `display()` publishes."""

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        update: bool = False,
        **_: object,
    ) -> None:
        self._validate_data(data, metadata)
        if not update:
            self.shell.outlet.result(data, main=False)

    def clear_output(self, wait: bool = False) -> None:
        """Nothing to clear: what was sent was sent."""


def flush() -> None:
    """Let what was printed leave; a program may have put anything in the place of its streams."""
    for name in ("stdout", "stderr"):
        with Captured():
            getattr(sys, name).flush()
