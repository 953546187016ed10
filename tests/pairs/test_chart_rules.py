"""Tables, and which edits of them are fair."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from statistics import linear_regression

import pytest

from tests.pairs.chart_samples import FONTS, draw, table
from vision_zero.config import ChartPairs
from vision_zero.errors import UserError
from vision_zero.pairs import open_pairs
from vision_zero.pairs.charts.chart import Axis, Chart
from vision_zero.pairs.charts.compose import chart_from_table, compose
from vision_zero.pairs.charts.edits import change_values, roughness, unremarkable, whole_of
from vision_zero.pairs.charts.layout import is_clear, lay_out
from vision_zero.pairs.charts.source import ChartsSource
from vision_zero.pairs.charts.styles import DARK_PALETTES, PALETTES, THEMES, look
from vision_zero.pairs.charts.synthetic import make_table
from vision_zero.pairs.charts.tables import Table, Unit, suitable_kinds, table_from_cells
from vision_zero.pairs.folder import is_held_out

RISING = [[10.0, 24.0, 38.0, 55.0, 61.0, 80.0]]


@pytest.mark.parametrize(
    ("made", "suits", "not_suits"),
    [
        (table([[1, 5, 3, 9]]), {"bar", "horizontal_bar", "table"}, {"pie", "line", "area", "grouped_bar", "scatter"}),
        (table(RISING, ordered=True), {"bar", "line", "area"}, {"horizontal_bar", "pie"}),
        (table([[40, 30, 20, 10]], whole=True), {"pie", "donut", "bar"}, {"line", "stacked_bar"}),
        (table([[96, 2, 1, 1]], whole=True), {"bar"}, {"pie", "donut"}),
        (table([[1, 5, 3, 9]] * 2), {"grouped_bar"}, {"stacked_bar", "pie", "bar", "line"}),
        (table([[1, 5, 3, 9]] * 2, additive=True), {"grouped_bar", "stacked_bar"}, {"area"}),
        (table([[1, 5, 3, 9]] * 2, additive=True, ordered=True), {"line", "area"}, {"scatter"}),
        (table([[1, -5, 3, 9]], ordered=True), {"line", "table"}, {"bar", "area"}),
        (table([[1, 5, 3, 9], [7, 2, 6, 4]], relation=True), {"scatter", "table"}, {"grouped_bar", "line"}),
    ],
)
def test_kinds_suit_their_tables(made: Table, suits: set[str], not_suits: set[str]) -> None:
    kinds = set(suitable_kinds(made))
    assert suits <= kinds
    assert not kinds & not_suits


@pytest.mark.parametrize(
    ("unit", "value", "thousands", "text"),
    [
        (Unit("$", "M", 1), 12.34, False, "$12.3M"),
        (Unit("", "%"), 40.0, True, "40%"),
        (Unit("", " mm", -1), 12340.0, False, "12,340 mm"),
        (Unit("$"), -12000.0, True, "-$12k"),
        (Unit(), 2500.0, True, "2.5k"),
        (Unit(), 2550.0, True, "2,550"),
        (Unit(), 1500000.0, True, "1.5M"),
        (Unit(), 0.0, True, "0"),
    ],
)
def test_numbers_are_written_by_their_units(unit: Unit, value: float, thousands: bool, text: str) -> None:
    assert unit.write(value, thousands) == text


@pytest.mark.parametrize(
    ("values", "from_zero", "ticks"),
    [
        ([3.0, 47.0], True, ["0", "10", "20", "30", "40", "50"]),
        ([31.0, 38.0], False, ["30", "32", "34", "36", "38", "40"]),
        ([0.1, 0.9], True, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([-4.0, 14.0], True, ["-5", "0", "5", "10", "15"]),
    ],
)
def test_axes_have_round_ticks_about_all_values(values: list[float], from_zero: bool, ticks: list[str]) -> None:
    axis = Axis.of(values, from_zero, 5)
    decimals = 1 if any("." in t for t in ticks) else 0
    assert [Unit(decimals=decimals).write(t) for t in axis.ticks] == ticks
    assert axis.share(axis.low) == 0
    assert axis.share(axis.high) == 1


def test_looks_vary() -> None:
    looks = [look(Random(seed), FONTS) for seed in range(200)]
    assert {x.font.name for x in looks} == {f.name for f in FONTS}
    assert {x.legend for x in looks} == {"right", "top", "bottom"}
    assert {x.theme for x in looks} == set(THEMES)
    palettes = {frozenset(x.colors) for x in looks}
    assert palettes == {frozenset(p) for p in [*PALETTES.values(), *DARK_PALETTES.values()]}
    for field in ("one_color", "grid", "frame", "title_left", "thousands", "names_beside"):
        assert {getattr(x, field) for x in looks} == {True, False}


def test_three_categories_are_too_few() -> None:
    assert suitable_kinds(table([[1, 2, 3]])) == ()


def test_synthetic_tables_hold_what_they_say() -> None:
    titles = set()
    for seed in range(400):
        made = make_table(Random(seed))
        titles.add(made.title)
        assert suitable_kinds(made)
        assert len(set(made.rows)) == len(made.rows) >= 4
        assert len(set(made.series)) == len(made.series)
        for series, unit in zip(made.values, made.units, strict=True):
            assert len(series) == len(made.rows)
            assert all(v == unit.round(v) for v in series)
        if made.whole:
            sums = [sum(made.values[0])] if len(made.series) == 1 else [sum(c) for c in zip(*made.values, strict=True)]
            assert sums == [100] * len(sums)
    assert len(titles) > 200
    assert make_table(Random(3)) == make_table(Random(3))


@pytest.mark.parametrize("changes", [1, 2, 3])
def test_changes_are_as_many_and_as_large_as_asked(changes: int) -> None:
    made = table([[30, 62, 45, 80, 22], [51, 33, 70, 28, 64]])
    for seed in range(40):
        edited = change_values(Random(seed), made, [100, 100], changes, 0.1)
        assert edited is not None
        moved = [
            abs(a - b) for x, y in zip(made.values, edited[0].values, strict=True) for a, b in zip(x, y, strict=True)
        ]
        moved = [m for m in moved if m]
        assert len(moved) == changes
        assert min(moved) >= 10


def test_what_is_sorted_stays_sorted() -> None:
    made = table([[90, 70, 52, 33, 12]])
    for seed in range(60):
        edited = change_values(Random(seed), made, [100], 2, 0.05)
        if edited:
            values = list(edited[0].values[0])
            assert values == sorted(values, reverse=True)


def test_a_rise_goes_on_rising_and_no_value_sticks_out() -> None:
    found = 0
    for seed in range(60):
        edited = change_values(Random(seed), table(RISING, ordered=True), [100], 2, 0.05)
        if edited:
            found += 1
            values = list(edited[0].values[0])
            assert values == sorted(values)
            assert roughness(values) <= 1.25 * roughness(RISING[0])
    assert found > 10


def test_what_gives_an_edit_away_is_noticed() -> None:
    assert unremarkable([5, 4, 3, 1], [5, 4, 2, 1], ordered=False)
    assert not unremarkable([5, 4, 3, 1], [5, 3, 4, 1], ordered=False)
    assert not unremarkable([1, 3, 4, 5], [1, 4, 3, 5], ordered=False)
    assert unremarkable([3, 1, 4, 1, 5], [3, 1, 4, 1.5, 5], ordered=True)
    assert not unremarkable([10, 12, 11, 12, 10], [10, 12, 40, 12, 10], ordered=True)


def test_no_value_becomes_an_outlier() -> None:
    made = table([[48, 62, 55, 70, 51]])
    for seed in range(60):
        edited = change_values(Random(seed), made, [100], 2, 0.08)
        assert edited is not None
        assert min(edited[0].values[0]) >= 48 - 10
        assert max(edited[0].values[0]) <= 70 + 10


@pytest.mark.parametrize(
    "values", [[[40.0, 25.0, 20.0, 15.0]], [[50.0, 30, 25, 60], [30, 40, 50, 20], [20, 30, 25, 20]]]
)
def test_shares_still_add_up(values: list[list[float]]) -> None:
    made = table(values, whole=True)
    for seed in range(40):
        edited = change_values(Random(seed), made, [100] * len(values), 2, 0.08)
        if edited:
            assert whole_of(edited[0]) == 100
            if len(values) > 1:
                assert all(sum(column) == 100 for column in zip(*edited[0].values, strict=True))
    assert change_values(Random(0), made, [100] * len(values), 1, 0.08) is None, "one share cannot change alone"


def test_no_fair_edit_is_said_so() -> None:
    assert change_values(Random(0), table([[5, 5, 5, 5]]), [1000], 2, 0.3) is None


def test_sorted_charts_come_and_stay() -> None:
    found = 0
    for d in draw("bar", 14):
        falls = [
            list(t.values[0]) == sorted(t.values[0], reverse=True)
            for t in (d.pair.original.table, d.pair.modified.table)
        ]
        assert falls[0] == falls[1]
        found += falls[0]
    assert found


def test_words_that_do_not_fit_are_noticed() -> None:
    (d,) = draw("bar", 1, printed=0)
    chart = d.pair.original
    assert is_clear(d.pair.layout, chart)
    title = " ".join(["Incomprehensibilities"] * 9)
    long = chart.with_table(replace(chart.table, title=title))
    assert lay_out(long, 480, 320) is None
    names = tuple(f"An extraordinarily long name of a row, {r}" for r in chart.table.rows)
    assert lay_out(chart.with_table(replace(chart.table, rows=names)), 480, 320) is None
    # a layout made for other words: the names run into each other
    wide = chart.with_table(replace(chart.table, rows=tuple("Wide name " + r for r in chart.table.rows)))
    layout = lay_out(wide, 480, 320)
    assert layout is None or is_clear(layout, wide)


def test_which_twin_came_first_is_left_to_chance() -> None:
    made, config = table([[30, 62, 45, 80, 22]], ordered=True), ChartPairs(kind="charts", printed=0)
    pairs = [compose(made, "bar", Random(seed), config, FONTS) for seed in range(30)]
    first = {pair.original.table.values == made.values for pair in pairs if pair}
    assert first == {True, False}
    for pair in pairs:
        if pair:
            assert made.values in (pair.original.table.values, pair.modified.table.values)
            for change in pair.changes:
                r = made.rows.index(change.what)
                assert change.before == {"Series 0": pair.original.table.values[0][r]}
                assert change.after == {"Series 0": pair.modified.table.values[0][r]}


def test_no_dot_leaves_the_cloud() -> None:
    cloud = table([[10, 20, 30, 40, 50, 60], [12, 18, 33, 39, 52, 58]], relation=True)
    for seed in range(60):
        edited = change_values(Random(seed), cloud, [100, 100], 1, 0.02)
        if edited:
            slope, start = linear_regression(*edited[0].values)
            assert max(abs(y - start - slope * x) for x, y in zip(*edited[0].values, strict=True)) < 5


def test_numbers_do_not_cross_the_axis() -> None:
    made = table([[30, 4, 45, 80, 22]], ordered=True)
    at_floor = Chart("line", made, look(Random(0), FONTS), (Axis((0.0, 50.0, 100.0)),), printed=True)
    above = replace(at_floor, axes=(Axis((-50.0, 0.0, 50.0, 100.0)),))
    clear = []
    for chart in (at_floor, above):
        layout = lay_out(chart, 480, 320)
        assert layout is not None
        clear.append(is_clear(layout, chart))
    assert clear == [False, True]


# Tables from CSV

CSV = "Country,Share in 2010,Notes\nPeru,12.5%,a\nGhana,40%,nan\nJapan,22.5%,b\nCuba,25%,\n"


def test_tables_of_cells() -> None:
    made = table_from_cells([line.split(",") for line in CSV.splitlines()])
    assert made is not None
    assert made.rows == ("Peru", "Ghana", "Japan", "Cuba")
    assert made.series == ("Share in 2010",)
    assert made.values == ((12.5, 40, 22.5, 25),)
    assert made.units == (Unit("", "%", 1),)
    assert made.whole
    assert "pie" in suitable_kinds(made)
    years = table_from_cells([["Year", "Births", "Deaths"], *([str(1990 + i), f"{i * 7:,}", "5"] for i in range(5))])
    assert years is not None
    assert years.ordered
    assert years.series == ("Births",), "a column that says nothing is left out"
    months = table_from_cells([["", "x"], ["Jan", "4"], ["March", "7"], ["Apr", "6"], ["Dec", "1"]])
    assert months is not None
    assert months.ordered


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [["a", "b"]],
        [["a", "b"], ["x", "1"], ["y", "2"], ["z", "3"]],
        [["a", "b"], ["x", "1"], ["x", "2"], ["z", "3"], ["w", "4"]],
        [["a", "b"], ["x", "1"], ["y", "nan"], ["z", "3"], ["w", "4"]],
        [["a", "b"], ["x", "1"], ["y", "2 apples"], ["z", "3"], ["w", "4"]],
        [["a", "b"], ["x", "7"], ["y", "7"], ["z", "7"], ["w", "7"]],
    ],
)
def test_cells_that_are_no_table(cells: list[list[str]]) -> None:
    assert table_from_cells(cells) is None


def test_a_folder_of_tables_becomes_charts(tmp_path: Path) -> None:
    rng = Random(0)
    for i in range(40):
        rows = "".join(f"{name},{rng.randint(10, 90)}\n" for name in ("Oslo", "Lima", "Cairo", "Quito", "Accra"))
        (tmp_path / f"two_col_{i}.csv").write_text(f"City,Rain {i}\n{rows}", encoding="utf-8-sig")
    (tmp_path / "broken.csv").write_text("Entity,2019\nA,nan\n")
    config = ChartPairs(kind="charts", count=6, tables=tmp_path)
    train, held_out = (open_pairs(config, 0, split) for split in ("train", "held_out"))  # type: ignore[arg-type]
    titles = [{source[i].original.facts["title"] for i in range(6)} for source in (train, held_out)]  # type: ignore[index]
    assert not titles[0] & titles[1], "a table is in one split only"
    assert all(title.startswith("Rain") for title in titles[0])
    fingerprint = open_pairs(config, 0, "train").fingerprint
    for file in tmp_path.glob("two*.csv"):
        file.write_text(file.read_text(encoding="utf-8-sig").replace("Oslo", "Rome"))
    assert open_pairs(config, 0, "train").fingerprint != fingerprint


def test_tables_of_which_no_chart_can_be_made_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "Oslo,1\nLima,5\nCairo,3\nQuito,8\n"
    reasons = {"latin": "is not a CSV table in UTF-8", "semicolons": "has not four rows", "empty": "is empty"}
    reasons["negative"] = "suits none of the kinds"
    data = {
        "latin": "City,x\nMálaga,3\n".encode("latin-1"),
        "semicolons": f"City,x\n{rows}".replace(",", ";").encode(),
        "empty": b"",
        "negative": f"City,x\n{rows}".replace(",1", ",-1").encode(),
    }
    # all by names of the training split
    files = {name: next(f for i in count() if not is_held_out(f := f"{name}{i}.csv")) for name in (*data, "good")}
    for name, text in data.items():
        (tmp_path / files[name]).write_bytes(text)
    config = ChartPairs(kind="charts", count=2, tables=tmp_path, charts=("bar",))
    with pytest.raises(UserError, match="no chart can be made of any table"):
        open_pairs(config, 0, "train")
    (tmp_path / files["good"]).write_text(f"City,x\n{rows}")
    source = open_pairs(config, 0, "train")
    assert isinstance(source, ChartsSource)
    named = {Path(p.file).name: p.reason for p in source.problems}
    assert named.keys() == {files[name] for name in data}
    assert all(reason in named[files[name]] for name, reason in reasons.items())
    assert files["latin"] in caplog.text
    assert source[1].modified is not None


def test_series_that_would_not_be_seen_beside_others_are_not_drawn_with_them() -> None:
    made = table([[1200, 2300, 900, 400], [10, 20, 30, 40]])
    assert suitable_kinds(made) == ("table",)


def test_one_table_one_chart() -> None:
    made = table([[30, 62, 45, 80, 22]])
    pairs = [chart_from_table(made, Random(seed), ChartPairs(kind="charts"), FONTS) for seed in range(6)]
    kinds = {pair.original.kind for pair in pairs if pair}
    assert kinds
    assert kinds <= set(suitable_kinds(made))
    assert chart_from_table(made, Random(0), ChartPairs(kind="charts", charts=("pie",)), FONTS) is None
