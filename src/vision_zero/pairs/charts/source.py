"""Pairs of charts, made when they are asked for."""

from __future__ import annotations

import csv
import hashlib
from functools import cached_property
from pathlib import Path
from random import Random

import matplotlib

from vision_zero.config import ChartPairs
from vision_zero.errors import UserError
from vision_zero.pairs.base import Split
from vision_zero.pairs.charts.compose import ChartPair, chart_from_table, compose, pictures_of
from vision_zero.pairs.charts.styles import find_font, print_of
from vision_zero.pairs.charts.synthetic import make_table
from vision_zero.pairs.charts.tables import Table, suitable_kinds, table_from_cells
from vision_zero.pairs.folder import is_held_out
from vision_zero.pairs.made import MadeSource
from vision_zero.seeds import derive_seed
from vision_zero.types import ImagePair

VERSION = 1
"""Raised whenever the same seed would give other bytes."""
_TRIES = 400


class ChartsSource(MadeSource):
    """A set of charts with twins in which some numbers differ. `Picture.facts` is the kind of chart and its table.

    Tables are made up by template, or read from CSV files: then a tenth of the files, chosen by a hash of their
    names, is held out. Pixels are those of a seed and a version of matplotlib.
    """

    config: ChartPairs

    def __init__(self, config: ChartPairs, seed: int, split: Split) -> None:
        super().__init__(config, seed, split)
        if not config.charts:
            raise UserError("pairs.charts is empty: name at least one kind of chart")
        if config.changes == 1 and set(config.charts) <= {"pie", "donut"}:
            raise UserError("pairs.changes=1: one slice of a pie cannot change alone; raise it or add other charts")
        if not config.fonts:
            raise UserError("pairs.fonts is empty: name at least one font")
        self._fonts = [find_font(name) for name in config.fonts]
        self._files = None if config.tables is None else csv_files(config.tables, split)

    @cached_property
    def fingerprint(self) -> str:
        text = f"charts/{VERSION}/{matplotlib.__version__}/{self.config.model_dump_json()}/{self.seed}/{self.split}"
        digest = hashlib.sha256(text.encode())
        for font in self._fonts:
            digest.update(print_of(font).encode())
        for file in self._files or ():
            digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def _make(self, index: int) -> ImagePair:
        rng = Random(derive_seed(self.seed, "charts", self.split, index))
        for _ in range(_TRIES):
            pair = self._try(rng)
            pictures = pair and pictures_of(pair)
            if pair and pictures:
                name = f"chart-{self.split}-{self.seed}-{index:06d}"
                return ImagePair(name, *pictures, pair.changes, "charts", "CC0-1.0" if self._files is None else "")
        raise UserError(
            f"no legible chart of {self.config.width}x{self.config.height} with {self.config.changes} changes of at "
            f"least {self.config.least_change:.0%} came out in {_TRIES} tries: use larger pictures (240x160 or more), "
            "more kinds of charts, or smaller or fewer changes"
        )

    def _try(self, rng: Random) -> ChartPair | None:
        if self._files is not None:
            table = read_table(rng.choice(self._files))
            return None if table is None else chart_from_table(table, rng, self.config, self._fonts)
        # the kind first, so that all come equally often
        kind = rng.choice(self.config.charts)
        table = make_table(rng)
        while kind not in suitable_kinds(table):
            table = make_table(rng)
        return compose(table, kind, rng, self.config, self._fonts)


def csv_files(path: Path, split: Split) -> list[Path]:
    """The CSV files of a folder that belong to a split. Raises `UserError` if there are none."""
    if not path.is_dir():
        raise UserError(f"no folder of CSV tables at {path}: check pairs.tables")
    files = sorted(path.glob("*.csv"))
    chosen = [f for f in files if is_held_out(f.name) == (split == "held_out")]
    if not chosen:
        raise UserError(f"{path}: none of its {len(files)} CSV files falls into the {split} split: add more tables")
    return chosen


def read_table(file: Path) -> Table | None:
    """The table of a CSV file (a head, then rows of a name and numbers), None if no chart can be made of it.

    Raises `UserError` naming a file that is not a CSV text.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            cells = list(csv.reader(text))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UserError(f"{file} is not a CSV file in UTF-8 ({e}): mend or remove it") from e
    return table_from_cells(cells)
