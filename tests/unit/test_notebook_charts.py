"""Charts of real figures, as E2B's own client parses them."""

import datetime as dt
import json

import matplotlib as mpl
import numpy as np
import pytest
from e2b_code_interpreter import charts as e2b
from matplotlib.figure import Figure

from execpool.executor.runner import charts

mpl.use("Agg")


def parsed(figure):
    """The chart as a client has it, after its way over the wire."""
    return e2b._deserialize_chart(json.loads(json.dumps(charts.chart_of(figure), allow_nan=False)))


def axes(**options):
    return Figure().subplots(**options)


def test_lines_have_points_labels_units_and_ticks():
    ax = axes()
    ax.plot([0, 1, 2], [1.5, None, 3], label="speed")
    ax.plot([0, 2], np.array([1, 2]))
    ax.axhline(2)
    ax.grid(visible=True)
    ax.legend()
    ax.set(title="Run", xlabel="Time (s)", ylabel="Speed [m/s]", xticks=[0, 1, 2])
    chart = parsed(ax.figure)
    assert type(chart) is e2b.LineChart
    assert (chart.title, chart.x_label, chart.x_unit, chart.y_label, chart.y_unit) == (
        "Run",
        "Time (s)",
        "s",
        "Speed [m/s]",
        "m/s",
    )
    assert [(line.label, line.points) for line in chart.elements] == [
        ("speed", [(0, 1.5), (1, None), (2, 3)]),
        ("Line 1", [(0, 1), (2, 2)]),
    ]
    assert (chart.x_ticks, chart.x_tick_labels, chart.x_scale) == ([0, 1, 2], ["0", "1", "2"], e2b.ScaleType.LINEAR)


@pytest.mark.parametrize(
    "days",
    [
        [dt.date(2026, 1, 1), dt.date(2026, 1, 2)],
        [dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 2)],  # noqa: DTZ001 - what programs plot
        np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[ns]"),
    ],
    ids=["dates", "datetimes", "numpy"],
)
def test_dates_are_iso_texts_on_a_datetime_scale(days):
    ax = axes()
    ax.plot(days, [1, 2])
    chart = parsed(ax.figure)
    assert [point[0][:10] for point in chart.elements[0].points] == ["2026-01-01", "2026-01-02"]
    assert chart.x_scale is e2b.ScaleType.DATETIME
    assert chart.x_ticks[0].startswith("2026-01-01T00:00:00")


@pytest.mark.parametrize("scale", ["log", "symlog", "logit"])
def test_scales_have_their_names(scale):
    ax = axes()
    ax.plot([1, 2], [0.1, 0.9])
    ax.set_yscale(scale)
    assert parsed(ax.figure).y_scale == scale


def test_names_on_an_axis_are_categories():
    ax = axes()
    ax.plot(["a", "b"], [1, 2])
    chart = parsed(ax.figure)
    assert (chart.x_scale, chart.elements[0].points) == (e2b.ScaleType.CATEGORICAL, [("a", 1), ("b", 2)])


def test_scatters_have_points_of_each_collection():
    ax = axes()
    ax.scatter([1, 2], [3, 4], label="first")
    ax.scatter([5], [7])
    chart = parsed(ax.figure)
    assert type(chart) is e2b.ScatterChart
    assert [(each.label, each.points) for each in chart.elements] == [
        ("first", [(1, 3), (2, 4)]),
        ("Scatter 1", [(5, 7)]),
    ]


def test_scatters_over_dates_and_names():
    ax = axes()
    ax.scatter([dt.date(2026, 1, 1)], [1])
    assert parsed(ax.figure).elements[0].points[0][0].startswith("2026-01-01")
    ax = axes()
    ax.scatter(["a", "b"], [1, 2])
    assert parsed(ax.figure).elements[0].points == [("a", 1), ("b", 2)]


def test_bars_have_labels_groups_and_values():
    ax = axes()
    ax.bar(["a", "b"], [1, 2], label="left", yerr=[0.1, 0.2], capsize=3)
    ax.bar(["a", "b"], [3, 4], bottom=[1, 2])
    ax.set(xlabel="Name", ylabel="Sold (pieces)")
    chart = parsed(ax.figure)
    assert type(chart) is e2b.BarChart
    assert (chart.x_label, chart.y_unit) == ("Name", "pieces")
    assert [(bar.label, bar.group, bar.value) for bar in chart.elements] == [
        ("a", "left", 1),
        ("b", "left", 2),
        ("a", "Group 1", 3),
        ("b", "Group 1", 4),
    ]


