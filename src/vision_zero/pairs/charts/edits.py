"""Which numbers of a table differ in its twin: far enough to be seen, and with nothing that gives the edit away."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from statistics import linear_regression

from vision_zero.pairs.charts.tables import Table
from vision_zero.types import Change

_TRIES = 80
_BEYOND = 0.1
"""How far, as a share of the span, a new value may lie outside of the values that were there."""
_THINNEST = 0.04
"""Smallest share of a whole that an edit may leave."""
_ROUGHER = 1.25
"""How much a twin may jump about more than its original does."""

Values = list[list[float]]


def change_values(
    rng: Random, table: Table, spans: Sequence[float], changes: int, least: float
) -> tuple[Table, tuple[Change, ...]] | None:
    """The table with `changes` of its numbers swapped or changed, and the log; None if no fair edit was found.

    Every changed number moves by at least `least` of the span of its series, which is the length of the axis
    it is drawn on, or the whole of a pie.
    """
    for _ in range(_TRIES):
        values = _propose(rng, table, spans, changes, least)
        if values is not None and _is_fair(table, values, spans, changes, least):
            twin = table.with_values(values)
            return twin, log_of(table, twin)
    return None


def whole_of(table: Table) -> float:
    """What shares add up to."""
    return sum(table.values[0]) if len(table.series) == 1 else sum(series[0] for series in table.values)


def log_of(table: Table, twin: Table) -> tuple[Change, ...]:
    """What differs, a row at a time."""
    log = []
    for r, row in enumerate(table.rows):
        different = [s for s in range(len(table.series)) if table.values[s][r] != twin.values[s][r]]
        if different:
            before, after = ({table.series[s]: t.values[s][r] for s in different} for t in (table, twin))
            log.append(Change(row, before, after))
    return tuple(log)


def unremarkable(before: Sequence[float], after: Sequence[float], ordered: bool) -> bool:
    """Whether numbers look as natural as before: still sorted if they were, and no rougher where rows are in order."""
    for sign in (1, -1):
        if _falls([sign * v for v in before]) and not _falls([sign * v for v in after]):
            return False
    return not ordered or roughness(after) <= _ROUGHER * roughness(before)


def roughness(values: Sequence[float]) -> float:
    """The largest jump of a value away from the middle of its neighbours."""
    middles = zip(values, values[1:], values[2:], strict=False)
    return max((abs(b - (a + c) / 2) for a, b, c in middles), default=0.0)


def _propose(rng: Random, table: Table, spans: Sequence[float], changes: int, least: float) -> Values | None:
    values = [list(series) for series in table.values]
    if table.whole:
        return _shift(rng, values, table, changes, least) if changes > 1 else None
    left = changes
    if left >= 2 and rng.random() < 0.5:
        s = rng.randrange(len(values))
        a, b = rng.sample(range(len(table.rows)), 2)
        values[s][a], values[s][b] = values[s][b], values[s][a]
        left -= 2
    cells = [(s, r) for s in range(len(values)) for r in range(len(table.rows)) if values[s][r] == table.values[s][r]]
    if len(cells) < left:
        return None
    for s, r in rng.sample(cells, left):
        by = rng.choice((-1, 1)) * rng.uniform(least, max(2.5 * least, 0.3)) * spans[s]
        values[s][r] = table.units[s].round(values[s][r] + by)
    return values


def _shift(rng: Random, values: Values, table: Table, changes: int, least: float) -> Values:
    """Move shares between parts of one whole, so that they still add up."""
    if len(values) == 1:
        cells = [(0, r) for r in rng.sample(range(len(table.rows)), min(changes, len(table.rows)))]
    else:
        r = rng.randrange(len(table.rows))
        cells = [(s, r) for s in rng.sample(range(len(values)), min(changes, len(values)))]
    total, unit = whole_of(table), table.units[0]
    (s, r), *others = cells
    for other_s, other_r in others:
        by = unit.round(rng.uniform(least, max(2 * least, 0.2)) * total)
        values[s][r] = unit.round(values[s][r] + by)
        values[other_s][other_r] = unit.round(values[other_s][other_r] - by)
    return values


def _is_fair(table: Table, values: Values, spans: Sequence[float], changes: int, least: float) -> bool:
    changed = 0
    for before, after, span in zip(table.values, values, spans, strict=True):
        low, high = min(before), max(before)
        room = _BEYOND * span
        floor = 0.4 * low if low > 0 else low
        for old, new in zip(before, after, strict=True):
            if old == new:
                continue
            changed += 1
            if abs(new - old) < least * span or not max(floor, low - room) <= new <= high + room:
                return False
        if not table.relation and not unremarkable(before, after, table.ordered):
            return False
    if table.whole and min(map(min, values)) < _THINNEST * whole_of(table):
        return False
    if table.relation and _astray(values) > _ROUGHER * _astray(table.values):
        return False
    return changed == changes


def _astray(values: Sequence[Sequence[float]]) -> float:
    """How far the point that lies farthest from the straight line through all lies from it."""
    along, up = values
    slope, start = linear_regression(along, up)
    return max(abs(y - start - slope * x) for x, y in zip(along, up, strict=True))


def _falls(values: Sequence[float]) -> bool:
    return all(a >= b for a, b in pairwise(values))
