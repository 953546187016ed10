"""Pairs from a folder in the published layout: `NAME_original.png` with `NAME_modified.png` beside it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from vision_zero.errors import UserError
from vision_zero.pairs.base import Split
from vision_zero.pairs.reading import EXTENSIONS, BadFile, Problem, read_bytes, read_picture, twins
from vision_zero.types import Change, ImagePair

log = logging.getLogger(__name__)

ORIGINAL, MODIFIED = "_original", "_modified"
"""What the names of a picture and its twin end with, before the extension."""
HELD_OUT = 0.1
"""Share of names in the held-out split."""


class _Files(NamedTuple):
    original: Path
    modified: Path | None


class _Known(NamedTuple):
    """What a comparison file says of a pair."""

    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    changes: tuple[Change, ...] = ()
    source: str = ""
    licence: str = ""


class FolderSource:
    """The pairs of one split of a folder, in the order of their names.

    A name belongs to the held-out tenth by its hash, so that adding files never moves others across. A name
    without a modified picture is a single picture. Scene facts and the change log are read from
    `../replacement_scenes/NAME_comparison.json` (or the same file beside the pictures) where it is there.

    With `skip_bad` everything is read at once and what cannot be used is left out, each with a word in the log
    (`problems` lists them); without, reading such a pair raises.
    """

    def __init__(self, path: Path, split: Split, skip_bad: bool = False) -> None:
        found, problems = _search(path)
        if problems and not skip_bad:
            raise UserError(f"{problems[0]} ({len(problems)} such; or set pairs.skip_bad=true)")
        if not found:
            raise UserError(f"{path} holds no picture named *{ORIGINAL}.png: check pairs.path")
        self.path, self.split = path, split
        self._files = {name: files for name, files in found.items() if is_held_out(name) == (split == "held_out")}
        if skip_bad:
            readable = {}
            for name, files in self._files.items():
                item = _try(path, name, files)
                if isinstance(item, Problem):
                    problems.append(item)
                else:
                    readable[name] = files
            self._files = readable
            for problem in problems:
                log.warning("left out: %s", problem)
        self.problems = tuple(problems)
        self.names = tuple(self._files)
        if not self.names:
            raise UserError(f"{path}: none of its {len(found)} names falls into the {split} split: add more pairs")

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder/{self.split}".encode())
        for name, files in self._files.items():
            for file in (*files, _comparison(self.path, name)):
                if file is not None:
                    data = file.read_bytes()
                    digest.update(f"{file.name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> ImagePair:
        """Read a pair. Raises `BadFile` naming the file that cannot be used."""
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of a set of {len(self)}")
        name = self.names[index]
        return _read(self.path, name, self._files[name])


def read_folder(path: Path) -> Iterator[ImagePair | Problem]:
    """Every pair of a folder, whatever its split, in the order of names; in place of those that are bad, why.

    Raises `UserError` if there is no such folder.
    """
    found, problems = _search(path)
    yield from problems
    for name, files in found.items():
        yield _try(path, name, files)


def count_folder(path: Path) -> int:
    """How many items `read_folder` gives. Raises `UserError` if there is no such folder."""
    return sum(map(len, _search(path)))


def check_folder(path: Path) -> list[Problem]:
    """Read every pair of a folder; what is wrong with it, file by file. Raises `UserError` without such a folder."""
    return [*(item for item in read_folder(path) if isinstance(item, Problem)), *lost_twins(path)]


def lost_twins(path: Path) -> list[Problem]:
    """Pictures without a twin in a folder where others have one, unless their comparison says that they are single.

    Raises `UserError` without such a folder.
    """
    found, _ = _search(path)
    if all(files.modified is None for files in found.values()):
        return []
    return [
        Problem(str(files.original), f"has no {name}{MODIFIED} beside it, as others have: add or remove")
        for name, files in found.items()
        if files.modified is None and not _is_single(path, name)
    ]


def is_held_out(name: str) -> bool:
    """Whether a pair of that name is in the held-out split."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < HELD_OUT * 2**64


