"""Pairs made from a folder of photos."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from vision_zero.config import PhotoPairs
from vision_zero.errors import UserError
from vision_zero.pairs.bar import with_bar
from vision_zero.pairs.base import Split
from vision_zero.pairs.folder import is_held_out
from vision_zero.pairs.photos.by_model import confine
from vision_zero.pairs.photos.editors import Editor, open_editor
from vision_zero.pairs.photos.edits import Edit, edits
from vision_zero.pairs.photos.kept import Kept, Made, Twin
from vision_zero.pairs.reading import EXTENSIONS, UNREAD, BadFile, Problem, decode, read_bytes, to_png
from vision_zero.seeds import derive_seed
from vision_zero.types import JSON, ImagePair, Picture

log = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever the same photo and seed would give other bytes."""
_TRIES = 3
"""Requests to a model for each pair that is wanted of a photo."""
_MOST_BYTES = 256 << 20
_LONGEST_NAME = 80
"""Characters of a photo's name in those of its pairs."""


class PhotosSource:
    """The pairs of one split of a folder of photos; files in folders below are found too.

    Each photo is edited when the set is opened, to know which have a good edit: the others are named in the log
    and in `problems`, and are left out. What was made is kept in `config.cache`, if there is one, so that this
    is done once; without, it is made again when it is asked for, with the same bytes.

    A photo belongs to the held-out tenth by the hash of its bytes. Pairs are named after photos; `names` has all.
    """

    def __init__(self, config: PhotoPairs, seed: int, split: Split) -> None:
        if not config.path.is_dir():
            raise UserError(f"no folder of photos at {config.path}: check pairs.path")
        self.config, self.seed, self.split = config, seed, split
        names = sorted(_photos(config))
        if not any(Path(name).suffix.lower() in EXTENSIONS for name in names):
            raise UserError(f"{config.path} holds no pictures{_said(names)}: check pairs.path")
        self._editor: Editor | None = None
        self._kept = Kept(config.cache)
        self._bytes = 0
        self._made: OrderedDict[str, tuple[ImagePair, ...]] = OrderedDict()
        self._photos: dict[str, str] = {}
        problems: list[Problem] = []
        self._index: list[tuple[str, int]] = []
        self.names: list[str] = []
        for name in with_bar(names, "photos"):
            try:
                self._take(name)
            except BadFile as e:
                problems.append(e.problem)
                log.warning("left out: %s", e.problem)
        self.problems = tuple(problems)
        if not self._index:
            raise UserError(
                f"{config.path}: none of its {len(names)} pictures gives a pair for the {split} split: add photos"
                + (f" (the first problem: {problems[0]})" if problems else "")
            )

    @cached_property
    def fingerprint(self) -> str:
        parts = [f"photos/{self._recipe}/{self.split}", *(f"{sha}/{k}" for sha, k in self._hashes())]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> ImagePair:
        """The pair at `index`. Raises `BadFile` if its photo changed on the disk since the set was opened."""
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of a set of {len(self)}")
        name, draw = self._index[index]
        if name not in self._made:
            data = read_bytes(self.config.path, name)
            if hashlib.sha256(data).hexdigest() != self._photos[name]:
                raise BadFile(self.config.path / name, "changed since the set was opened: start again")
            self._keep(name, self._pairs(name, data))
        self._made.move_to_end(name)
        return self._made[name][draw]

    def __getstate__(self) -> JSON:
        # A copy in another process makes its own, and opens an editor if it needs one.
        return self.__dict__ | {"_made": OrderedDict(), "_bytes": 0, "_editor": None}

    @cached_property
    def _recipe(self) -> str:
        """Everything that the bytes of the pairs depend on, besides the photos."""
        settings = self.config.model_dump_json(exclude={"path", "cache"})
        return f"{VERSION}/{settings}/{self.seed}"

    def _hashes(self) -> list[tuple[str, int]]:
        return [(self._photos[name], draw) for name, draw in self._index]

    def _take(self, name: str) -> None:
        if Path(name).suffix.lower() in UNREAD:
            raise BadFile(self.config.path / name, "is not read in this format: convert it to PNG or JPEG")
        data = read_bytes(self.config.path, name)
        sha = hashlib.sha256(data).hexdigest()
        if is_held_out(sha) != (self.split == "held_out"):
            return
        twin = next((other for other, known in self._photos.items() if known == sha), None)
        if twin is not None:
            raise BadFile(self.config.path / name, f"is the same file as {twin}")
        self._photos[name] = sha
        pairs = self._pairs(name, data)
        self._keep(name, pairs)
        self._index += [(name, draw) for draw in range(len(pairs))]
        self.names += [pair.id for pair in pairs]

    def _pairs(self, name: str, data: bytes) -> tuple[ImagePair, ...]:
        """The pairs of a photo, at least one. Raises `BadFile`, with the reasons, if no edit of it is good."""
        config, sha = self.config, hashlib.sha256(data).hexdigest()
        image = decode(data, config.path / name)
        image.thumbnail((config.side, config.side), Image.Resampling.LANCZOS)
        original = Picture(to_png(image))
        stem = f"{re.sub(r'[^A-Za-z0-9]+', '-', Path(name).stem)[:_LONGEST_NAME]}-{sha[:8]}"
        source = f"photos/{config.path.name}"
        if not config.edits and config.editor is None:
            return (ImagePair(stem, original, None, (), source, config.licence),)
        key = hashlib.sha256(f"{self._recipe}/{sha}".encode()).hexdigest()[:32]
        made = self._kept.get(key)
        if made is None:
            made = self._make(image, config.path / name, sha)
            self._kept.put(key, made)
        if not made.twins:
            reasons = "; ".join(made.refused) or "nothing in it stands out by its colour"
            raise BadFile(config.path / name, f"has no good edit: {reasons}")
        return tuple(
            ImagePair(f"{stem}-{k}", original, Picture(twin.data), (twin.change,), source, config.licence)
            for k, twin in enumerate(made.twins)
        )

    def _make(self, image: Image.Image, file: Path, sha: str) -> Made:
        twins: list[Twin] = []
        refused: dict[str, str] = {}
        for edit in self._edits(image, file, sha):
            if edit.refused is None:
                twins.append(Twin(to_png(Image.fromarray(edit.after)), edit.change))
            else:
                # of reasons that differ in their figures only, the first
                refused.setdefault(f"{edit.name}: {edit.refused.partition(' (')[0]}", f"{edit.name}: {edit.refused}")
            if len(twins) == self.config.per_photo:
                break
        return Made(tuple(twins), tuple(refused.values()))

    def _edits(self, image: Image.Image, file: Path, sha: str) -> Iterator[Edit]:
        config, pixels = self.config, np.asarray(image)
        seed = derive_seed(self.seed, "photos", sha)
        if config.editor is None:
            yield from edits(pixels, config.edits, config.area, seed)
            return
        self._editor = self._editor or open_editor(config.editor)
        rng = Random(seed)
        for draw in range(_TRIES * config.per_photo):
            instruction = rng.choice(config.instructions)
            edited = self._editor.edit(image, instruction, derive_seed(seed, draw), str(file))
            yield confine(pixels, edited, instruction, config.area)

    def _keep(self, name: str, pairs: tuple[ImagePair, ...]) -> None:
        self._made[name] = pairs
        self._bytes += _size(pairs)
        while self._bytes > _MOST_BYTES and len(self._made) > 1:
            self._bytes -= _size(self._made.popitem(last=False)[1])


def _photos(config: PhotoPairs) -> Iterator[str]:
    """Relative names of pictures, without hidden ones and without what a cache that lies here keeps."""
    for file in config.path.rglob("*"):
        name = file.relative_to(config.path)
        kept = config.cache is not None and file.is_relative_to(config.cache)
        if file.suffix.lower() in EXTENSIONS | UNREAD and not kept and not any(p.startswith(".") for p in name.parts):
            yield str(name)


def _said(names: list[str]) -> str:
    return f" in a format that is read here ({len(names)} in others, such as {names[0]})" if names else ""


def _size(pairs: tuple[ImagePair, ...]) -> int:
    """Bytes of files; a photo's pairs share its original."""
    return len(pairs[0].original.data) + sum(len(p.modified.data) for p in pairs if p.modified)
