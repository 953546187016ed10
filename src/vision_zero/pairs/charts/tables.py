"""Tables of numbers, and what their numbers mean: that decides which charts suit them and which edits are fair."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vision_zero.types import JSON

LEAST_ROWS = 4
"""Fewer categories leave nothing to talk about."""
MOST_ROWS = 12
_CALENDARS = (
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"),
    ("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
)


@dataclass(frozen=True)
class Unit:
    """How values of a series are rounded and written. `decimals` below 0 round to tens, hundreds and so on.

    Example: `Unit("$", "M", 1).write(12.34)` is `$12.3M`
    """

    prefix: str = ""
    suffix: str = ""
    decimals: int = 0

    @property
    def step(self) -> float:
        """The smallest difference between two values."""
        return 10.0**-self.decimals

    def round(self, value: float) -> float:
        return round(value, self.decimals)

    def write(self, value: float, thousands: bool = False) -> str:
        """A value as text; with `thousands` 12,000 is 12k and 1,500,000 is 1.5M, and nothing is rounded away."""
        if thousands and value % 1e5 == 0 and abs(value) >= 1e6:
            number = f"{value / 1e6:,.1f}".removesuffix(".0") + "M"
        elif thousands and value % 100 == 0 and abs(value) >= 1000:
            number = f"{value / 1000:.1f}".removesuffix(".0") + "k"
        else:
            number = f"{value:,.{max(0, self.decimals)}f}"
        sign, number = ("-", number[1:]) if number.startswith("-") else ("", number)
        return f"{sign}{self.prefix}{number}{self.suffix}"


@dataclass(frozen=True)
class Table:
    """`values[s][r]` is the value of series s for row r. Rows are the categories of a chart.

    Example: `Table("Rain", "City", "Rainfall", ("Oslo", "Lima", ...), ("Rainfall",), (Unit("", " mm"),), ((70, ...),))`
    """

    title: str
    corner: str
    """What the rows are."""
    measure: str
    """What the values are: the title of their axis."""
    rows: tuple[str, ...]
    series: tuple[str, ...]
    units: tuple[Unit, ...]
    """One a series; all alike unless the table is a relation."""
    values: tuple[tuple[float, ...], ...]
    ordered: bool = False
    """Rows follow one another, as years do, so that a line between them means something."""
    additive: bool = False
    """Sums over series mean something."""
    whole: bool = False
    """Shares of something: a single series adds up, or with several the series of each row do."""
    relation: bool = False
    """Two measures of the same things."""
    subtitle: str = ""
    source: str = ""

    def with_values(self, values: Sequence[Sequence[float]]) -> Table:
        """The same table with other numbers."""
        return replace(self, values=tuple(tuple(series) for series in values))

    def sorted_rows(self) -> Table:
        """The same table with its rows in falling order of their first series."""
        order = sorted(range(len(self.rows)), key=lambda r: -self.values[0][r])
        return replace(
            self,
            rows=tuple(self.rows[r] for r in order),
            values=tuple(tuple(series[r] for r in order) for series in self.values),
        )

    def facts(self) -> JSON:
        """The table as JSON."""
        return {
            "title": self.title,
            "categories": list(self.rows),
            "category": self.corner,
            "series": [
                {"name": name, "prefix": unit.prefix, "suffix": unit.suffix, "values": list(values)}
                for name, unit, values in zip(self.series, self.units, self.values, strict=True)
            ],
        }


def suitable_kinds(table: Table) -> tuple[str, ...]:
    """The kinds of charts that say what the table says. None for fewer than four rows."""
    rows, series = len(table.rows), len(table.series)
    if not LEAST_ROWS <= rows <= MOST_ROWS:
        return ()
    flat = [v for values in table.values for v in values]
    positive = min(flat) >= 0
    kinds = []
    if table.relation:
        kinds.append("scatter")
    elif series == 1:
        if positive:
            kinds.append("bar")
        if positive and not table.ordered:
            kinds.append("horizontal_bar")
        if table.ordered:
            kinds.append("line")
        if table.ordered and positive:
            kinds.append("area")
        # thin slices cannot be told apart, nor their names be written
        if table.whole and rows <= 7 and min(flat) >= 0.03 * sum(flat):
            kinds += ["pie", "donut"]
    # next to what is twenty times as large nothing is seen
    elif min(map(max, table.values)) >= 0.05 * max(flat):
        if positive and series <= 4 and rows * series <= 24:
            kinds.append("grouped_bar")
        if positive and (table.additive or table.whole):
            kinds.append("stacked_bar")
        if table.ordered and series <= 4 and not table.whole:
            kinds.append("line")
        if table.ordered and positive and table.additive and series <= 4:
            kinds.append("area")
    if rows <= 9 and series <= 4:
        kinds.append("table")
    return tuple(kinds)


def table_from_cells(cells: Sequence[Sequence[str]]) -> Table | None:
    """A table out of text cells, as CSV files have them: a head, then rows of a name and values.

    Series of which a value is missing or not a number are left out, and rows after the twelfth. None if what is left
    is not at least four differently named rows with one series.
    """
    if len(cells) < 2 or len(cells[0]) < 2:
        return None
    head, body = [c.strip() for c in cells[0]], [row for row in cells[1:] if len(row) == len(cells[0])][:MOST_ROWS]
    names = tuple(row[0].strip() for row in body)
    if len(body) < LEAST_ROWS or len(set(names)) < len(names) or not all(names):
        return None
    series, units, values = [], [], []
    for column in range(1, len(head)):
        read = [_number(row[column]) for row in body]
        numbers = [r[0] for r in read if r is not None]
        if len(numbers) == len(body) and len(set(numbers)) > 1 and head[column]:
            series.append(head[column])
            decimals = max(r[2] for r in read if r is not None)
            units.append(Unit("", "%" if all(r is not None and r[1] for r in read) else "", decimals))
            values.append(tuple(numbers))
    if not series:
        return None
    # one axis has one unit
    suffix = units[0].suffix if len({u.suffix for u in units}) == 1 else ""
    unit = Unit("", suffix, max(u.decimals for u in units))
    sums = [sum(values[0])] if len(series) == 1 else [sum(row) for row in zip(*values, strict=True)]
    whole = all(abs(s - 100) <= 1 for s in sums) and min(map(min, values)) >= 0
    corner = head[0] if head[0].lower() not in ("", "entity", "characteristic", "x") else ""
    title = series[0] if len(series) == 1 else ", ".join(series) if len(series) < 3 else "Comparison"
    return Table(
        f"{title} by {corner.lower()}" if corner else title,
        corner,
        series[0] if len(series) == 1 else "",
        names,
        tuple(series),
        (unit,) * len(series),
        tuple(values),
        ordered=_follow(names),
        whole=whole,
    )


def _number(text: str) -> tuple[float, bool, int] | None:
    """Value, whether it is a percentage, its decimals."""
    match = re.fullmatch(r"(-?[\d,]*\d)(\.\d+)?\s*(%?)", text.strip())
    if match is None:
        return None
    fraction = (match[2] or ".")[1:].rstrip("0")
    return float(match[1].replace(",", "") + (match[2] or "")), bool(match[3]), len(fraction)


def _follow(names: Sequence[str]) -> bool:
    """Rising numbers, or days or months in their order."""
    if all(re.fullmatch(r"\d{1,4}", n) for n in names):
        return all(int(a) < int(b) for a, b in pairwise(names))
    for calendar in _CALENDARS:
        places = [calendar.index(n[:3].lower()) if n[:3].lower() in calendar else -1 for n in names]
        if min(places) >= 0 and all(a < b for a, b in pairwise(places)):
            return True
    return False