def test_grouped_bars_are_named_by_the_tick_they_stand_at():
    ax = axes()
    places = np.arange(2)
    ax.bar(places - 0.2, [1, 2], 0.4, label="l")
    ax.bar(places + 0.2, [3, 4], 0.4, label="r")
    ax.set_xticks(places, ["a", "b"])
    assert [(bar.label, bar.group, bar.value) for bar in parsed(ax.figure).elements] == [
        ("a", "l", 1), ("b", "l", 2), ("a", "r", 3), ("b", "r", 4),
    ]  # fmt: skip


def test_horizontal_bars_keep_the_categories_on_x():
    ax = axes()
    ax.barh(["a", "b"], [1, 1])
    ax.set(xlabel="Value", ylabel="Name")
    chart = parsed(ax.figure)
    assert (chart.x_label, chart.y_label) == ("Name", "Value")
    assert [(bar.label, bar.value) for bar in chart.elements] == [("a", 1), ("b", 1)]


def test_a_histogram_is_bars_at_their_places():
    ax = axes()
    ax.hist([1, 1, 3], bins=[0, 2, 4])
    assert [(bar.label, bar.value) for bar in parsed(ax.figure).elements] == [("1", 2), ("3", 1)]


def test_pies_have_angles():
    ax = axes()
    ax.pie([1, 3], labels=["one", "three"], autopct="%d")
    chart = parsed(ax.figure)
    assert type(chart) is e2b.PieChart
    assert [(piece.label, piece.angle, piece.radius) for piece in chart.elements] == [("one", 90, 1), ("three", 270, 1)]


BOXES = [[1, 2, 3, 4, 5, 30], [2, 4, 6, 8, 10]]
WHISKERS = [("a", 1, 2.25, 3.5, 4.75, 5, [30]), ("b", 2, 4, 6, 8, 10, [])]


@pytest.mark.parametrize("patches", [True, False])
@pytest.mark.parametrize("direction", ["vertical", "horizontal"])
def test_boxes_have_quartiles_whiskers_and_outliers(patches, direction):
    ax = axes()
    ax.boxplot(BOXES, tick_labels=["a", "b"], patch_artist=patches, orientation=direction)
    ax.set(xlabel="X", ylabel="Y")
    chart = parsed(ax.figure)
    assert type(chart) is e2b.BoxAndWhiskerChart
    assert chart.x_label == ("X" if direction == "vertical" else "Y")
    assert [
        (box.label, box.min, box.first_quartile, box.median, box.third_quartile, box.max, box.outliers)
        for box in chart.elements
    ] == WHISKERS


def test_several_axes_are_a_superchart_without_colour_bars():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([1], [2])
    figure.colorbar(right.scatter([1, 2], [3, 4], c=[1, 2]))
    figure.suptitle("Both")
    chart = parsed(figure)
    assert type(chart) is e2b.SuperChart
    assert (chart.title, [type(each) for each in chart.elements]) == ("Both", [e2b.LineChart, e2b.ScatterChart])


def test_unused_axes_of_a_grid_do_not_count():
    figure = Figure()
    figure.subplots(2, 2)[0][0].plot([1, 2])
    assert type(parsed(figure)) is e2b.LineChart


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax: ax.imshow([[1, 2], [3, 4]]),
        lambda ax: (ax.plot([1, 2]), ax.scatter([1], [2])),
        lambda ax: (ax.plot([1, 2]), ax.bar([1], [2])),
    ],
    ids=["a picture", "points over a line", "a line over bars"],
)
def test_what_has_no_type_is_unknown_with_its_title(draw):
    ax = axes()
    draw(ax)
    ax.set_title("Mixed")
    chart = parsed(ax.figure)
    assert (chart.type, chart.title, chart.elements) == (e2b.ChartType.UNKNOWN, "Mixed", [])


def test_a_shaded_line_is_a_line():
    ax = axes()
    ax.plot([1, 2], [1, 2])
    ax.fill_between([1, 2], [0, 1], [2, 3])
    assert type(parsed(ax.figure)) is e2b.LineChart


def test_an_empty_figure_has_no_chart():
    assert charts.chart_of(Figure()) is None
    assert charts.chart_of(axes().figure) is None


def test_more_points_than_anybody_draws_again_are_no_chart():
    ax = axes()
    ax.plot(np.zeros(charts.MAX_POINTS + 1))
    assert charts.chart_of(ax.figure) is None


def test_an_axes_that_cannot_be_read_is_no_error():
    class Odd(Figure):
        @property
        def axes(self):
            raise KeyError("odd")

    assert charts.chart_of(Odd.__new__(Odd)) is None
