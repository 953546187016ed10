"""Any Hugging Face dataset with a column of pictures, or with two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from vision_zero.errors import UserError
from vision_zero.pairs.importers import Reader
from vision_zero.pairs.reading import BadFile, Problem, as_picture, twins
from vision_zero.types import Change, ImagePair


def read_hub(
    name: str,
    original: str,
    modified: str | None,
    split: str = "train",
    subset: str | None = None,
    instruction: str | None = None,
    licence: str = "",
) -> Reader:
    """Row after row, streamed: nothing is fetched but what is read. `name` is a Hub id, or a folder of parquet files.

    `original`, `modified` and `instruction` are names of columns; without `modified` the pictures are single. What
    `vision-zero pairs export` wrote is read whole, with its changes. Raises `UserError` if the set, its split or a
    column is not there.
    """
    try:
        import datasets
    except ImportError as e:
        raise UserError("reading Hugging Face datasets needs their library: pip install 'vision-zero[data]'") from e
    columns = [c for c in (original, modified) if c is not None]
    try:
        rows = datasets.load_dataset(name, subset, split=split, streaming=True)
        have = rows.column_names or list(next(iter(rows), {}))
        missing = [c for c in (*columns, instruction) if c is not None and c not in have]
        if missing:
            raise UserError(f"{name} has no column {missing[0]!r}: it has {', '.join(have)}")
        for column in columns:
            # bytes as they are stored: we decode them ourselves, with our limits
            rows = rows.cast_column(column, datasets.Image(decode=False))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as e:
        raise UserError(f"cannot open the dataset {name!r} (split {split!r}): {e}") from e

    def items() -> Iterator[ImagePair | Problem]:
        for number, row in enumerate(_read(rows, name)):
            try:
                yield _pair(name, number, row, original, modified, instruction, licence)
            except BadFile as e:
                yield e.problem

    counts = rows.info.splits or {}
    return Reader(items(), counts[split].num_examples if split in counts else None)


def _read(rows: Any, name: str) -> Iterator[dict[str, Any]]:
    try:
        yield from rows
    except (OSError, ValueError) as e:
        raise UserError(f"reading {name!r} broke off: {e}; the same command goes on") from e


def _pair(
    name: str,
    number: int,
    row: dict[str, Any],
    original: str,
    modified: str | None,
    instruction: str | None,
    licence: str,
) -> ImagePair:
    where = f"{name}, row {number}"
    known = str(row.get("id") or f"{name.rstrip('/').rpartition('/')[2]}-{number:06d}")
    facts = [_json(row.get(f"{which}_facts"), where) for which in ("original", "modified")]
    source, licence = str(row.get("source") or name), str(row.get("licence") or licence)
    before = as_picture(_bytes(row[original], f"{where}, {original}"), f"{where}, {original}", facts[0])
    if modified is None or row[modified] is None:
        return ImagePair(known, before.picture, None, (), source, licence)
    after = as_picture(_bytes(row[modified], f"{where}, {modified}"), f"{where}, {modified}", facts[1])
    changes: tuple[Change, ...] = ()
    if instruction is not None:
        changes = (Change("edit by instruction", {}, {"instruction": str(row[instruction])}),)
    elif isinstance(row.get("changes"), str):
        listed = _json(row["changes"], where) or []
        try:
            changes = tuple(Change(c["what"], c["before"], c["after"]) for c in listed)
        except (KeyError, TypeError) as e:
            raise BadFile(where, f"has changes that cannot be read ({type(e).__name__}: {e})") from e
    return ImagePair(known, *twins(before, after, where), changes, source, licence)


def _bytes(cell: Any, where: str) -> bytes:
    data = cell.get("bytes") if isinstance(cell, dict) else None
    if not isinstance(data, bytes):
        raise BadFile(where, "holds no picture (only a path, or nothing): import the folder of the pictures instead")
    if not data:
        raise BadFile(where, "is empty (0 bytes)")
    return data


def _json(text: Any, where: str) -> Any:
    if not isinstance(text, str):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise BadFile(where, f"has a cell that is not JSON ({e})") from e
