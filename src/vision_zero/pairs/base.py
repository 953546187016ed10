"""Where pictures come from. Nothing in this room knows what a spy is."""

from __future__ import annotations

from typing import Literal, Protocol

from vision_zero.types import ImagePair

Split = Literal["train", "held_out"]


class PairSource(Protocol):
    """A fixed, indexable set of pairs. Equal fingerprints promise equal pairs, byte for byte."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever any pair of the set could have changed."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> ImagePair:
        """The pair at `index`, 0 <= index < len(self); pictures are read or made on demand."""
        ...
