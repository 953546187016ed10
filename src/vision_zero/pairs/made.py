"""What all sets have in common whose pairs are made when they are asked for."""

from __future__ import annotations

import io
import multiprocessing
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_zero.lifeline import end_with_parent
from vision_zero.pairs.base import Split
from vision_zero.types import JSON, ImagePair, Picture

CACHE_BYTES = 256 << 20
"""Pairs that were made are kept up to this many bytes of files."""


class MadeSource(ABC):
    """A set whose pair i depends on the configuration, the seed, the split and i, and on nothing else.

    Subclasses take (config, seed, split), all of which can be sent to other processes.
    """

    def __init__(self, config: Any, seed: int, split: Split) -> None:
        self.config, self.seed, self.split = config, seed, split
        self._made: OrderedDict[int, ImagePair] = OrderedDict()
        self._bytes = 0

    @property
    @abstractmethod
    def fingerprint(self) -> str: ...

    @abstractmethod
    def _make(self, index: int) -> ImagePair: ...

    def __len__(self) -> int:
        count: int = self.config.count
        return count

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
        make = partial(_make_one, type(self), self.config, self.seed, self.split)
        # spawned, not forked: the caller may have threads (torch), which a fork would cut off
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
            for index, pair in zip(missing, pool.map(make, missing, chunksize=8), strict=True):
                self._keep(index, pair)

    def _keep(self, index: int, pair: ImagePair) -> None:
        self._made[index] = pair
        self._bytes += _size(pair)
        while self._bytes > CACHE_BYTES and len(self._made) > 1:
            self._bytes -= _size(self._made.popitem(last=False)[1])


def png_picture(pixels: NDArray[np.uint8], facts: JSON) -> Picture:
    """Pixels (height, width, 3) as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=6)
    return Picture(file.getvalue(), facts)


def _size(pair: ImagePair) -> int:
    return len(pair.original.data) + (len(pair.modified.data) if pair.modified else 0)


def _make_one(kind: Any, config: Any, seed: int, split: Split, index: int) -> ImagePair:
    pair: ImagePair = _source(kind, config, seed, split)[index]
    return pair


@lru_cache(maxsize=1)
def _source(kind: Any, config: Any, seed: int, split: Split) -> MadeSource:
    source: MadeSource = kind(config, seed, split)
    return source
