"""Where pictures come from: `open_pairs` gives a `PairSource` for what a configuration asks for."""

from __future__ import annotations

from vision_zero.config import PairsConfig
from vision_zero.errors import UserError
from vision_zero.pairs.base import PairSource, Split
from vision_zero.pairs.clevr.source import ClevrSource
from vision_zero.pairs.folder import FolderSource

__all__ = ["PairSource", "Split", "is_repeatable", "open_pairs"]


def is_repeatable(config: PairsConfig) -> bool:
    """Whether pairs have the same bytes whenever they are made. What Blender draws differs in a last bit or two."""
    return config.kind != "clevr" or config.renderer != "blender"


def open_pairs(config: PairsConfig, seed: int, split: Split, as_files: bool = False) -> PairSource:
    """The set of pairs that is configured; train and held-out sets share no pair.

    `seed` matters to sets that are made, not to those that are read. Raises `UserError` for settings
    that contradict each other and for folders that hold no pairs.

    Sets that are not repeatable are refused, unless they are to be written `as_files`: a run could not be resumed.
    """
    if not as_files and not is_repeatable(config):
        raise UserError(
            "Blender's pictures are not twice the same to the last bit, so that no run could be resumed on them: make "
            "files with `vision-zero pairs make clevr --renderer blender --out DIR`, then set pairs.kind=folder and "
            "pairs.path=DIR/output/replacement_images"
        )
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
