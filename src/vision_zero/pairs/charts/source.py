"""Pairs of charts, made when they are asked for."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Collection
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
from vision_zero.pairs.reading import BadFile, read_bytes
from vision_zero.seeds import derive_seed
from vision_zero.types import ImagePair

log = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever the same seed would give other bytes."""
_TRIES = 400


class ChartsSource(MadeSource):
    """A set of charts with twins in which some numbers differ. `Picture.facts` is the kind of chart and its table.

    Tables are made up by template, or read from CSV files: then a tenth of the files, chosen by a hash of their
    names, is held out. Files of which no chart can be made are named in the log and in `problems`, and are left out.
    Pixels are those of a seed and a version of matplotlib.
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
        self._files: list[Path] = []
        self._tables: list[Table] = []
        problems = []
        for file in csv_files(config.tables, split) if config.tables else ():
            try:
                self._tables.append(read_table(file, config.charts))
                self._files.append(file)
            except BadFile as e:
                problems.append(e.problem)
                log.warning("left out: %s", e.problem)
        self.problems = tuple(problems)
        if config.tables and not self._tables:
            raise UserError(f"no chart can be made of any table in {config.tables}: {problems[0]}")

    @cached_property
    def fingerprint(self) -> str:
        text = f"charts/{VERSION}/{matplotlib.__version__}/{self.config.model_dump_json()}/{self.seed}/{self.split}"
        digest = hashlib.sha256(text.encode())
        for font in self._fonts:
            digest.update(print_of(font).encode())
        for file in self._files:
            digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def _make(self, index: int) -> ImagePair:
        rng = Random(derive_seed(self.seed, "charts", self.split, index))
        for _ in range(_TRIES):
            pair = self._try(rng)
            pictures = pair and pictures_of(pair)
            if pair and pictures:
                name = f"chart-{self.split}-{self.seed}-{index:06d}"
                return ImagePair(name, *pictures, pair.changes, "charts", "" if self._tables else "CC0-1.0")
        raise UserError(
            f"no legible chart of {self.config.width}x{self.config.height} with {self.config.changes} changes of at "
            f"least {self.config.least_change:.0%} came out in {_TRIES} tries: use larger pictures (240x160 or more), "
            "more kinds of charts, or smaller or fewer changes"
        )

    def _try(self, rng: Random) -> ChartPair | None:
        if self._tables:
            return chart_from_table(rng.choice(self._tables), rng, self.config, self._fonts)
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


def read_cells(file: Path) -> list[list[str]]:
    """The cells of a CSV file. Raises `BadFile`."""
    data = read_bytes(file.parent, file.name)
    try:
        return list(csv.reader(data.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as e:
        raise BadFile(file, f"is not a CSV table in UTF-8 ({e}): mend or remove it") from e


def read_table(file: Path, kinds: Collection[str]) -> Table:
    """The table of a CSV file (a head, then rows of a name and numbers). Raises `BadFile` if no chart suits it."""
    table = table_from_cells(read_cells(file))
    if table is None:
        raise BadFile(file, "has not four rows with different names and a column of numbers: no chart for a game")
    if not set(suitable_kinds(table)) & set(kinds):
        raise BadFile(file, "suits none of the kinds of charts that are asked for")
    return table
