"""Tables made up by template: a topic, the things it is about, numbers with a trend. There is no end of them."""

from __future__ import annotations

import math
from functools import cache
from importlib import resources
from random import Random

import yaml

from vision_zero.pairs.charts.tables import Table, Unit
from vision_zero.types import JSON


def make_table(rng: Random) -> Table:
    """A table that at least one kind of chart suits."""
    words = _words()
    if rng.random() < 0.12:
        return _relation(rng, rng.choice(words["relations"]))
    topic = rng.choice(words["topics"])
    corner = rng.choice(topic["rows"])
    ordered = corner in words["ordered"]
    by = [kind for kind in topic["series"] if kind != corner]
    unit = _unit(topic)
    whole = topic.get("whole", False)
    count = rng.choice((1, 1, 1, 4, 5) if whole else (1, 1, 1, 2, 3)) if by else 1
    if whole and count > 1:
        # shares of each row: what is shared out are the series, the rows are where or when
        series = _names(rng, corner, rng.randint(3, 4))
        corner = rng.choice([kind for kind in by if kind != "Year"])
        rows = _names(rng, corner, count)
        ordered = corner in words["ordered"]
        columns = [_shares(rng, len(series)) for _ in rows]
        values = [[shares[s] for shares in columns] for s in range(len(series))]
    elif whole:
        rows, series = _names(rng, corner, rng.randint(4, 6)), (topic["measure"],)
        values = [_shares(rng, len(rows))]
    else:
        most = 10 if ordered else 8
        rows = _names(rng, corner, rng.randint(5 if ordered else 4, most if count == 1 else 6))
        series = _names(rng, rng.choice(by), count) if count > 1 else (topic["measure"],)
        scale = topic["within"]
        values = [_numbers(rng, scale, len(rows), ordered, unit) for _ in series]
    # a year in the title must not contradict years in the table
    year = (
        "" if corner in ("Year", "Quarter") or any(name.isdigit() for name in series) else str(rng.randint(1995, 2024))
    )
    title = topic["name"]
    if not whole:
        title += rng.choice((" by ", ", by ")) + corner.lower() if rng.random() < 0.7 else ""
    elif len(series) == 1:
        # shares of what its rows are, somewhere
        title += f" in {_names(rng, rng.choice(('Country', 'City')), 1)[0]}"
    return Table(
        title=f"{title}, {year}" if year and rng.random() < 0.5 else title,
        corner=corner,
        measure=topic["measure"],
        rows=rows,
        series=series,
        units=(unit,) * len(series),
        values=tuple(tuple(unit.round(v) for v in numbers) for numbers in values),
        ordered=ordered,
        additive=topic.get("additive", False),
        whole=whole,
        subtitle=rng.choice(words["subtitles"]).format(year=year) if year and rng.random() < 0.4 else "",
        source=f"Source: {rng.choice(words['sources'])}" if rng.random() < 0.4 else "",
    )


@cache
def _words() -> JSON:
    text = resources.files(__package__).joinpath("topics.yaml").read_text(encoding="utf-8")
    words: JSON = yaml.safe_load(text)
    return words


def _unit(topic: JSON) -> Unit:
    return Unit(topic.get("prefix", ""), topic.get("suffix", ""), topic.get("decimals", 0))


def _names(rng: Random, kind: str, count: int) -> tuple[str, ...]:
    """Different names of a kind; as many as there are, if there are fewer."""
    if kind == "Year":
        first = rng.randint(1985, 2024 - count)
        return tuple(str(first + i) for i in range(count))
    names = _words()["kinds"][kind]
    count = min(count, len(names))
    if kind in _words()["ordered"]:
        first = rng.randint(0, len(names) - count)
        return tuple(names[first : first + count])
    return tuple(rng.sample(names, count))


def _shares(rng: Random, count: int) -> list[float]:
    """Whole percentages, each of at least 5, that add up to 100."""
    weights = [rng.uniform(0.25, 1.0) ** 1.6 for _ in range(count)]
    room = 100 - 5 * count
    shares = [5 + math.floor(room * w / sum(weights)) for w in weights]
    shares[shares.index(max(shares))] += 100 - sum(shares)
    return [float(s) for s in shares]


def _numbers(rng: Random, within: tuple[float, float], count: int, ordered: bool, unit: Unit) -> list[float]:
    """Values in a window of the topic's range, with a trend where rows follow one another."""
    low, high = within
    top = rng.uniform(0.45, 1.0) * (high - low) + low
    bottom = low + rng.uniform(0.0, 0.35) * (top - low)
    span = top - bottom
    if not ordered:
        return [unit.round(bottom + span * rng.random()) for _ in range(count)]
    shape = rng.choice(("rise", "fall", "peak", "dip", "wander"))
    noise = rng.uniform(0.08, 0.25)
    values = []
    for i in range(count):
        t = i / (count - 1)
        level = {"rise": t, "fall": 1 - t, "peak": math.sin(math.pi * t), "dip": 1 - math.sin(math.pi * t)}.get(
            shape, 0.5
        )
        spread = 0.5 if shape == "wander" else noise
        values.append(unit.round(bottom + span * min(1.0, max(0.0, level + rng.uniform(-spread, spread)))))
    return values


def _relation(rng: Random, relation: JSON) -> Table:
    rows = _names(rng, relation["rows"], rng.randint(6, 9))
    along, across = relation["x"], relation["y"]
    units = (_unit(along), _unit(across))
    values: tuple[list[float], list[float]] = ([], [])
    for _ in rows:
        t = rng.random()
        level = t if relation["slope"] > 0 else 1 - t
        u = abs(relation["slope"]) * level + (1 - abs(relation["slope"])) * rng.random()
        for share, axis, unit, numbers in zip((t, u), (along, across), units, values, strict=True):
            low, high = axis["within"]
            numbers.append(unit.round(low + share * (high - low)))
    return Table(
        title=relation["name"],
        corner=relation["rows"],
        measure="",
        rows=rows,
        series=(along["measure"], across["measure"]),
        units=units,
        values=(tuple(values[0]), tuple(values[1])),
        relation=True,
        source=f"Source: {rng.choice(_words()['sources'])}" if rng.random() < 0.4 else "",
    )
