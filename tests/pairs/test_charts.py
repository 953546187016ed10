"""Charts as they come out: in pixels, whatever the code believes of them."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from tests.pairs.chart_samples import FONTS, Drawn, draw
from vision_zero.config import ChartPairs
from vision_zero.config_pairs import ChartKind
from vision_zero.errors import UserError
from vision_zero.pairs import open_pairs
from vision_zero.pairs.charts.canvas import Canvas, Label
from vision_zero.pairs.charts.chart import ROUND
from vision_zero.pairs.charts.compose import LEAST_DEGREES, LEAST_PIXELS
from vision_zero.pairs.charts.marks import draw_marks, places
from vision_zero.pairs.charts.source import ChartsSource
from vision_zero.pairs.charts.styles import COLOR_BLIND_SAFE, DARK_PALETTES, PALETTES, THEMES, find_font

KINDS = get_args(ChartKind)
CONFIG = ChartPairs(kind="charts", count=30)


@pytest.fixture(scope="module")
def drawn() -> Callable[[str], list[Drawn]]:
    made: dict[str, list[Drawn]] = {}

    def of(kind: str) -> list[Drawn]:
        if kind not in made:
            made[kind] = [*draw(kind, 2, printed=0), *draw(kind, 2, printed=1)]
        return made[kind]

    return of


def changed_rows(d: Drawn) -> set[int]:
    one, two = d.pair.original.table.values, d.pair.modified.table.values
    return {r for a, b in zip(one, two, strict=True) for r in range(len(a)) if a[r] != b[r]}


@pytest.mark.parametrize("kind", KINDS)
def test_twins_are_alike_but_for_the_marks_that_changed(kind: str, drawn: Callable[[str], list[Drawn]]) -> None:
    for d in drawn(kind):
        plot, em = d.pair.layout.plot, d.pair.layout.em
        rows, columns = np.nonzero(d.differs)
        # names beside slices, and numbers over bars, stand just outside of the plot
        around = 8 * em if kind in ROUND and d.pair.original.look.names_beside else 2 * em
        if not d.pair.original.printed and kind not in ROUND:
            around = 2
        assert columns.min() >= plot.left - around
        assert columns.max() <= plot.right + around
        assert rows.min() >= plot.bottom - around
        assert rows.max() <= plot.top + around
        if kind in ("bar", "grouped_bar", "stacked_bar", "horizontal_bar", "table"):
            middles = np.array(places(d.pair.original, plot))
            at = rows if kind in ("horizontal_bar", "table") else columns
            nearest = np.abs(at[:, None] + 0.5 - middles).argmin(axis=1)
            assert set(nearest) == changed_rows(d)


@pytest.mark.parametrize("kind", ["bar", "horizontal_bar", "grouped_bar", "line", "area", "stacked_bar"])
def test_every_change_can_be_seen(kind: str, drawn: Callable[[str], list[Drawn]]) -> None:
    for d in drawn(kind):
        plot, differs = d.pair.layout.plot, d.differs
        middles = places(d.pair.original, plot)
        half = abs(middles[1] - middles[0]) / 2
        for r in changed_rows(d):
            near = slice(max(0, round(middles[r] - half)), round(middles[r] + half))
            lines = differs[near].any(axis=0) if kind == "horizontal_bar" else differs[:, near].any(axis=1)
            assert np.count_nonzero(lines) >= LEAST_PIXELS - 1


@pytest.mark.parametrize("kind", ["bar", "line", "pie", "scatter"])
def test_the_smallest_change_can_be_seen(kind: str) -> None:
    """Whatever is asked for: here next to nothing, in a small picture."""
    for d in draw(kind, 6, least_change=0.004, width=240, height=160, printed=0):
        plot = d.pair.layout.plot
        for s, (a, b) in enumerate(zip(d.pair.original.table.values, d.pair.modified.table.values, strict=True)):
            for x, y in zip(a, b, strict=True):
                if x != y and kind == "pie":
                    assert abs(x - y) / sum(a) * 360 >= LEAST_DEGREES
                elif x != y:
                    length = plot.width if kind == "scatter" and s == 0 else plot.height
                    assert (
                        abs(x - y) / d.pair.original.axes[min(s, len(d.pair.original.axes) - 1)].span * length
                        >= LEAST_PIXELS
                    )


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_apart_and_whole(kind: str) -> None:
    """Each of them drawn alone: their ink does not meet, nor the edge, nor, if they tell values, the axes."""
    for d in draw(kind, 4, width=240, height=160, printed=1):
        plot = d.pair.layout.plot
        for chart in (d.pair.original, d.pair.modified):
            marks = [t for t in draw_marks(chart, plot, d.pair.layout.em) if isinstance(t, Label)]
            inked = np.zeros((160, 240), int)
            for label in [*(t for t in d.pair.layout.frame if isinstance(t, Label)), *marks]:
                ink = ink_of(label)
                inked += ink
                assert ink[2:-2, 2:-2].sum() == ink.sum(), label.text
                rows, columns = np.nonzero(ink)
                if label in marks and chart.axes:
                    assert rows.min() >= plot.bottom
                    assert columns.min() >= plot.left
            assert inked.max() == 1


def ink_of(label: Label) -> np.ndarray:
    with Canvas(240, 160, "#ffffff") as canvas:
        canvas.draw([replace(label, color="#000000")])
        found: np.ndarray = (canvas.pixels() < 160).any(axis=-1)[::-1]
        return found


def test_numbers_in_stacks_have_room() -> None:
    for d in draw("stacked_bar", 6, printed=1):
        chart, plot = d.pair.original, d.pair.layout.plot
        if chart.printed:
            least = min(min(series) for series in chart.table.values)
            assert least / chart.axes[0].span * plot.height >= d.pair.layout.em


@pytest.mark.parametrize("kind", ROUND)
def test_slices_change_by_visible_angles(kind: str, drawn: Callable[[str], list[Drawn]]) -> None:
    for d in drawn(kind):
        plot, differs = d.pair.layout.plot, d.differs
        x, y = (plot.left + plot.right) / 2, (plot.bottom + plot.top) / 2
        radius = 0.93 * min(plot.width, plot.height) / 2
        around = [math.radians(a) for a in range(360)]
        spots = [differs[round(y + radius * math.sin(a)), round(x + radius * math.cos(a))] for a in around]
        assert sum(spots) >= LEAST_DEGREES - 2


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_reaches_the_edge(kind: str, drawn: Callable[[str], list[Drawn]]) -> None:
    for d in drawn(kind):
        background = np.round(np.array(to_rgb(d.pair.original.look.theme.background)) * 255)
        for picture in (d.before, d.after):
            edge = np.concatenate(
                [
                    picture[:2].reshape(-1, 3),
                    picture[-2:].reshape(-1, 3),
                    picture[:, :2].reshape(-1, 3),
                    picture[:, -2:].reshape(-1, 3),
                ]
            )
            assert (edge == background).all()


def test_bars_are_as_long_as_the_facts_say(drawn: Callable[[str], list[Drawn]]) -> None:
    """Read back from pixels: the height of each bar's colour above the axis."""
    for d in drawn("bar"):
        plot, look = d.pair.layout.plot, d.pair.original.look
        for chart, picture in ((d.pair.original, d.before), (d.pair.modified, d.after)):
            values = chart.facts()["series"][0]["values"]
            for r, (value, x) in enumerate(zip(values, places(chart, plot), strict=True)):
                color = np.round(np.array(to_rgb(look.color(0 if look.one_color else r))) * 255)
                column = picture[::-1][:, round(x)]
                height = np.count_nonzero((column == color).all(axis=-1))
                assert height == pytest.approx(chart.axes[0].share(value) * plot.height, abs=2)


