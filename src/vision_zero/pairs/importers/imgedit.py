"""ImgEdit (sysuyy/ImgEdit): parquet tables of paths and instructions, pictures in tar files cut into splits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vision_zero.errors import UserError
from vision_zero.pairs.importers import Reader
from vision_zero.pairs.importers.tars import PictureStore
from vision_zero.pairs.reading import BadFile, Problem, as_picture, twins
from vision_zero.types import Change, ImagePair

TASKS = ("add", "remove", "replace", "adjust")
"""Edits of one place, which suit the game. Style and background change all of a picture."""
SOURCE = "ImgEdit"
_BATCH = 256


def read_imgedit(path: Path, tasks: Sequence[str] | None = TASKS) -> Reader:
    """The pairs of `Parquet/TASK_partN.parquet`, in the order of files and rows; all tasks if `tasks` is None.

    A row is `{input_images: [path], output_images: [path], prompt}`; a row of several turns has a list of such in
    `data`. Rows of several inputs or outputs are named and left out. Pictures are found below `path`, in folders
    and in tar files. Raises `UserError` if there are no tables, or not all parts of a tar file.
    """
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as e:
        raise UserError("reading parquet tables needs pyarrow: pip install 'vision-zero[data]'") from e
    tables = sorted(path.rglob("*.parquet"))
    chosen = [t for t in tables if tasks is None or _task(t) in tasks]
    if not chosen:
        known = ", ".join(sorted({_task(t) for t in tables})) or "none"
        raise UserError(f"{path} holds no parquet table of these tasks: it has {known}")
    files, total = {}, 0
    for table in chosen:
        try:
            files[table] = parquet.ParquetFile(table)
            total += _turns(files[table])
        except (OSError, pyarrow.ArrowException) as e:
            raise UserError(f"{table} is not a whole parquet table ({e}): fetch it again") from e
    return Reader(_read(PictureStore(path), files), total)


def _read(store: PictureStore, files: Mapping[Path, Any]) -> Iterator[ImagePair | Problem]:
    try:
        for table, file in files.items():
            number = 0
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield from _pairs(store, table, number, row)
    finally:
        store.close()


def _turns(file: Any) -> int:
    """How many edits a parquet table has: a row of several turns has a list of them."""
    if "data" not in file.schema_arrow.names:
        return int(file.metadata.num_rows)
    batches = file.iter_batches(_BATCH, columns=["data"])
    return sum(len(turns) if turns else 1 for batch in batches for turns in batch.column("data").to_pylist())


def _task(table: Path) -> str:
    """Example: `"remove"` of `remove_part5.parquet`"""
    return re.sub(r"_?part\d+$", "", table.stem)


def _pairs(store: PictureStore, table: Path, number: int, row: dict[str, Any]) -> Iterator[ImagePair | Problem]:
    turns = row.get("data") or [row]
    for turn, item in enumerate(turns):
        where = f"{table}, row {number}" + (f", turn {turn + 1}" if len(turns) > 1 else "")
        name = f"{table.stem}-{number:06d}" + (f"-{turn}" if len(turns) > 1 else "")
        try:
            yield _pair(store, where, name, item)
        except BadFile as e:
            yield Problem(where, str(e) if e.problem.file != where else e.problem.reason)


def _pair(store: PictureStore, where: str, name: str, item: Any) -> ImagePair:
    try:
        inputs, outputs = list(item["input_images"]), list(item["output_images"])
        instruction = str(item["prompt"])
    except (KeyError, TypeError) as e:
        raise BadFile(where, f"has no input_images, output_images and prompt ({type(e).__name__}: {e})") from e
    if len(inputs) != 1 or len(outputs) != 1:
        raise BadFile(where, f"has {len(inputs)} inputs and {len(outputs)} outputs: only one of each makes a pair")
    before, after = (as_picture(store.read(str(file)), str(file)) for file in (inputs[0], outputs[0]))
    change = Change("edit by instruction", {}, {"instruction": instruction})
    return ImagePair(name, *twins(before, after, where), (change,), SOURCE)
