"""Pairs that lie in folders: the Vision-Zero sets, two folders with equal names, a JSONL file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from vision_zero.errors import UserError
from vision_zero.pairs.folder import ORIGINAL, count_folder, read_folder
from vision_zero.pairs.importers import Reader
from vision_zero.pairs.reading import EXTENSIONS, BadFile, Problem, read_picture, twins
from vision_zero.types import Change, ImagePair


def read_published(path: Path) -> Reader:
    """Every `NAME_original` with its `NAME_modified` in a folder and those below, in the order of folders and names.

    A name that several folders have is told apart by the folder's.

    That is how the three Vision-Zero sets are laid out (CLEVR: `output/replacement_images`, with the scenes beside).
    Raises `UserError` if there are none.
    """
    _need_folder(path)
    folders = sorted({file.parent for file in path.rglob(f"*{ORIGINAL}.*") if file.suffix.lower() in EXTENSIONS})
    if not folders:
        raise UserError(f"{path} holds no picture named *{ORIGINAL}.png, nor do the folders below it")
    counts = Counter(file.name for folder in folders for file in folder.glob(f"*{ORIGINAL}.*"))
    doubles = {name.rpartition(ORIGINAL)[0] for name, count in counts.items() if count > 1}

    def items() -> Iterator[ImagePair | Problem]:
        for folder in folders:
            for item in read_folder(folder):
                if isinstance(item, ImagePair) and item.id in doubles:
                    item = replace(item, id=f"{folder.relative_to(path).as_posix()}/{item.id}")
                yield item

    return Reader(items(), sum(map(count_folder, folders)))


def read_two_folders(originals: Path, modified: Path) -> Reader:
    """Pictures of equal names in two folders (extensions may differ); those below are found by their relative names.

    Raises `UserError` if a folder is not there or has two pictures of one name.
    """
    before, after = _pictures(originals), _pictures(modified)
    return Reader(_twins(originals, modified, before, after), len(before | after))


def _twins(
    originals: Path, modified: Path, before: dict[str, str], after: dict[str, str]
) -> Iterator[ImagePair | Problem]:
    for name in sorted(before | after):
        try:
            for here, there, files in ((originals, modified, before), (modified, originals, after)):
                if name not in files:
                    other = (after if files is before else before)[name]
                    raise BadFile(there / other, f"has no twin of that name in {here}")
            original, twin = read_picture(originals, before[name]), read_picture(modified, after[name])
            pictures = twins(original, twin, modified / after[name])
        except BadFile as e:
            yield e.problem
            continue
        yield ImagePair(name, *pictures, source=f"{originals.name} and {modified.name}")


def read_jsonl(file: Path) -> Reader:
    """A line a pair: `{"original": "a.png", "modified": "b.png", "id": "x", "changes": [...], ...}`.

    Files are named relative to the folder of the JSONL file, and must lie in it. Only `original` is needed; without
    `modified` it is a single picture. `changes` is a list of `{"what", "before", "after"}`, `facts` of
    `{"original", "modified"}`, `source` and `licence` are texts: what `vision-zero pairs make` writes. Raises
    `UserError` if the file cannot be read.
    """
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as e:
        raise UserError(f"cannot read {file}: {e.strerror}") from e
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return Reader((_try_line(file, number, line) for number, line in filled), len(filled))


def _try_line(file: Path, number: int, line: bytes) -> ImagePair | Problem:
    try:
        return _of_line(file, f"{file}, line {number}", number, line)
    except BadFile as e:
        return e.problem


def _of_line(file: Path, where: str, number: int, line: bytes) -> ImagePair:
    try:
        record: dict[str, Any] = json.loads(line)
        name, facts = str(record.get("id", f"{file.stem}-{number:06d}")), record.get("facts", {})
        first, second = str(record["original"]), record.get("modified")
        known = facts.get("original"), facts.get("modified")
        changes = tuple(Change(str(c["what"]), dict(c["before"]), dict(c["after"])) for c in record.get("changes", ()))
        source, licence = str(record.get("source", file.stem)), str(record.get("licence", ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise BadFile(where, f"is not a pair ({type(e).__name__}: {e})") from e
    original = read_picture(file.parent, first, known[0])
    if second is None:
        return ImagePair(name, original.picture, None, (), source, licence)
    modified = read_picture(file.parent, str(second), known[1])
    return ImagePair(name, *twins(original, modified, where), changes, source, licence)


def _pictures(folder: Path) -> dict[str, str]:
    """Relative name without its extension -> relative name. Example: `{"sub/a": "sub/a.png"}`"""
    _need_folder(folder)
    found: dict[str, str] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in EXTENSIONS:
            relative = file.relative_to(folder)
            name = relative.with_suffix("").as_posix()
            if name in found:
                raise UserError(f"{folder} holds {name} twice ({found[name]} and {relative}): remove one")
            found[name] = relative.as_posix()
    return found


def _need_folder(path: Path) -> None:
    if not path.is_dir():
        raise UserError(f"no folder at {path}")
