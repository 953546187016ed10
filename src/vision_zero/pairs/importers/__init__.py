"""Published sets, and any pictures that lie in pairs somewhere. Readers give pairs, and in place of bad ones why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vision_zero.pairs.reading import Problem
from vision_zero.types import ImagePair


@dataclass(frozen=True)
class Reader:
    """Pairs to come, once, and how many there will be with those that are bad; None where nobody knows."""

    items: Iterator[ImagePair | Problem]
    total: int | None

    def __iter__(self) -> Iterator[ImagePair | Problem]:
        return self.items
