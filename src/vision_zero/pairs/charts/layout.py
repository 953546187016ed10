"""The part of a chart that twins share: title, axes, names, legend. Places are found by measuring the words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from vision_zero.pairs.charts.canvas import Box, Label, Shape, rectangle, rule
from vision_zero.pairs.charts.chart import Axis, Chart
from vision_zero.pairs.charts.marks import Thing, draw_marks, is_cramped, places, solids
from vision_zero.pairs.charts.styles import mix

_LEAST_PLOT = 0.38
"""Smallest share of the picture's width, and of its height, that is left for the data."""


@dataclass(frozen=True)
class Layout:
    """Where the data goes, and everything about it, in the order in which it is drawn."""

    page: Box
    plot: Box
    em: float
    """Size of text, in pixels."""
    frame: tuple[Thing, ...]


def lay_out(chart: Chart, width: int, height: int) -> Layout | None:
    """Place everything but the data; None if there is no room for it."""
    return _Setter(chart, width, height).layout()


def is_clear(layout: Layout, chart: Chart) -> bool:
    """Whether all words are whole, on the page, and apart from each other and from what they must not run into."""
    page, plot, em = layout.page, layout.plot, layout.em
    written = [t for t in draw_marks(chart, plot, em) if isinstance(t, Label)]
    labels = [*(t for t in layout.frame if isinstance(t, Label)), *written]
    boxes = [label.box() for label in labels]
    margin = Box(2, 2, page.right - 2, page.top - 2)
    if not all(box.inside(margin) for box in boxes):
        return False
    above_axes = Box(plot.left, plot.bottom, page.right, page.top)
    if chart.axes and not all(label.box().inside(above_axes) for label in written):
        return False
    if is_cramped(chart, plot, em) or any(box.overlaps(mark) for box in boxes for mark in solids(chart, plot, em)):
        return False
    # upright boxes about slanting words overlap though the words do not: their distance was seen to before
    return not any(
        a.overlaps(b)
        for (i, a), (j, b) in combinations(enumerate(boxes), 2)
        if not (labels[i].turn % 90 and labels[j].turn % 90)
    )


