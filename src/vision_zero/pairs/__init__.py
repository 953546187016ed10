"""Where pictures come from: `open_pairs` gives a `PairSource` for what a configuration asks for."""

from __future__ import annotations

from vision_zero.config import PairsConfig
from vision_zero.pairs.base import PairSource, Split
from vision_zero.pairs.clevr.source import ClevrSource
from vision_zero.pairs.folder import FolderSource

__all__ = ["PairSource", "Split", "open_pairs"]


def open_pairs(config: PairsConfig, seed: int, split: Split) -> PairSource:
    """The set of pairs that is configured; train and held-out sets share no pair.

    `seed` matters to sets that are made, not to those that are read. Raises `UserError` for settings
    that contradict each other and for folders that hold no pairs.
    """
    if config.kind == "clevr":
        return ClevrSource(config, seed, split)
    if config.kind == "charts":
        # matplotlib takes a moment to load; only charts need it
        from vision_zero.pairs.charts.source import ChartsSource

        return ChartsSource(config, seed, split)
    if config.kind == "photos":
        # so does scipy, which only photos need
        from vision_zero.pairs.photos.source import PhotosSource

        return PhotosSource(config, seed, split)
    return FolderSource(config.path, split, config.skip_bad)
