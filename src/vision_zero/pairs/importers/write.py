"""Pairs from anywhere into a folder of files that every other part reads."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from vision_zero.errors import UserError
from vision_zero.pairs.published import comparison, write_whole
from vision_zero.pairs.reading import Problem
from vision_zero.types import JSON, ImagePair

RECORD = "imported.json"
"""What a folder was imported from; another import is not mixed into it."""
_LONGEST = 120


@dataclass(frozen=True)
class Imported:
    """How many pairs and single pictures are in the folder now, and what could not be used."""

    pairs: int
    singles: int
    problems: tuple[Problem, ...]


def import_pairs(
    items: Iterable[ImagePair | Problem],
    out: Path,
    origin: JSON,
    limit: int | None = None,
    licence: str = "",
    on_item: Callable[[ImagePair | Problem], None] = lambda item: None,
) -> Imported:
    """Write pairs as `NAME_original.png`, `NAME_modified.png` and `NAME_comparison.json`, named after their ids.

    Stops after `limit` pairs. `origin` says what is imported and how; `licence` goes to pairs that come without one.
    Killed and started again with the same input it ends with the same bytes: what is there already is not written
    again. Raises `UserError` if the folder holds anything else, or if nothing could be used.
    """
    claim = _claim(out, {**origin, "licence": licence})
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    pairs = singles = 0
    for item in _until(items, limit):
        on_item(item)
        if isinstance(item, Problem):
            problems.append(item)
            continue
        name = file_name(item.id)
        if name in seen:
            problems.append(Problem(item.id, "is the name of another pair too: only the first is imported"))
            continue
        if not seen:
            _begin(out, claim)
        seen[name] = item.id
        _put(out, name, item if item.licence else replace(item, licence=licence))
        pairs, singles = pairs + (item.modified is not None), singles + (item.modified is None)
    if not seen:
        raise UserError(f"nothing could be imported: {problems[0] if problems else 'there are no pairs'}")
    return Imported(pairs, singles, tuple(problems))


def file_name(name: str) -> str:
    """A name as part of file names: letters, digits, `.`, `_`, `-`; what had to be changed keeps a hash of the old."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip(".")
    if clean and clean == name and len(name) <= _LONGEST:
        return name
    return f"{clean[: _LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _until(items: Iterable[ImagePair | Problem], limit: int | None) -> Iterable[ImagePair | Problem]:
    if limit is None:
        yield from items
        return
    good = 0
    for item in items:
        yield item
        good += isinstance(item, ImagePair)
        if good >= limit:
            return


def _put(out: Path, name: str, pair: ImagePair) -> None:
    record = json.dumps(comparison(pair), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    files = {f"{name}_original.png": pair.original.data}
    if pair.modified is not None:
        files[f"{name}_modified.png"] = pair.modified.data
    for file, data in {**files, f"{name}_comparison.json": record}.items():
        if not (out / file).exists() or (out / file).read_bytes() != data:
            write_whole(out / file, data)


def _claim(out: Path, origin: JSON) -> bytes:
    """What the folder's record is to be. Raises `UserError` if the folder belongs to something else."""
    file = out / RECORD
    text = json.dumps(origin, indent=1, sort_keys=True, default=str).encode() + b"\n"
    if file.exists():
        if file.read_bytes() != text:
            raise UserError(f"{out} holds another import, see its {RECORD}: choose another --out or remove it")
    elif out.exists() and any(not p.name.startswith(".") for p in islice(out.iterdir(), 1000)):
        raise UserError(f"{out} is not empty and has no {RECORD}: choose another --out")
    return text


def _begin(out: Path, claim: bytes) -> None:
    """Not before there is something to write, so that an import that cannot begin leaves nothing behind."""
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(".*.partial"):
        left.unlink()
    write_whole(out / RECORD, claim)
