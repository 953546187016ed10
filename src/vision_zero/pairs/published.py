"""Writing pairs as files: CLEVR in the published layout, all else as `NAME_original.png` and `NAME_modified.png`.

The published layout (released with arXiv 2509.25541) is, below the folder of the set,
`output/replacement_images/CLEVR_REPLACEMENT_replacement_NNNNNN_{original,modified}.png` and
`output/replacement_scenes/CLEVR_REPLACEMENT_replacement_NNNNNN_comparison.json`. `folder` reads it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from vision_zero.errors import UserError
from vision_zero.pairs.reading import PNG_END
from vision_zero.types import JSON, ImagePair, Picture

INDEX = "pairs.jsonl"
_CLEVR_KEYS = ("shape", "color", "size", "material", "rotation", "3d_coords", "pixel_coords")


class Shelf:
    """The files of a set of pairs of one kind. Whole files appear at once, so that a pair is all there or is not.

    `names` are those of the pairs, where these do not go by number.
    """

    def __init__(self, folder: Path, kind: str, names: Sequence[str] | None = None) -> None:
        self.folder, self.kind, self._names = folder, kind, names
        published = folder / "output"
        self.images = published / "replacement_images" if kind == "clevr" else folder
        self.scenes = published / "replacement_scenes" if kind == "clevr" else folder

    def name(self, index: int) -> str:
        """What the files of a pair are called by."""
        if self._names is not None:
            return self._names[index]
        return f"CLEVR_REPLACEMENT_replacement_{index:06d}" if self.kind == "clevr" else f"{self.kind}_{index:06d}"

    def open(self) -> None:
        """Make the folders; remove what a killed process may have left half-written."""
        for folder in {self.images, self.scenes, self.folder}:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".*.partial"):
                left.unlink(missing_ok=True)

    def strangers(self, count: int) -> set[str]:
        """Names of pairs that are there and are none of the `count` pairs of this set."""
        end = "_comparison.json"
        return {p.name.removesuffix(end) for p in self.scenes.glob(f"*{end}")} - {self.name(i) for i in range(count)}

    def is_whole(self, index: int) -> bool:
        """Whether a pair is there; the comparison is written last, and single pictures have no twin."""
        comparison = self._comparison(index)
        if not comparison.exists():
            return False
        try:
            single = json.loads(comparison.read_bytes()).get("single", False)
        except ValueError:
            return False
        return all(_is_whole_png(self._picture(index, which)) for which in ("original", "modified")[: 2 - single])

    def put(self, index: int, pair: ImagePair) -> None:
        """Write a pair."""
        write_whole(self._picture(index, "original"), pair.original.data)
        if pair.modified is not None:
            write_whole(self._picture(index, "modified"), pair.modified.data)
        record = clevr_comparison(pair) if self.kind == "clevr" else comparison(pair)
        write_whole(self._comparison(index), _as_bytes(record, indent=1))

    def put_index(self, count: int) -> None:
        """Write `pairs.jsonl`: a line a pair, with its files and all that is known of it."""
        if self.kind != "clevr":
            write_whole(self.folder / INDEX, b"".join(self._lines(count)))

    def _lines(self, count: int) -> Iterator[bytes]:
        for index in range(count):
            record = json.loads(self._comparison(index).read_bytes())
            files: JSON = {"id": self.name(index), "original": self._picture(index, "original").name}
            if not record.pop("single", False):
                files["modified"] = self._picture(index, "modified").name
            yield _as_bytes({**files, **record})

    def _picture(self, index: int, which: str) -> Path:
        return self.images / f"{self.name(index)}_{which}.png"

    def _comparison(self, index: int) -> Path:
        return self.scenes / f"{self.name(index)}_comparison.json"


def comparison(pair: ImagePair) -> JSON:
    """What is known of a pair: its changes, facts of both pictures, source, licence."""
    record: JSON = {"source": pair.source, "licence": pair.licence, "changes": [asdict(c) for c in pair.changes]}
    facts = {"original": pair.original.facts, "modified": pair.modified.facts if pair.modified else None}
    if any(f is not None for f in facts.values()):
        record["facts"] = {which: f for which, f in facts.items() if f is not None}
    if pair.modified is None:
        record["single"] = True
    return record


def clevr_comparison(pair: ImagePair) -> JSON:
    """A pair of scenes in the fields of the released set. Raises `UserError` for a pair without scenes."""
    scene, twin = _scene(pair, pair.original), _scene(pair, pair.modified)
    both = list(zip(scene["objects"], twin["objects"], strict=True))
    replaced = [
        {"index": i, "original": _shown(a), "replacement": _shown(b)} for i, (a, b) in enumerate(both) if a != b
    ]
    return {
        "original_scene": scene,
        "modification": {"replaced_objects": replaced},
        "source": pair.source,
        "licence": pair.licence,
    }


def write_whole(path: Path, data: bytes) -> None:
    """Make or replace a file at once: whoever reads it, or comes after a kill, sees all of it or none of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    temporary.write_bytes(data)
    temporary.replace(path)


def _scene(pair: ImagePair, picture: Picture | None) -> JSON:
    if picture is None or picture.facts is None or "objects" not in picture.facts:
        raise UserError(f"pair {pair.id} has no scenes: the published CLEVR layout needs them")
    return dict(picture.facts)


def _shown(obj: JSON) -> JSON:
    return {key: obj[key] for key in _CLEVR_KEYS if key in obj}


def _is_whole_png(path: Path) -> bool:
    return path.exists() and path.read_bytes().endswith(PNG_END)


def _as_bytes(record: JSON, indent: int | None = None) -> bytes:
    return json.dumps(record, indent=indent, ensure_ascii=False, allow_nan=False).encode() + b"\n"
