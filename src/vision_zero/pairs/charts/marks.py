"""The part of a chart that shows its numbers: bars, lines, points, slices, cells, and the numbers written at them.

Where a mark stands depends on its own value, on the axes and on the plot's place, which twins share; what
did not change is drawn alike in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vision_zero.pairs.charts.canvas import (
    Box,
    Label,
    Shape,
    curve,
    dot,
    polygon,
    rectangle,
    slice_of_ring,
)
from vision_zero.pairs.charts.chart import ROUND, Chart, is_stacked, layers
from vision_zero.pairs.charts.styles import ink_on, mix

Thing = Shape | Label
_DOT = 0.34
"""Radius of a scatter chart's dots, in sizes of text."""


def draw_marks(chart: Chart, plot: Box, em: float) -> list[Thing]:
    """Shapes and labels of the data, in the order in which they are drawn. `em` is the size of text in pixels."""
    if chart.kind in ROUND:
        return list(_slices(chart, plot, em))
    if chart.kind == "table":
        return list(_cells(chart, plot, em))
    if chart.kind == "scatter":
        return list(_points(chart, plot, em))
    if chart.kind in ("line", "area"):
        return list(_lines(chart, plot, em))
    return list(_bars(chart, plot, em))


def least_seen(before: Chart, after: Chart, plot: Box) -> float:
    """How far the mark moves that moves least of those whose value differs: pixels, or degrees of a pie.

    Tables, in which the text itself changes, have no marks to move: infinite.
    """
    if before.kind == "table":
        return math.inf
    moves = []
    for s, (old, new) in enumerate(zip(before.table.values, after.table.values, strict=True)):
        if before.kind in ROUND:
            scale = 360 / sum(old)
        else:
            axis = before.axes[min(s, len(before.axes) - 1)]
            level = before.kind == "horizontal_bar" or (before.kind == "scatter" and s == 0)
            scale = (plot.width if level else plot.height) / axis.span
        moves += [abs(b - a) * scale for a, b in zip(old, new, strict=True) if a != b]
    return min(moves)


def solids(chart: Chart, plot: Box, em: float) -> list[Box]:
    """Marks that words must not run into: the dots of a scatter chart, and bars that stand side by side."""
    if chart.kind == "scatter":
        return _dots(chart, plot, em)
    if chart.kind == "grouped_bar" and chart.printed:
        return [box for _, _, box in _bar_boxes(chart, plot)]
    return []


def is_cramped(chart: Chart, plot: Box, em: float) -> bool:
    """Whether a number is written in a bar that is too thin for it."""
    stacked = chart.printed and chart.kind == "stacked_bar"
    return stacked and any(box.height < em for _, _, box in _bar_boxes(chart, plot))


def places(chart: Chart, plot: Box) -> list[float]:
    """Where the middle of each row stands along the axis of names; horizontal bars and tables count from the top."""
    count = len(chart.table.rows)
    if chart.kind in ("horizontal_bar", "table"):
        return [plot.top - (r + 0.5) * plot.height / count for r in range(count)]
    return [plot.left + (r + 0.5) * plot.width / count for r in range(count)]


def _ends(chart: Chart) -> list[tuple[list[float], list[float]]]:
    """For each series the values at which its marks begin and end."""
    if is_stacked(chart.kind, chart.table):
        return layers(chart.table)
    return [([0.0] * len(values), list(values)) for values in chart.table.values]


def _value(chart: Chart, s: int, r: int) -> str:
    return chart.table.units[s].write(chart.table.values[s][r])


def _bar_boxes(chart: Chart, plot: Box) -> Iterator[tuple[int, int, Box]]:
    """Series, row and place of every bar."""
    axis, level, stacked = chart.axes[0], chart.kind == "horizontal_bar", is_stacked(chart.kind, chart.table)
    middles = places(chart, plot)
    room = (plot.height if level else plot.width) / len(middles) * chart.look.thickness
    side_by_side = 1 if stacked else len(chart.table.series)
    for s, (lows, highs) in enumerate(_ends(chart)):
        for r, (low, high) in enumerate(zip(lows, highs, strict=True)):
            start = middles[r] - room / 2 + (0 if stacked else s) * room / side_by_side
            end = start + room / side_by_side
            a, b = axis.share(low), axis.share(high)
            if level:
                yield s, r, Box(plot.left + a * plot.width, start, plot.left + b * plot.width, end)
            else:
                yield s, r, Box(start, plot.bottom + a * plot.height, end, plot.bottom + b * plot.height)


def _bars(chart: Chart, plot: Box, em: float) -> Iterator[Thing]:
    look, stacked = chart.look, is_stacked(chart.kind, chart.table)
    alone = len(chart.table.series) == 1
    labels = []
    for s, r, box in _bar_boxes(chart, plot):
        color = look.color(r if alone and not look.one_color else s)
        yield rectangle(box, color, look.theme.background if stacked else None, 0.8 if stacked else 0.0)
        x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        text, size = _value(chart, s, r), 0.8 * em
        if stacked:
            labels.append(Label(text, x, y, look.font, size, ink_on(color), across=0.5, up=0.5))
        elif chart.kind == "horizontal_bar":
            labels.append(Label(text, box.right + 0.3 * em, y, look.font, size, look.theme.ink, up=0.5))
        else:
            labels.append(Label(text, x, box.top + 0.3 * em, look.font, size, look.theme.ink, across=0.5))
    if chart.printed:
        yield from labels