def _search(path: Path) -> tuple[dict[str, _Files], list[Problem]]:
    """The names of a folder with their files, sorted, and files that belong to no pair."""
    if not path.is_dir():
        raise UserError(f"no folder of pairs at {path}: check pairs.path")
    originals: dict[str, Path] = {}
    modified: dict[str, Path] = {}
    problems, others = [], []
    for file in sorted(path.iterdir()):
        for suffix, known in ((ORIGINAL, originals), (MODIFIED, modified)):
            if not file.stem.endswith(suffix):
                continue
            name = file.stem.removesuffix(suffix)
            if file.suffix.lower() not in EXTENSIONS:
                others.append((name, known, file))
            elif known.setdefault(name, file) != file:
                problems.append(Problem(str(file), f"is there twice, see {known[name].name}: remove one"))
    problems += [
        Problem(str(file), f"is not read with this extension, but with {', '.join(sorted(EXTENSIONS))}: convert it")
        for name, known, file in others
        # what a picture was saved from may lie beside it
        if name not in known and file.is_file()
    ]
    problems += [
        Problem(str(file), f"has no {name}{ORIGINAL} beside it: add or remove")
        for name, file in modified.items()
        if name not in originals
    ]
    return {name: _Files(originals[name], modified.get(name)) for name in sorted(originals)}, problems


def _try(path: Path, name: str, files: _Files) -> ImagePair | Problem:
    try:
        return _read(path, name, files)
    except BadFile as e:
        return e.problem


def _read(path: Path, name: str, files: _Files) -> ImagePair:
    file = _comparison(path, name)
    known = _Known(source=path.name) if file is None else _read_comparison(file, path.name)
    original = read_picture(path, files.original.name, known.before)
    if files.modified is None:
        return ImagePair(name, original.picture, None, (), known.source, known.licence)
    modified = read_picture(path, files.modified.name, known.after)
    return ImagePair(name, *twins(original, modified, files.modified), known.changes, known.source, known.licence)


def _is_single(path: Path, name: str) -> bool:
    file = _comparison(path, name)
    try:
        return file is not None and json.loads(file.read_bytes()).get("single") is True
    except (OSError, ValueError, AttributeError, RecursionError):
        # is reported by who reads it
        return False


def _comparison(path: Path, name: str) -> Path | None:
    for folder in (path.parent / "replacement_scenes", path):
        file = folder / f"{name}_comparison.json"
        if file.exists():
            return file
    return None


def _read_comparison(file: Path, source: str) -> _Known:
    """Two forms: CLEVR's (`original_scene`, `modification`) and, for other pictures, facts and changes as they are."""
    try:
        record = json.loads(read_bytes(file.parent, file.name).decode("utf-8"))
        source, licence = str(record.get("source", source)), str(record.get("licence", ""))
        if "changes" in record:
            facts = record.get("facts", {})
            changes = tuple(Change(str(c["what"]), dict(c["before"]), dict(c["after"])) for c in record["changes"])
            return _Known(facts.get("original"), facts.get("modified"), changes, source, licence)
        return _Known(*_scenes(record), source, licence)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as e:
        raise BadFile(file, f"is not a comparison of two pictures ({type(e).__name__}: {e}): mend or remove it") from e


def _scenes(record: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], tuple[Change, ...]]:
    scene = record["original_scene"]
    objects = list(scene["objects"])
    changes = []
    for item in record["modification"]["replaced_objects"]:
        index, before, after = item["index"], item["original"], item["replacement"]
        objects[index] = {**objects[index], **after}
        different = [k for k in ("shape", "color", "size", "material") if before[k] != after[k]]
        changes.append(Change(f"object {index}", {k: before[k] for k in different}, {k: after[k] for k in different}))
    return scene, {**scene, "objects": objects}, tuple(changes)
