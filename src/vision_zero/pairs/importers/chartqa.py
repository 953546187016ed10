"""ChartQA (vis-nlp/ChartQA): its tables drawn anew as pairs, or its charts as single pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

from vision_zero.config import ChartPairs
from vision_zero.errors import UserError
from vision_zero.pairs.charts.compose import chart_from_table, pictures_of
from vision_zero.pairs.charts.source import read_cells, read_table
from vision_zero.pairs.charts.styles import Font, find_font
from vision_zero.pairs.importers import Reader
from vision_zero.pairs.reading import BadFile, Problem, read_bytes, read_picture
from vision_zero.seeds import derive_seed
from vision_zero.types import ImagePair

Part = Literal["train", "val", "test"]
SOURCE = "ChartQA"
_TRIES = 20
"""Draws of a look and of changes before a table is given up."""
_KINDS = {
    "v_bar": ("bar", "grouped_bar", "stacked_bar"),
    "h_bar": ("horizontal_bar",),
    "line": ("line", "area"),
    "pie": ("pie", "donut"),
}
"""Type in an annotation -> kinds that draw the table in the same manner."""


def read_chartqa_tables(path: Path, parts: Sequence[Part], seed: int, config: ChartPairs) -> Reader:
    """A pair for each `PART/tables/NAME.csv`, drawn by us; titles and kinds as `PART/annotations/NAME.json` has them.

    ChartQA has no twins, and its pictures cannot be changed so that nothing shows. The pair of a table depends on
    its bytes, `seed` and `config`. Where no chart of the annotated kind comes out well another kind is drawn. Raises
    `UserError` if there are no such tables, or a font is missing.
    """
    fonts = [find_font(name) for name in config.fonts]
    return _each(
        _parts(path, parts, "tables"), "tables/*.csv", lambda part, file: _drawn(part, file, seed, config, fonts)
    )


def read_chartqa_pictures(path: Path, parts: Sequence[Part]) -> Reader:
    """Each `PART/png/NAME.png` as a single picture; its table, if there is one, is its facts.

    Raises `UserError` if there are no such pictures.
    """
    return _each(_parts(path, parts, "png"), "png/*.png", _as_it_is)


def _each(parts: Sequence[Path], pattern: str, read: Callable[[Path, Path], ImagePair]) -> Reader:
    files = [(part, file) for part in parts for file in sorted(part.glob(pattern))]

    def items() -> Iterator[ImagePair | Problem]:
        for part, file in files:
            try:
                yield read(part, file)
            except BadFile as e:
                yield e.problem

    return Reader(items(), len(files))


def _drawn(part: Path, file: Path, seed: int, config: ChartPairs, fonts: Sequence[Font]) -> ImagePair:
    data, table = read_bytes(part, f"tables/{file.name}"), read_table(file, config.charts)
    title, kinds = _annotation(part, file.stem)
    if title:
        table = replace(table, title=title)
    for kinds_now in filter(None, (kinds, config.charts)):
        rng = Random(derive_seed(seed, "chartqa", file.name, data.decode("utf-8-sig")))
        narrowed = config.model_copy(update={"charts": tuple(k for k in kinds_now if k in config.charts)})
        for _ in range(_TRIES):
            pair = chart_from_table(table, rng, narrowed, fonts)
            pictures = pair and pictures_of(pair)
            if pair and pictures:
                return ImagePair(f"{part.name}-{file.stem}", *pictures, pair.changes, SOURCE)
    raise BadFile(file, "no legible chart of it came out")


def _as_it_is(part: Path, file: Path) -> ImagePair:
    table, facts = part / "tables" / f"{file.stem}.csv", None
    if table.exists():
        facts = {"cells": read_cells(table)}
    picture = read_picture(part, f"png/{file.name}", facts).picture
    return ImagePair(f"{part.name}-{file.stem}", picture, None, (), SOURCE)


def _parts(path: Path, parts: Sequence[Part], holding: str) -> list[Path]:
    for root in (path, path / "ChartQA Dataset"):
        found = [root / part for part in parts if (root / part / holding).is_dir()]
        if found:
            return found
    raise UserError(f"{path} has no {'/'.join(parts)} folder with {holding} in it: is it ChartQA's?")


def _annotation(part: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Title and kinds that an annotation names; nothing where there is none."""
    file = part / "annotations" / f"{name}.json"
    if not file.exists():
        return "", ()
    try:
        record = json.loads(read_bytes(part, f"annotations/{name}.json"))
        title = (record.get("general_figure_info") or {}).get("title") or {}
        text = title.get("text", "") if isinstance(title, dict) else title
        return str(text or ""), _KINDS.get(str(record.get("type")), ())
    except (ValueError, AttributeError, RecursionError) as e:
        raise BadFile(file, f"is not an annotation ({type(e).__name__}: {e}): mend or remove it") from e