def _lines(chart: Chart, plot: Box, em: float) -> Iterator[Thing]:
    axis, look = chart.axes[0], chart.look
    xs = places(chart, plot)
    for s, (lows, highs) in enumerate(_ends(chart)):
        color = look.color(s)
        points = [(x, plot.bottom + axis.share(v) * plot.height) for x, v in zip(xs, highs, strict=True)]
        if chart.kind == "area":
            floor = [(x, plot.bottom + axis.share(v) * plot.height) for x, v in zip(xs, lows, strict=True)]
            # one pale area shows that it is an area; stacked ones need their full colours to be told apart
            fill = mix(color, look.theme.plot, 0.25 if is_stacked(chart.kind, chart.table) else 0.55)
            yield polygon(points + floor[::-1], fill)
        yield curve(points, color, max(1.5, em / 6))
        if look.markers != "none":
            for x, y in points:
                yield dot(x, y, em * 0.24, color, look.theme.plot, square=look.markers == "square")
        if chart.printed:
            yield from _at_points(chart, s, points, em)


def _at_points(chart: Chart, s: int, points: Sequence[tuple[float, float]], em: float) -> Iterator[Label]:
    """Values beside the points of a line, where the line does not run: over peaks, under dips, outside of slopes."""
    for r, (x, y) in enumerate(points):
        before, after = points[max(r - 1, 0)][1], points[min(r + 1, len(points) - 1)][1]
        dip = before >= y <= after
        slope = 0.0 if dip or before <= y >= after else after - before
        across = 0.5 if not slope else 0.85 if slope > 0 else 0.15
        away, up = (-0.5, 1.0) if dip else (0.5, 0.0)
        look = chart.look
        yield Label(_value(chart, s, r), x, y + away * em, look.font, 0.8 * em, look.theme.ink, across=across, up=up)


def _dots(chart: Chart, plot: Box, em: float) -> list[Box]:
    """The squares about the dots of a scatter chart."""
    along, up = chart.axes
    half = _DOT * em
    centres = [
        (plot.left + along.share(v) * plot.width, plot.bottom + up.share(w) * plot.height)
        for v, w in zip(*chart.table.values, strict=True)
    ]
    return [Box(x - half, y - half, x + half, y + half) for x, y in centres]


def _points(chart: Chart, plot: Box, em: float) -> Iterator[Thing]:
    look, size = chart.look, 0.8 * em
    for name, box in zip(chart.table.rows, _dots(chart, plot, em), strict=True):
        x, y = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        yield dot(x, y, _DOT * em, look.color(0), look.theme.plot, square=look.markers == "square")
        right = Label(name, x + 0.6 * em, y, look.font, size, look.theme.ink, up=0.5)
        left = Label(name, x - 0.6 * em, y, look.font, size, look.theme.ink, across=1.0, up=0.5)
        yield right if right.box().right <= plot.right - 2 else left


def _slices(chart: Chart, plot: Box, em: float) -> Iterator[Thing]:
    look, values = chart.look, chart.table.values[0]
    x, y = (plot.left + plot.right) / 2, (plot.bottom + plot.top) / 2
    outer = min(plot.width, plot.height) / 2
    inner = 0.55 * outer if chart.kind == "donut" else 0.0
    written = 0.78 * outer if inner else 0.66 * outer
    end = 90.0
    for r, value in enumerate(values):
        start = end - 360 * value / sum(values)
        middle = math.radians((start + end) / 2)
        color = look.color(r)
        yield slice_of_ring(x, y, inner, outer, start, end, color, look.theme.background)
        c, s = math.cos(middle), math.sin(middle)
        if chart.printed:
            at = (x + written * c, y + written * s)
            yield Label(_value(chart, 0, r), *at, look.font, 0.8 * em, ink_on(color), across=0.5, up=0.5)
        if look.names_beside:
            at = (x + (outer + 0.5 * em) * c, y + (outer + 0.8 * em) * s)
            yield Label(
                chart.table.rows[r], *at, look.font, 0.9 * em, look.theme.ink, across=0.5 - 0.5 * c, up=0.5 - 0.5 * s
            )
        end = start


def _cells(chart: Chart, plot: Box, em: float) -> Iterator[Thing]:
    look, column = chart.look, plot.width / len(chart.table.series)
    for s in range(len(chart.table.series)):
        for r, y in enumerate(places(chart, plot)):
            x = plot.left + (s + 1) * column - 0.6 * em
            yield Label(_value(chart, s, r), x, y, look.font, em, look.theme.ink, across=1.0, up=0.5)
