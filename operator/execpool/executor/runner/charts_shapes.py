"""What an axes shows, and the bars, boxes and wedges on it.

A box plot leaves no object behind that says so: it is recognised by its boxes, which are patches, or lines of five
points that close, and taken apart by position: a median spans a box, a whisker ends at it, outliers lie in its middle.
All shapes are reduced to (low, high) across and along the categories' axis first, so that horizontal needs no code.
"""

from dataclasses import dataclass
from typing import Any

from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.container import BarContainer
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle, Wedge
from matplotlib.text import Text

from execpool.executor.runner import charts_points

Element = dict[str, Any]
Span = tuple[float, float]

_BOX_POINTS = 5
_NEAR = 1e-9
_NAMING = ("FixedFormatter", "FuncFormatter")
"""How matplotlib keeps labels that a program gave to ticks."""


@dataclass(frozen=True)
class _Stroke:
    """The extent of a line or a box: across the categories' axis, and along the values'."""

    across: Span
    along: Span
    points: int
    joined: bool
    values: tuple[float, ...]


def drawn(axes: Any) -> bool:
    """True for an axes with artists that is not the legend of another."""
    return axes.get_label() != "<colorbar>" and bool(_artists(axes))


def kind(axes: Any) -> str:
    """Return the chart type of an axes."""
    artists = _artists(axes)
    if _boxes(axes):
        return "box_and_whisker"
    shapes = [artist for artist in artists if not isinstance(artist, LineCollection | PolyCollection)]
    for name, of_kind in (("line", Line2D), ("scatter", PathCollection), ("pie", Wedge), ("bar", Rectangle)):
        if shapes and all(isinstance(shape, of_kind) for shape in shapes):
            return name
    return "bar" if _bars_with_errors(axes, shapes) else "unknown"


def bars(axes: Any) -> tuple[bool, list[Element]]:
    """Return whether bars are horizontal, and each of them: label, group, value."""
    groups = [container for container in axes.containers if isinstance(container, BarContainer)]
    horizontal = bool(groups) and groups[0].orientation == "horizontal"
    elements = []
    for number, group in enumerate(groups):
        label = str(group.get_label())
        name = f"Group {number}" if label.startswith("_") else label
        for bar in group.patches:
            place = bar.get_y() + bar.get_height() / 2 if horizontal else bar.get_x() + bar.get_width() / 2
            value = bar.get_width() if horizontal else bar.get_height()
            elements.append(
                {
                    "label": _label_at(axes, place, horizontal=horizontal),
                    "group": name,
                    "value": charts_points.plain(value),
                }
            )
    return horizontal, elements


def wedges(axes: Any) -> list[Element]:
    """Return the pieces of a pie: label, angle in degrees, radius."""
    return [
        {"label": wedge.get_label(), "angle": round(abs(wedge.theta2 - wedge.theta1), 4), "radius": float(wedge.r)}
        for wedge in axes.patches
        if isinstance(wedge, Wedge)
    ]


def boxes(axes: Any) -> tuple[bool, list[Element]]:
    """Return whether boxes are horizontal, and each of them: label, quartiles, whiskers, outliers."""
    horizontal = not any(_is_median(stroke, box) for box in _boxes(axes) for stroke in _strokes(axes))
    strokes, found = _strokes(axes, horizontal=horizontal), _boxes(axes, horizontal=horizontal)
    return horizontal, [_box(axes, box, strokes, horizontal=horizontal) for box in found]


def _box(axes: Any, box: _Stroke, strokes: list[_Stroke], *, horizontal: bool) -> Element:
    middle = sum(box.across) / 2
    inside = [stroke for stroke in strokes if _near(stroke.across[0], middle) and _near(stroke.across[1], middle)]
    ends = [end for stroke in inside if stroke.joined for end in stroke.along]
    medians = [stroke.along[0] for stroke in strokes if _is_median(stroke, box)]
    low, high = box.along
    return {
        "label": _label_at(axes, middle, horizontal=horizontal),
        "min": min(ends, default=low),
        "first_quartile": low,
        "median": medians[0] if medians else (low + high) / 2,
        "third_quartile": high,
        "max": max(ends, default=high),
        "outliers": [value for stroke in inside if not stroke.joined for value in stroke.values],
    }


def _is_median(stroke: _Stroke, box: _Stroke) -> bool:
    """True for a line straight across a box."""
    flat = stroke.points == 2 and _near(*stroke.along) and not _near(*stroke.across)
    within = box.across[0] - _NEAR <= stroke.across[0] and stroke.across[1] <= box.across[1] + _NEAR
    return flat and within and box.along[0] - _NEAR <= stroke.along[0] <= box.along[1] + _NEAR


def _boxes(axes: Any, *, horizontal: bool = False) -> list[_Stroke]:
    """Return the boxes of a box plot; none when the axes shows something else."""
    patches = [_stroke(patch.get_path().vertices, horizontal) for patch in axes.patches if isinstance(patch, PathPatch)]
    if patches:
        return patches if all(isinstance(patch, PathPatch) for patch in axes.patches) else []
    closed = [line for line in axes.lines if _is_box(line)]
    # Six lines at least make a box: itself, two whiskers with caps, the median.
    return [_stroke(line.get_xydata(), horizontal) for line in closed] if len(axes.lines) >= 6 * len(closed) else []


def _is_box(line: Line2D) -> bool:
    data: Any = line.get_xydata()
    points = [tuple(point) for point in data.tolist()]
    corners = {x for x, _ in points}, {y for _, y in points}
    return len(points) == _BOX_POINTS and points[0] == points[-1] and [len(side) for side in corners] == [2, 2]


def _strokes(axes: Any, *, horizontal: bool = False) -> list[_Stroke]:
    lines = [line for line in axes.lines if len(line.get_xydata()) and not _is_box(line)]
    return [
        _stroke(line.get_xydata(), horizontal, joined=line.get_linestyle() not in ("None", "", " ")) for line in lines
    ]


def _stroke(points: Any, horizontal: bool, *, joined: bool = True) -> _Stroke:
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    across, along = (ys, xs) if horizontal else (xs, ys)
    return _Stroke((min(across), max(across)), (min(along), max(along)), len(xs), joined, tuple(along))


def _label_at(axes: Any, place: float, *, horizontal: bool) -> str:
    """Return the name of the tick nearest to a place, or the place itself where an axis has numbers."""
    axis = axes.yaxis if horizontal else axes.xaxis
    places, labels = axis.get_majorticklocs(), [label.get_text() for label in axis.get_majorticklabels()]
    named = [(abs(tick - place), label) for tick, label in zip(places, labels, strict=False) if label]
    distance, label = min(named, default=(1.0, ""))
    has_names = charts_points.is_category(axis) or type(axis.get_major_formatter()).__name__ in _NAMING
    return label if has_names and distance < 0.5 else f"{place:.10g}"


def _bars_with_errors(axes: Any, shapes: list[Any]) -> bool:
    """True when all that is not a bar is the cap of an error bar."""
    owned = {id(part) for container in axes.containers for part in container.get_children()}
    rest = [shape for shape in shapes if not isinstance(shape, Rectangle)]
    return len(rest) < len(shapes) and all(id(shape) in owned for shape in rest)


def _artists(axes: Any) -> list[Any]:
    return [
        artist
        for artist in axes._children  # noqa: SLF001 - in drawing order, without axes and legends
        if not isinstance(artist, Text) and not (isinstance(artist, Line2D) and charts_points.is_reference(artist))
    ]


def _near(one: float, other: float) -> bool:
    return abs(one - other) < _NEAR
