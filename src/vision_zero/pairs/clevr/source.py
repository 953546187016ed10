"""CLEVR-like pairs, made when they are asked for."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from random import Random

from PIL import Image

from vision_zero.config import ClevrPairs
from vision_zero.errors import UserError
from vision_zero.pairs.base import Split
from vision_zero.pairs.clevr.raycast import render
from vision_zero.pairs.clevr.scenes import SceneRules, make_pair
from vision_zero.seeds import derive_seed
from vision_zero.types import JSON, ImagePair, Picture

VERSION = 1
"""Raised whenever the same seed would give other bytes."""
_CACHE_BYTES = 256 << 20


class ClevrSource:
    """A set of CLEVR-like pairs. Pair i depends on the configuration, the seed, the split and i, and on nothing else.

    `Picture.facts` is the scene. Pairs that were made are kept up to a bound of 256 MiB.
    """

    def __init__(self, config: ClevrPairs, seed: int, split: Split) -> None:
        fewest, most = config.objects
        if fewest > most:
            raise UserError(f"pairs.objects={fewest},{most}: the fewest objects must not exceed the most")
        if config.changes > fewest:
            raise UserError(f"pairs.changes={config.changes} but a scene may have only {fewest} objects: lower it")
        if not config.attributes:
            raise UserError("pairs.attributes is empty: name at least one of shape, color, size, material")
        self.config, self.seed, self.split = config, seed, split
        self._rules = SceneRules.of(config)
        self._made: OrderedDict[int, ImagePair] = OrderedDict()
        self._bytes = 0

    @property
    def fingerprint(self) -> str:
        text = f"clevr/{VERSION}/{self.config.model_dump_json()}/{self.seed}/{self.split}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, index: int) -> ImagePair:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of a set of {len(self)}")
        if index not in self._made:
            self._keep(index, self._make(index))
        self._made.move_to_end(index)
        return self._made[index]

    def prefetch(self, indices: Iterable[int], workers: int) -> None:
        """Make pairs ahead of time in `workers` processes. The pairs are the same as without."""
        missing = [i for i in dict.fromkeys(indices) if i not in self._made]
        if not missing:
            return
        make = partial(_make_one, self.config, self.seed, self.split)
        # spawned, not forked: the caller may have threads (torch), which a fork would cut off
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            for index, pair in zip(missing, pool.map(make, missing, chunksize=8), strict=True):
                self._keep(index, pair)

    def _make(self, index: int) -> ImagePair:
        rng = Random(derive_seed(self.seed, "clevr", self.split, index))
        scene, twin, changes = make_pair(rng, self._rules, self.config.changes, self.config.attributes)
        name = f"clevr-{self.split}-{self.seed}-{index:06d}"
        for facts, which in ((scene, "original"), (twin, "modified")):
            facts.update(split=self.split, image_index=index, image_filename=f"{name}_{which}.png")
        return ImagePair(name, self._picture(scene), self._picture(twin), changes, "clevr", "CC0-1.0")

    def _picture(self, scene: JSON) -> Picture:
        file = io.BytesIO()
        pixels = render(scene, self._rules.width, self._rules.height)
        Image.fromarray(pixels).save(file, "PNG", compress_level=6)
        return Picture(file.getvalue(), scene)

    def _keep(self, index: int, pair: ImagePair) -> None:
        self._made[index] = pair
        self._bytes += _size(pair)
        while self._bytes > _CACHE_BYTES and len(self._made) > 1:
            self._bytes -= _size(self._made.popitem(last=False)[1])


def _size(pair: ImagePair) -> int:
    return len(pair.original.data) + (len(pair.modified.data) if pair.modified else 0)


def _make_one(config: ClevrPairs, seed: int, split: Split, index: int) -> ImagePair:
    return ClevrSource(config, seed, split)[index]