class _Setter:
    """Takes strips off the page, from the outside inwards; what is left is the plot."""

    def __init__(self, chart: Chart, width: int, height: int) -> None:
        self.chart, self.look, self.table = chart, chart.look, chart.table
        self.page = Box(0, 0, width, height)
        self.em = max(9.0, round(height / 26, 1))
        pad = round(0.7 * self.em)
        self.left, self.bottom = float(pad), float(pad)
        self.right, self.top = float(width - pad), float(height - pad)
        self.things: list[Thing] = []

    def layout(self) -> Layout | None:
        if not self._head():
            return None
        self._source()
        legend = [self._entry(i, name) for i, name in enumerate(self.chart.legend)]
        at = self.look.legend if legend else None
        if at == "right":
            self.right -= max(e.width for e in legend) + self.em
        elif at and not self._rows(legend, at):
            return None
        place = {"pie": self._round_plot, "donut": self._round_plot, "table": self._table_plot}
        plot = place.get(self.chart.kind, self._axes_plot)()
        if plot is None or plot.width < _LEAST_PLOT * self.page.width or plot.height < _LEAST_PLOT * self.page.height:
            return None
        if at == "right":
            self._column(legend, plot)
        return Layout(self.page, plot, self.em, tuple(self.things))

    # Words about the plot

    def _label(
        self, text: str, x: float, y: float, size: float = 1.0, faint: bool = False, **more: float | bool
    ) -> Label:
        color = self.look.theme.faint if faint else self.look.theme.ink
        return Label(text, x, y, self.look.font, round(size * self.em, 1), color, **more)  # type: ignore[arg-type]

    def _width(self, text: str, size: float = 1.0, bold: bool = False) -> float:
        return self._label(text, 0, 0, size, bold=bold).box().width

    def _head(self) -> bool:
        lines = self._wrapped(self.table.title, self.right - self.left, 1.2)
        if lines is None:
            return False
        across = 0.0 if self.look.title_left else 0.5
        x = self.left if self.look.title_left else self.page.right / 2
        for line in lines:
            self.things.append(self._label(line, x, self.top, 1.2, bold=True, across=across, up=1.0))
            self.top -= 1.55 * self.em
        if self.table.subtitle:
            self.things.append(self._label(self.table.subtitle, x, self.top, 0.9, faint=True, across=across, up=1.0))
            self.top -= 1.2 * self.em
        self.top -= 0.5 * self.em
        return True

    def _wrapped(self, text: str, width: float, size: float) -> list[str] | None:
        """The text in at most two lines."""
        if self._width(text, size, bold=True) <= width:
            return [text]
        words = text.split()
        for i in range(len(words) - 1, 0, -1):
            lines = [" ".join(words[:i]), " ".join(words[i:])]
            if all(self._width(line, size, bold=True) <= width for line in lines):
                return lines
        return None

    def _source(self) -> None:
        if self.table.source:
            self.things.append(self._label(self.table.source, self.left, self.bottom, 0.8, faint=True))
            self.bottom += 1.5 * self.em

    # Legends

    def _entry(self, index: int, name: str) -> _Entry:
        return _Entry(self.look.color(index), name, 1.3 * self.em + self._width(name, 0.9))

    def _put(self, entry: _Entry, x: float, y: float) -> None:
        """An entry with its left end at x, its middle at y."""
        half = 0.35 * self.em
        self.things.append(rectangle(Box(x, y - half, x + 2 * half, y + half), entry.color))
        self.things.append(self._label(entry.name, x + 1.1 * self.em, y, 0.9, up=0.5))

    def _rows(self, entries: Sequence[_Entry], at: str) -> bool:
        rows: list[list[_Entry]] = [[]]
        gap = 0.6 * self.em
        for entry in entries:
            if entry.width > self.right - self.left:
                return False
            if sum(e.width + gap for e in rows[-1]) + entry.width > self.right - self.left:
                rows.append([])
            rows[-1].append(entry)
        line = 1.4 * self.em
        y = self.top - line / 2 if at == "top" else self.bottom + line * (len(rows) - 0.5)
        for row in rows:
            x = (self.left + self.right - sum(e.width + gap for e in row) + gap) / 2
            for entry in row:
                self._put(entry, x, y)
                x += entry.width + gap
            y -= line
        if at == "top":
            self.top -= line * len(rows) + 0.4 * self.em
        else:
            self.bottom += line * len(rows) + 0.4 * self.em
        return True

    def _column(self, entries: Sequence[_Entry], plot: Box) -> None:
        line = 1.5 * self.em
        y = (plot.bottom + plot.top) / 2 + line * (len(entries) - 1) / 2
        for entry in entries:
            self._put(entry, self.right + self.em, y)
            y -= line

    # Plots

    def _round_plot(self) -> Box | None:
        room = 2.0 * self.em if self.look.names_beside else 0.3 * self.em
        return Box(self.left, self.bottom + room, self.right, self.top - room)

    def _table_plot(self) -> Box | None:
        names = max(self._width(name) for name in (*self.table.rows, self.table.corner)) + 1.4 * self.em
        head = 1.9 * self.em
        plot = Box(self.left + names, self.bottom, self.right, self.top - head)
        theme, rows = self.look.theme, len(self.table.rows)
        if plot.height / rows < 1.35 * self.em:
            return None
        band = Box(self.left, plot.top, self.right, self.top)
        self.things.insert(0, rectangle(band, mix(self.look.color(0), theme.background, 0.65)))
        middle = plot.top + head / 2
        self.things.append(self._label(self.table.corner, self.left + 0.5 * self.em, middle, bold=True, up=0.5))
        column = plot.width / len(self.table.series)
        for s, name in enumerate(self.table.series):
            x = plot.left + (s + 1) * column - 0.6 * self.em
            if self._width(name, bold=True) > column - 0.8 * self.em:
                return None
            self.things.append(self._label(name, x, middle, bold=True, across=1.0, up=0.5))
        for r, y in enumerate(places(self.chart, plot)):
            half = plot.height / rows / 2
            if r % 2 and self.look.grid:
                stripe = Box(self.left, y - half, self.right, y + half)
                self.things.insert(1, rectangle(stripe, mix(theme.grid, theme.background, 0.5)))
            self.things.append(self._label(self.table.rows[r], self.left + 0.5 * self.em, y, up=0.5))
            self.things.append(rule((self.left, y - half), (self.right, y - half), theme.grid))
        return plot

    def _axes_plot(self) -> Box | None:
        kind, gap = self.chart.kind, 0.5 * self.em
        level = kind == "horizontal_bar"
        up, along = self.chart.axes[-1], self.chart.axes[0]
        up_title, along_title = self.table.measure, self.table.corner
        if kind == "scatter":
            along_title, up_title = self.table.series
        elif level:
            up_title, along_title = "", self.table.measure
        elif self.table.ordered:
            along_title = ""
        left_words = list(self.table.rows) if level else [self._tick(up, v, -1) for v in up.ticks]
        if up_title:
            self.left += 1.4 * self.em
        self.left += max(self._width(w, 0.9) for w in left_words) + gap
        # numbers written at the ends of bars and lines stand beyond them
        if self.chart.printed and level:
            longest = max(self.table.units[0].write(v) for v in self.table.values[0])
            self.right -= self._width(longest, 0.8) + gap
        if self.chart.printed and not level:
            self.top -= self.em
        if level or kind == "scatter":
            # half of the last tick's words stands to the right of the plot
            self.right -= self._width(self._tick(along, along.high, 0), 0.9) / 2
        title_line = 1.3 * self.em if along_title else 0.0
        if level or kind == "scatter":
            turn, depth = 0.0, 1.3 * self.em
        else:
            fit = self._turn((self.right - self.left) / len(self.table.rows))
            if fit is None:
                return None
            turn, depth = fit
        plot = Box(round(self.left), round(self.bottom + title_line + depth), round(self.right), round(self.top))
        if plot.height <= 0 or plot.width <= 0:
            return None
        self._ground(plot, up if not level else None, along if level or kind == "scatter" else None)
        self._words(plot, turn, up, along)
        if along_title:
            x = (plot.left + plot.right) / 2
            self.things.append(self._label(along_title, x, self.bottom, 0.95, across=0.5))
        if up_title:
            y = (plot.bottom + plot.top) / 2
            x = self.page.left + 1.6 * self.em
            self.things.append(self._label(up_title, x, y, 0.95, across=0.5, turn=90.0))
        return plot

    def _tick(self, axis: Axis, value: float, series: int) -> str:
        unit = self.table.units[series]
        # ticks are rounder than values, or fall between those that the unit can say
        decimals = max(_decimals(v) for v in axis.ticks)
        return type(unit)(unit.prefix, unit.suffix, decimals).write(value, self.look.thousands and axis.high >= 5000)

    def _turn(self, slot: float) -> tuple[float, float] | None:
        """How far names below the plot are turned, and the height that they need; None if they do not fit at all."""
        widest = max(self._width(name, 0.9) for name in self.table.rows)
        if widest + 0.4 * self.em <= slot:
            return 0.0, 1.3 * self.em
        if slot >= 1.5 * self.em and widest < 8 * self.em:
            return 45.0, 0.72 * widest + 1.1 * self.em
        return (90.0, widest + 0.7 * self.em) if slot >= 1.2 * self.em and widest < 6 * self.em else None

    def _ground(self, plot: Box, up: Axis | None, along: Axis | None) -> None:
        """The plot's colour, its grid, its edges."""
        theme = self.look.theme
        things: list[Shape] = []
        if theme.plot != theme.background:
            things.append(rectangle(plot, theme.plot))
        if self.look.grid and up:
            things += [_across(plot, up.share(tick), True, theme.grid) for tick in up.ticks]
        if self.look.grid and along:
            things += [_across(plot, along.share(tick), False, theme.grid) for tick in along.ticks]
        things += [_across(plot, 0, True, theme.faint), _across(plot, 0, False, theme.faint)]
        if self.look.frame:
            things += [_across(plot, 1, True, theme.faint), _across(plot, 1, False, theme.faint)]
        self.things = [*things, *self.things]

    def _words(self, plot: Box, turn: float, up: Axis, along: Axis) -> None:
        """Ticks and names along both axes."""
        kind, gap = self.chart.kind, 0.5 * self.em
        level = kind == "horizontal_bar"
        middles = places(self.chart, plot)
        if level:
            left = list(zip(self.table.rows, middles, strict=True))
            below = list(_at_ticks(along, [self._tick(along, v, 0) for v in along.ticks], plot.left, plot.width))
        else:
            left = list(_at_ticks(up, [self._tick(up, v, -1) for v in up.ticks], plot.bottom, plot.height))
            if kind == "scatter":
                below = list(_at_ticks(along, [self._tick(along, v, 0) for v in along.ticks], plot.left, plot.width))
            else:
                below = list(zip(self.table.rows, middles, strict=True))
        for word, y in left:
            self.things.append(self._label(word, plot.left - gap, y, 0.9, faint=not level, across=1.0, up=0.5))
        for word, x in below:
            faint = level or kind == "scatter"
            across, top = (0.5, 1.0) if not turn else (1.0, 0.6)
            self.things.append(
                self._label(word, x, plot.bottom - gap, 0.9, faint=faint, across=across, up=top, turn=turn)
            )


@dataclass(frozen=True)
class _Entry:
    """A line of a legend."""

    color: str
    name: str
    width: float


def _across(plot: Box, share: float, level: bool, color: str) -> Shape:
    """A level line at a share of the plot's height, or an upright one at a share of its width."""
    if level:
        y = plot.bottom + share * plot.height
        return rule((plot.left, y), (plot.right, y), color)
    x = plot.left + share * plot.width
    return rule((x, plot.bottom), (x, plot.top), color)


def _at_ticks(axis: Axis, words: Sequence[str], start: float, length: float) -> Iterator[tuple[str, float]]:
    for value, word in zip(axis.ticks, words, strict=True):
        yield word, start + axis.share(value) * length


def _decimals(value: float) -> int:
    """Digits after the point that a tick needs."""
    text = f"{value:.6f}".rstrip("0")
    return len(text) - text.index(".") - 1