def test_numbers_are_written_where_asked(drawn: Callable[[str], list[Drawn]]) -> None:
    for kind in ("bar", "pie", "horizontal_bar"):
        assert {d.pair.original.facts()["values_printed"] for d in draw(kind, 3, printed=0)} == {False}
        assert True in {d.pair.original.facts()["values_printed"] for d in drawn(kind)}


@pytest.mark.parametrize("turn", [0.0, 45.0, 90.0])
@pytest.mark.parametrize("font", FONTS, ids=lambda f: f.name)
def test_words_lie_in_the_boxes_that_were_measured(font: object, turn: float) -> None:
    label = Label("Égypt, $12.5M (jpq)", 150, 150, font, 14.0, "#000000", across=0.5, up=0.5, turn=turn)  # type: ignore[arg-type]
    with Canvas(300, 300, "#ffffff") as canvas:
        canvas.draw([label])
        rows, columns = np.nonzero((canvas.pixels() < 200).any(axis=-1)[::-1])
    box = label.box()
    assert columns.min() >= box.left - 1.5
    assert columns.max() <= box.right + 1.5
    assert rows.min() >= box.bottom - 1.5
    assert rows.max() <= box.top + 1.5
    # and the box is no larger than it must be: corners of slanting ones are empty
    spare = 14 if turn == 45 else 8
    assert box.width <= columns.max() - columns.min() + spare
    assert box.height <= rows.max() - rows.min() + spare


