"""Probes on charts whose table is known: a value, the largest or smallest, and which way a line goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from vision_zero.evaluate.probes import Probe
from vision_zero.types import ImagePair

FAMILIES = ("value", "extremum", "trend")
RELAXED = 0.05
"""How far a value that is not printed may be misread: ChartQA's relaxed accuracy (arXiv 2203.10244)."""
CLEAR = 0.08
"""Least difference, as a share of the range of the table, on which a question may turn."""
ROUND, ORDERED, UNNAMED = ("pie", "donut"), ("line", "area"), ("scatter",)
"""Kinds without an axis to read from; with rows that follow each other; with points that bear no names."""


def chart_probes(pair: ImagePair, rng: Random) -> Iterator[Probe]:
    """At most one probe of each family about the original of a pair of charts."""
    facts = pair.original.facts or {}
    if facts["chart"] in UNNAMED:
        return
    series = rng.choice(facts["series"])
    # the title of a single series is that of the chart
    of = "" if len(facts["series"]) == 1 else f" of {series['name']}"
    yield from _value(pair, rng, facts, series, of)
    yield from _extremum(pair, rng, facts, series, of)
    yield from _trend(pair, facts, series, of)


def _value(
    pair: ImagePair, rng: Random, facts: Mapping[str, Any], series: Mapping[str, Any], of: str
) -> Iterator[Probe]:
    printed = facts["values_printed"] or facts["chart"] == "table"
    if facts["chart"] in ROUND and not printed:
        return
    row = rng.randrange(len(facts["categories"]))
    value = series["values"][row]
    if not printed and value == 0:
        return
    unit = f"{series['prefix']}{series['suffix']}".strip()
    without = f" Leave out the unit ({unit})." if unit else ""
    question = f"What is the value{of} for {facts['categories'][row]}?{without}"
    yield Probe("value", pair.id, (pair.original,), question, repr(value), tolerance=0.0 if printed else RELAXED)


def _extremum(
    pair: ImagePair, rng: Random, facts: Mapping[str, Any], series: Mapping[str, Any], of: str
) -> Iterator[Probe]:
    largest = rng.random() < 0.5
    values, rows = series["values"], facts["categories"]
    order = sorted(range(len(values)), key=lambda r: values[r], reverse=largest)
    if abs(values[order[0]] - values[order[1]]) >= CLEAR * _span(facts):
        question = f"Which {facts['category']} has the {'largest' if largest else 'smallest'} value{of}?"
        yield Probe("extremum", pair.id, (pair.original,), question, rows[order[0]], tuple(rows))


def _trend(pair: ImagePair, facts: Mapping[str, Any], series: Mapping[str, Any], of: str) -> Iterator[Probe]:
    values, rows = series["values"], facts["categories"]
    if facts["chart"] in ORDERED and abs(values[-1] - values[0]) >= CLEAR * _span(facts):
        question = f"Is the value{of} higher or lower for {rows[-1]} than for {rows[0]}?"
        answer = "higher" if values[-1] > values[0] else "lower"
        yield Probe("trend", pair.id, (pair.original,), question, answer, ("higher", "lower"))


def _span(facts: Mapping[str, Any]) -> float:
    values = [v for series in facts["series"] for v in series["values"]]
    return float(max(values) - min(values))
