"""Points and ticks of line and scatter charts: numbers, dates and categories as the program gave them."""

import math
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

from matplotlib.category import StrCategoryConverter
from matplotlib.dates import DateConverter, _SwitchableDateConverter, num2date
from matplotlib.lines import Line2D

Point = tuple[Any, Any]
Element = dict[str, Any]

_DATES = (DateConverter, _SwitchableDateConverter)


def size(axes: Any) -> int:
    """Return how many values the artists of an axes hold."""
    points = sum(len(line.get_xdata(orig=False)) for line in axes.lines)
    return points + sum(len(shape.get_offsets()) for shape in axes.collections) + len(axes.patches)


def lines(axes: Any) -> list[Element]:
    """Return every line but grid and reference lines."""
    drawn = [line for line in axes.lines if not is_reference(line)]
    return [
        {
            "label": _named(line.get_label(), "Line", number),
            "points": _pairs(line.get_xdata(orig=True), line.get_ydata(orig=True)),
        }
        for number, line in enumerate(drawn)
    ]


def scatters(axes: Any) -> list[Element]:
    """Return every collection of points; their own copies hold numbers, which the axes' units explain."""
    elements = []
    for number, shape in enumerate(axes.collections):
        offsets = shape.get_offsets()
        points = _pairs(_placed(axes.xaxis, offsets[:, 0]), _placed(axes.yaxis, offsets[:, 1]))
        elements.append({"label": _named(shape.get_label(), "Scatter", number), "points": points})
    return elements


def ticks(axis: Any, name: str) -> Element:
    """Return positions, labels and scale of an axis, with the axis' name before each."""
    positions = list(axis.get_majorticklocs())
    labels = [label.get_text() for label in axis.get_majorticklabels()]
    values = [num2date(place).isoformat() for place in positions] if is_date(axis) else [float(p) for p in positions]
    return {f"{name}_ticks": values, f"{name}_tick_labels": labels, f"{name}_scale": scale(axis, values, labels)}


def scale(axis: Any, positions: Sequence[Any], labels: Sequence[str]) -> str:
    """Return the scale by E2B's names: also an axis that counts 0, 1, 2 under names of its own is categorical."""
    if is_date(axis):
        return "datetime"
    kind = str(axis.get_scale())
    if kind != "linear":
        return kind
    named = all(
        place == number and str(number) != label
        for number, (place, label) in enumerate(zip(positions, labels, strict=False))
    )
    return "categorical" if is_category(axis) or (positions and named) else "linear"


def is_date(axis: Any) -> bool:
    """True when an axis shows dates."""
    return isinstance(_converter(axis), _DATES)


def is_category(axis: Any) -> bool:
    """True when an axis shows names that the program plotted."""
    return isinstance(_converter(axis), StrCategoryConverter)


def is_reference(line: Line2D) -> bool:
    """True for `axhline` and `axvline`, which span the axes whatever the data."""
    axes: Any = line.axes
    transform = line.get_transform()
    # By identity: matplotlib calls different ones equal.
    return transform is axes.get_xaxis_transform() or transform is axes.get_yaxis_transform()


def plain(value: Any) -> Any:
    """Return a coordinate as JSON holds it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    if type(value).__name__ == "datetime64":
        return str(value.astype("datetime64[s]"))
    number = float(value) if getattr(value, "mask", False) is False else math.nan
    return number if math.isfinite(number) else None


def _converter(axis: Any) -> Any:
    return axis.get_converter() if hasattr(axis, "get_converter") else axis.converter


def _placed(axis: Any, numbers: Iterable[float]) -> list[Any]:
    if is_date(axis):
        return [num2date(number) for number in numbers]
    if is_category(axis):
        names = {place: name for name, place in axis.units._mapping.items()}  # noqa: SLF001 - no other way to the names
        return [names.get(number, number) for number in numbers]
    return list(numbers)


def _pairs(xs: Iterable[Any], ys: Iterable[Any]) -> list[Point]:
    return [(plain(x), plain(y)) for x, y in zip(xs, ys, strict=False)]


def _named(label: Any, kind: str, number: int) -> str:
    """Return a label, or a number where matplotlib made one up."""
    return f"{kind} {number}" if str(label).startswith("_") else str(label)
