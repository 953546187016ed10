"""Charts and tables that several tests look at."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vision_zero.config import ChartPairs
from vision_zero.pairs.charts.compose import ChartPair, compose
from vision_zero.pairs.charts.styles import find_font
from vision_zero.pairs.charts.synthetic import make_table
from vision_zero.pairs.charts.tables import Table, Unit, suitable_kinds

FONTS = [find_font(name) for name in ChartPairs(kind="charts").fonts]


class Drawn(NamedTuple):
    pair: ChartPair
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]

    @property
    def differs(self) -> NDArray[np.bool_]:
        """(height, width), rows counted from the bottom as in layouts."""
        found: NDArray[np.bool_] = (self.before != self.after).any(axis=-1)[::-1]
        return found


def draw(kind: str, count: int, **settings: Any) -> list[Drawn]:
    """The first pairs of a kind that come out."""
    config = ChartPairs.model_validate({"kind": "charts", **settings})
    rng = Random(f"{kind} {settings}")
    drawn: list[Drawn] = []
    while len(drawn) < count:
        table = make_table(rng)
        if kind in suitable_kinds(table):
            pair = compose(table, kind, rng, config, FONTS)
            if pair is not None:
                drawn.append(Drawn(pair, *pair.pixels()))
    return drawn


def table(values: list[list[float]], **more: Any) -> Table:
    """A plain table of numbers."""
    rows = tuple(f"Row {r}" for r in range(len(values[0])))
    series = tuple(f"Series {s}" for s in range(len(values)))
    plain: dict[str, Any] = {"title": "Title", "corner": "Row", "measure": "Value", "units": (Unit(),) * len(values)}
    return Table(**{**plain, "rows": rows, "series": series, "values": tuple(map(tuple, values)), **more})
