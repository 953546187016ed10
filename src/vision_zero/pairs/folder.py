"""Pairs from a folder in the published layout: `NAME_original.png` with `NAME_modified.png` beside it."""

from __future__ import annotations

import hashlib
import io
import json
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from vision_zero.errors import UserError
from vision_zero.pairs.base import Split
from vision_zero.types import Change, ImagePair, Picture

_ORIGINAL, _MODIFIED = "_original.png", "_modified.png"
_HELD_OUT = 0.1
_MOST_PIXELS = 64_000_000


class FolderSource:
    """The pairs of one split of a folder, in the order of their names.

    A name belongs to the held-out tenth by its hash, so that adding files never moves others across. A name
    without a modified picture is a single picture. Scene facts and the change log are read from
    `../replacement_scenes/NAME_comparison.json` (or the same file beside the pictures) where it is there.
    """

    def __init__(self, path: Path, split: Split) -> None:
        if not path.is_dir():
            raise UserError(f"no folder of pairs at {path}: check pairs.path")
        self.path, self.split = path, split
        originals = {p.name.removesuffix(_ORIGINAL) for p in path.glob(f"*{_ORIGINAL}")}
        orphans = {p.name.removesuffix(_MODIFIED) for p in path.glob(f"*{_MODIFIED}")} - originals
        if orphans:
            raise UserError(
                f"{path}: {min(orphans)}{_MODIFIED} has no {_ORIGINAL} ({len(orphans)} such): add or remove"
            )
        if not originals:
            raise UserError(f"{path} holds no file named *{_ORIGINAL}: check pairs.path")
        self.names = tuple(sorted(name for name in originals if _is_held_out(name) == (split == "held_out")))
        if not self.names:
            raise UserError(f"{path}: none of its {len(originals)} names falls into the {split} split: add more pairs")

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder/{self.split}".encode())
        for name in self.names:
            for file in (self._file(name, _ORIGINAL), self._file(name, _MODIFIED), self._facts_file(name)):
                if file is not None and file.exists():
                    digest.update(f"{file.name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> ImagePair:
        """Read a pair. Raises `UserError` naming the file that cannot be used."""
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of a set of {len(self)}")
        name = self.names[index]
        before, after, changes = self._facts(name)
        original, size = _read(self._file(name, _ORIGINAL), before)
        modified_file = self._file(name, _MODIFIED)
        if not modified_file.exists():
            return ImagePair(name, original, None, (), self.path.name)
        modified, twin_size = _read(modified_file, after)
        if size != twin_size:
            raise UserError(f"{modified_file}: {twin_size} pixels, its original {size}: twins must be of one size")
        if original.sha == modified.sha:
            raise UserError(f"{modified_file} is the same file as its original: remove it to use a single picture")
        return ImagePair(name, original, modified, changes, self.path.name)

    def check(self) -> list[str]:
        """Read every pair; one line for each that cannot be used."""
        problems = []
        for i in range(len(self)):
            try:
                self[i]
            except UserError as e:
                problems.append(str(e))
        return problems

    def _file(self, name: str, suffix: str) -> Path:
        return self.path / (name + suffix)

    def _facts_file(self, name: str) -> Path | None:
        for folder in (self.path.parent / "replacement_scenes", self.path):
            file = folder / f"{name}_comparison.json"
            if file.exists():
                return file
        return None

    def _facts(self, name: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None, tuple[Change, ...]]:
        file = self._facts_file(name)
        if file is None:
            return None, None, ()
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            scene = record["original_scene"]
            objects = list(scene["objects"])
            changes = []
            for item in record["modification"]["replaced_objects"]:
                index, before, after = item["index"], item["original"], item["replacement"]
                objects[index] = {**objects[index], **after}
                different = [k for k in ("shape", "color", "size", "material") if before[k] != after[k]]
                changes.append(
                    Change(f"object {index}", {k: before[k] for k in different}, {k: after[k] for k in different})
                )
        except (OSError, ValueError, KeyError, IndexError, TypeError) as e:
            raise UserError(
                f"{file} is not a comparison of two scenes ({type(e).__name__}: {e}): mend or remove it"
            ) from e
        return scene, {**scene, "objects": objects}, tuple(changes)


def _is_held_out(name: str) -> bool:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < _HELD_OUT * 2**64


def _read(file: Path, facts: dict[str, Any] | None) -> tuple[Picture, tuple[int, int]]:
    try:
        data = file.read_bytes()
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise UserError(f"{file}: {image.width}x{image.height} is over {_MOST_PIXELS} pixels: scale it down")
            image.load()
            return Picture(data, facts), image.size
    except UnidentifiedImageError as e:
        raise UserError(f"{file} is not a readable PNG picture (no PNG header): mend or remove it") from e
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise UserError(f"{file} is not a readable PNG picture ({e}): mend or remove it") from e
