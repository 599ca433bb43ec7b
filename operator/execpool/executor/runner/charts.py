"""The data behind a matplotlib figure, in E2B's chart form: what was drawn is read back from the axes' artists.

    one axes with something in it -> line | scatter | bar | pie | box_and_whisker | unknown
    several                       -> superchart of these          none -> no chart

An axes' kind is that of all its artists, where texts, grid and reference lines (`axhline`) and error bars do not count;
a mixture is `unknown`, with its title alone. Points are the values that the program plotted: dates in ISO form, categories by
name, missing values null. A horizontal bar or box chart has its axis labels swapped, so that x always is the
categories' axis. Figures with more than `MAX_POINTS` values have no chart: nobody draws them again from JSON.

Never an error of the program: what cannot be read is no chart. Imports matplotlib only when a figure exists.
"""

import re
from collections.abc import Callable
from typing import Any

from execpool.executor.runner import charts_points, charts_shapes
from execpool.executor.runner.notebook_captured import Captured

Chart = dict[str, Any]

MAX_POINTS = 100_000
_UNIT = re.compile(r"\s\((.*?)\)|\[(.*?)\]")


def chart_of(figure: Any) -> Chart | None:
    """Return the chart of a figure, None when it shows none."""
    with Captured(Exception):
        if sum(map(charts_points.size, figure.axes)) > MAX_POINTS:
            return None
        charts = [_chart(axes) for axes in figure.axes if charts_shapes.drawn(axes)]
        if len(charts) > 1:
            return {"type": "superchart", "title": figure.get_suptitle() or None, "elements": charts}
        return charts[0] if charts else None
    return None


def _chart(axes: Any) -> Chart:
    kind = charts_shapes.kind(axes)
    title = {"type": kind, "title": axes.get_title() or None}
    if kind not in _EXTRACTORS:
        return {**title, "elements": []}
    with Captured(Exception):
        return title | _EXTRACTORS[kind](axes)
    return {**title, "type": "unknown", "elements": []}


def _points(axes: Any, elements: list[Chart]) -> Chart:
    ticks = charts_points.ticks(axes.xaxis, "x") | charts_points.ticks(axes.yaxis, "y")
    return {**_labels(axes), **ticks, "elements": elements}


def _line(axes: Any) -> Chart:
    return _points(axes, charts_points.lines(axes))


def _scatter(axes: Any) -> Chart:
    return _points(axes, charts_points.scatters(axes))


def _bar(axes: Any) -> Chart:
    horizontal, elements = charts_shapes.bars(axes)
    return {**_labels(axes, swapped=horizontal), "elements": elements}


def _box(axes: Any) -> Chart:
    horizontal, elements = charts_shapes.boxes(axes)
    return {**_labels(axes, swapped=horizontal), "elements": elements}


def _pie(axes: Any) -> Chart:
    return {"elements": charts_shapes.wedges(axes)}


def _labels(axes: Any, *, swapped: bool = False) -> Chart:
    x, y = axes.get_xlabel() or None, axes.get_ylabel() or None
    if swapped:
        x, y = y, x
    return {"x_label": x, "y_label": y, "x_unit": _unit(x), "y_unit": _unit(y)}


def _unit(label: str | None) -> str | None:
    """Return what a label has in parentheses or brackets: `Time (s)` is in s."""
    found = _UNIT.search(label or "")
    return (found.group(1) or found.group(2)) if found else None


_EXTRACTORS: dict[str, Callable[[Any], Chart]] = {
    "line": _line,
    "scatter": _scatter,
    "bar": _bar,
    "pie": _pie,
    "box_and_whisker": _box,
}