def test_pairs_depend_on_nothing_but_their_name(tmp_path: Path) -> None:
    source = open_pairs(CONFIG, 3, "train")
    assert isinstance(source, ChartsSource)
    here = [source[i] for i in (7, 2)]
    assert [p.id for p in here] == ["chart-train-3-000007", "chart-train-3-000002"]
    assert here[0].modified is not None
    # another process, the other order, and a user's own settings of matplotlib
    (tmp_path / "matplotlibrc").write_text("font.size: 30\ntext.hinting: none\ntext.antialiased: False\n")
    script = (
        "from vision_zero.config import ChartPairs; from vision_zero.pairs import open_pairs;"
        f"s = open_pairs(ChartPairs.model_validate_json({CONFIG.model_dump_json()!r}), 3, 'train');"
        "print(*(s[i].original.sha + s[i].modified.sha for i in (2, 7)))"
    )
    env = {**os.environ, "MATPLOTLIBRC": str(tmp_path)}
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env).stdout
    assert told.split() == [p.original.sha + p.modified.sha for p in reversed(here) if p.modified]
    other = open_pairs(CONFIG, 3, "held_out")[7]
    assert other.original.sha != here[0].original.sha


def test_matplotlib_is_left_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    open_pairs(CONFIG, 0, "train")[0]
    assert dict(matplotlib.rcParams) == before


def test_the_log_is_what_differs() -> None:
    source = open_pairs(CONFIG, 0, "train")
    for i in range(6):
        pair = source[i]
        assert pair.modified is not None
        one, two = pair.original.facts, pair.modified.facts
        assert one is not None
        assert two is not None
        found = {
            (row, a["name"], x, y)
            for a, b in zip(one["series"], two["series"], strict=True)
            for row, x, y in zip(one["categories"], a["values"], b["values"], strict=True)
            if x != y
        }
        logged = {(c.what, k, c.before[k], c.after[k]) for c in pair.changes for k in c.before}
        assert logged == found
        assert len(found) == 2
        assert {k: v for k, v in one.items() if k != "series"} == {k: v for k, v in two.items() if k != "series"}


@pytest.mark.parametrize("changes", [1, 3])
def test_the_number_of_changes_is_a_setting(changes: int) -> None:
    for d in draw("grouped_bar", 2, changes=changes):
        assert sum(len(c.before) for c in d.pair.changes) == changes


def test_fingerprints() -> None:
    prints = {
        open_pairs(config, seed, "train").fingerprint
        for config, seed in (
            (CONFIG, 0),
            (CONFIG, 1),
            (CONFIG.model_copy(update={"fonts": ("STIX",)}), 0),
            (CONFIG.model_copy(update={"printed": 1.0}), 0),
        )
    }
    assert len(prints) == 4
    assert open_pairs(CONFIG, 0, "train").fingerprint in prints


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"charts": ()}, "pairs.charts is empty"),
        ({"charts": ("pie", "donut"), "changes": 1}, "cannot change alone"),
        ({"fonts": ()}, "pairs.fonts is empty"),
        ({"fonts": ("Comic",)}, "no font 'Comic'; there are DejaVu Sans,"),
        ({"tables": Path("nowhere")}, "no folder of CSV tables at nowhere"),
    ],
)
def test_contradictions_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_pairs(CONFIG.model_copy(update=wrong), 0, "train")


def test_pictures_without_room_for_words_are_refused() -> None:
    source = open_pairs(CONFIG.model_copy(update={"width": 90, "height": 60}), 0, "train")
    with pytest.raises(UserError, match="no legible chart of 90x60"):
        source[0]


def test_fonts_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As font-roboto and its kin announce theirs."""
    shipped = find_font("DejaVu Serif")
    (tmp_path / "font_made.py").write_text(
        f"font_files = {{'Made': {shipped.regular!r}, 'MadeBold': {shipped.bold!r}, 'Lone': {shipped.regular!r}}}"
    )
    info = tmp_path / "font_made-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: font-made\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fonts_ttf]\nmade = font_made:font_files\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_font("Made").bold == shipped.bold
    assert find_font("Lone").bold == shipped.regular
    pair = open_pairs(CONFIG.model_copy(update={"fonts": ("Made",)}), 0, "train")[0]
    serif = open_pairs(CONFIG.model_copy(update={"fonts": ("DejaVu Serif",)}), 0, "train")[0]
    assert pair.original.sha == serif.original.sha


def test_colours_stand_out() -> None:
    for theme in THEMES:
        for colors in (DARK_PALETTES if theme.dark else PALETTES).values():
            for color in colors:
                for ground in (theme.plot, theme.background):
                    assert math.dist(to_rgb(color), to_rgb(ground)) > 0.25, (color, ground)


@pytest.mark.parametrize("name", COLOR_BLIND_SAFE)
def test_safe_palettes_stay_apart_without_red_or_green(name: str) -> None:
    """Machado et al. (2009), whole loss of the long or of the middle cones, on linear light."""
    blind = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    }
    colors = np.array([to_rgb(c) for c in PALETTES[name]]) ** 2.2
    for matrix in blind.values():
        seen = np.clip(colors @ np.array(matrix).T, 0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(seen))
        assert apart.min() > 0.15
