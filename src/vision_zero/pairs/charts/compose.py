"""A chart and its twin from a table, by the rules of quality; and their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from vision_zero.config import ChartPairs
from vision_zero.pairs.charts.canvas import Canvas
from vision_zero.pairs.charts.chart import ROUND, Chart, axes_of, spans_of
from vision_zero.pairs.charts.edits import change_values, log_of
from vision_zero.pairs.charts.layout import Layout, is_clear, lay_out
from vision_zero.pairs.charts.marks import draw_marks, least_seen
from vision_zero.pairs.charts.styles import Font, look
from vision_zero.pairs.charts.tables import Table, suitable_kinds
from vision_zero.pairs.made import png_picture
from vision_zero.types import Change, Picture

LEAST_PIXELS = 6.0
LEAST_DEGREES = 12.0
"""A mark whose value changes moves at least this far, whatever the configuration says."""
_LEAST_CHANGED = 40 / (480 * 320)
"""Smallest share of pixels that differ clearly between twins: less is a change hidden behind something."""
_CLEARLY = 24


@dataclass(frozen=True)
class ChartPair:
    """Twins: equal but for some numbers of their tables."""

    original: Chart
    modified: Chart
    changes: tuple[Change, ...]
    layout: Layout

    def pixels(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Both pictures, (height, width, 3). What they share is drawn once."""
        page, em = self.layout.page, self.layout.em
        pictures = []
        with Canvas(round(page.width), round(page.height), self.original.look.theme.background) as canvas:
            canvas.draw(self.layout.frame)
            shared = canvas.keep()
            for chart in (self.original, self.modified):
                canvas.back_to(shared)
                canvas.draw(draw_marks(chart, self.layout.plot, em))
                pictures.append(canvas.pixels())
        return pictures[0], pictures[1]


def pictures_of(pair: ChartPair) -> tuple[Picture, Picture] | None:
    """Both pictures, their charts as facts; None if too few of their pixels differ."""
    before, after = pair.pixels()
    if not differs_enough(before, after):
        return None
    return png_picture(before, pair.original.facts()), png_picture(after, pair.modified.facts())


def chart_from_table(table: Table, rng: Random, config: ChartPairs, fonts: Sequence[Font]) -> ChartPair | None:
    """Twins of a kind that suits the table, of those that are configured; None if none of them comes out well."""
    kinds = [kind for kind in suitable_kinds(table) if kind in config.charts]
    rng.shuffle(kinds)
    for kind in kinds:
        pair = compose(table, kind, rng, config, fonts)
        if pair is not None:
            return pair
    return None


def compose(table: Table, kind: str, rng: Random, config: ChartPairs, fonts: Sequence[Font]) -> ChartPair | None:
    """Twins of a kind; None if the draw broke a rule of quality."""
    style = look(rng, fonts)
    if not table.ordered and not table.relation and rng.random() < 0.4:
        table = table.sorted_rows()
    spans = spans_of(kind, table, axes_of(kind, [table], style.ticks))
    edited = change_values(rng, table, spans, config.changes, config.least_change)
    if edited is None:
        return None
    # which of the two came first must not be visible either
    tables = (table, edited[0]) if rng.random() < 0.5 else (edited[0], table)
    axes = axes_of(kind, tables, style.ticks)
    # dots carry names already; numbers at several lines would run into the lines
    can_print = kind != "scatter" and not (kind in ("line", "area") and len(table.series) > 1)
    printed = rng.random() < config.printed and can_print
    for with_values in (True,) if kind == "table" else (True, False) if printed else (False,):
        original, modified = (Chart(kind, t, style, axes, with_values) for t in tables)
        layout = lay_out(original, config.width, config.height)
        if layout and _is_good(original, modified, layout):
            return ChartPair(original, modified, log_of(*tables), layout)
    return None


def differs_enough(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    """Whether enough pixels differ clearly."""
    changed = (np.abs(a.astype(np.int16) - b) > _CLEARLY).any(axis=-1)
    return float(changed.mean()) >= _LEAST_CHANGED


def _is_good(original: Chart, modified: Chart, layout: Layout) -> bool:
    least = LEAST_DEGREES if original.kind in ROUND else LEAST_PIXELS
    if least_seen(original, modified, layout.plot) < least:
        return False
    return all(is_clear(layout, chart) for chart in (original, modified))
