"""A chart as data: a kind, a table, a look, an axis. Everything that a picture of it, and of its twin, is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.ticker import MaxNLocator

from vision_zero.pairs.charts.styles import Look
from vision_zero.pairs.charts.tables import Table
from vision_zero.types import JSON

ROUND = ("pie", "donut")
FROM_ZERO = ("bar", "horizontal_bar", "grouped_bar", "stacked_bar", "area")
"""Kinds whose marks are as long as their values."""


@dataclass(frozen=True)
class Axis:
    """A range of values with its ticks, both ends among them. Example: `Axis((0.0, 20.0, 40.0, 60.0))`"""

    ticks: tuple[float, ...]

    @property
    def low(self) -> float:
        return self.ticks[0]

    @property
    def high(self) -> float:
        return self.ticks[-1]

    @property
    def span(self) -> float:
        return self.high - self.low

    def share(self, value: float) -> float:
        """0 at the low end, 1 at the high end."""
        return (value - self.low) / self.span

    @classmethod
    def of(cls, values: Sequence[float], from_zero: bool, steps: int) -> Axis:
        """Round ticks about all values; `from_zero` has zero among them."""
        low, high = min(values), max(values)
        if from_zero:
            low, high = min(0.0, low), max(0.0, high)
        else:
            room = 0.06 * (high - low)
            # a little air about points, but not below zero where nothing is
            low, high = (max(0.0, low - room) if low >= 0 else low - room), high + room
        ticks = MaxNLocator(nbins=steps, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        return cls(tuple(float(t) for t in ticks))


@dataclass(frozen=True)
class Chart:
    """`axes` has one axis, two for scatter (along, up), none for pies and tables."""

    kind: str
    table: Table
    look: Look
    axes: tuple[Axis, ...]
    printed: bool
    """Values are written beside their marks."""

    @property
    def legend(self) -> tuple[str, ...]:
        """The names that colours stand for; empty if colours say nothing."""
        if self.kind in ROUND:
            return () if self.look.names_beside else self.table.rows
        return self.table.series if len(self.table.series) > 1 and self.kind not in ("scatter", "table") else ()

    def with_table(self, table: Table) -> Chart:
        """The same chart of other numbers: same look, same axes."""
        return Chart(self.kind, table, self.look, self.axes, self.printed)

    def facts(self) -> JSON:
        """What is in the picture, as JSON."""
        return {"chart": self.kind, "values_printed": self.printed, **self.table.facts()}


def spans_of(kind: str, table: Table, axes: Sequence[Axis]) -> list[float]:
    """For each series the change of value that would cross the whole picture: its axis, or all of a pie."""
    if kind == "scatter":
        return [axis.span for axis in axes]
    if axes:
        return [axes[0].span] * len(table.series)
    if kind in ROUND:
        return [sum(table.values[0])]
    return [max(series) - min(series) for series in table.values]


def axes_of(kind: str, tables: Sequence[Table], steps: int) -> tuple[Axis, ...]:
    """Axes on which all these tables can be drawn."""
    if kind == "table" or kind in ROUND:
        return ()
    if kind == "scatter":
        return tuple(Axis.of([v for t in tables for v in t.values[s]], False, steps) for s in (0, 1))
    return (Axis.of([v for t in tables for v in _drawn(kind, t)], kind in FROM_ZERO, steps),)


def is_stacked(kind: str, table: Table) -> bool:
    """Whether series stand on each other."""
    return kind == "stacked_bar" or (kind == "area" and len(table.series) > 1)


def piles(table: Table) -> list[list[float]]:
    """Running sums over series: `piles[s][r]` is the lower end of series s in row r, and the last row the tops."""
    levels = [[0.0] * len(table.rows)]
    for series in table.values:
        levels.append([below + v for below, v in zip(levels[-1], series, strict=True)])
    return levels


def layers(table: Table) -> list[tuple[list[float], list[float]]]:
    """For each series its lower and upper ends when stacked."""
    return list(pairwise(piles(table)))


def _drawn(kind: str, table: Table) -> list[float]:
    if is_stacked(kind, table):
        return piles(table)[-1]
    return [v for series in table.values for v in series]
