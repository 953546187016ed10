"""What all sets have in common whose pairs are made when they are asked for."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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

    def __getstate__(self) -> JSON:
        # A copy in another process makes its own.
        return self.__dict__ | {"_made": OrderedDict(), "_bytes": 0}

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
