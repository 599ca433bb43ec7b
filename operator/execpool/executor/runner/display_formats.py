"""What E2B adds to IPython's formats: lists and dicts as `json`, data frames as `data`, figures as `chart`.

- `data`: column -> list of values, timestamps in ISO form, missing values null. Columns of one name: the last is kept.
- `json`: lists and dicts that JSON can hold as they are, beside their text; others have their text alone.
- Large values are left out before they are built (`MAX_CELLS`), since the limit on an event would drop them anyway.

Types of pandas and matplotlib are found where a program has imported them; nothing is imported for their sake.

The formatter itself skips nine of ten formats for plain values (a number has a text and nothing else), unless somebody
registered a printer: this is half of the time that `1+1` takes.
"""

import math
import sys
from typing import Any

import orjson
from IPython.core.formatters import BaseFormatter, DisplayFormatter, JSONFormatter
from traitlets import ObjectName, Unicode

from execpool.executor.runner.notebook_captured import Captured

MAX_CELLS = 300_000
_PLAIN = (int, bool, str)
_EXACT = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
_MISSING = ("NaTType", "NAType")
_FRAMES = (("pandas", "DataFrame"), ("pandas.core.frame", "DataFrame"))


class NotebookFormatter(DisplayFormatter):  # type: ignore[misc]
    """IPython's formatter with E2B's three formats and a short way for plain values."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        data, chart = _Data(parent=self), _Chart(parent=self)
        for module, name in _FRAMES:
            data.for_type_by_name(module, name, frame_data)
        for formatter in (_Json(parent=self), data, chart):
            self.formatters[formatter.format_type] = formatter
        every = (self.ipython_display_formatter, self.mimebundle_formatter, *self.formatters.values())
        self._by_type = [registry for each in every for registry in (each.type_printers, each.deferred_printers)]
        self._by_identity = [each.singleton_printers for each in every]
        self._before: dict[type, list[Any]] = {kind: self._printers(kind) for kind in _PLAIN}
        self._single = sum(map(len, self._by_identity))

    def format(self, obj: object, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if type(obj) in _PLAIN and not include and not exclude and self._is_untouched(type(obj)):
            with Captured(Exception):
                return {"text/plain": repr(obj)}, {}
        return super().format(obj, include, exclude)  # type: ignore[no-any-return]

    def _is_untouched(self, kind: type) -> bool:
        """True when nobody has registered how to show values of a kind."""
        return self._printers(kind) == self._before[kind] and sum(map(len, self._by_identity)) == self._single

    def _printers(self, kind: type) -> list[Any]:
        address = (kind.__module__, kind.__name__)
        return [registry.get(kind) or registry.get(address) for registry in self._by_type]


class _Data(BaseFormatter):  # type: ignore[misc]
    format_type = Unicode("e2b/data")
    print_method = ObjectName("_repr_e2b_data_")
    _return_type = (dict, str)


class _Chart(BaseFormatter):  # type: ignore[misc]
    format_type = Unicode("e2b/chart")
    print_method = ObjectName("_repr_e2b_chart_")
    _return_type = (dict, str)

    def __call__(self, obj: object) -> Any:
        # Not by registration: whatever sets the formats of figures takes what is registered for them away.
        module = sys.modules.get("matplotlib.figure")
        if module is not None and isinstance(obj, module.Figure):
            from execpool.executor.runner import charts  # imports matplotlib, which is there

            return charts.chart_of(obj)
        return super().__call__(obj)


class _Json(JSONFormatter):  # type: ignore[misc]
    def __call__(self, obj: object) -> Any:
        if isinstance(obj, list | dict):
            with Captured(Exception):
                return orjson.loads(orjson.dumps(obj, option=_EXACT)) if len(obj) <= MAX_CELLS else None
        return super().__call__(obj)


def frame_data(frame: Any) -> dict[str, list[Any]] | None:
    """Return the columns of a data frame; None when there are too many values."""
    if frame.size > MAX_CELLS:
        return None
    return {
        str(name): [_cell(value) for value in frame.iloc[:, position].tolist()]
        for position, name in enumerate(frame.columns)
    }


def _cell(value: Any) -> Any:
    """Return one value as JSON can hold it; the event's own rules do the rest."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if type(value).__name__ in _MISSING:
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value
