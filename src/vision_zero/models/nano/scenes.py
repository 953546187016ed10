"""The pictures that the tiny model learns from, with what a teacher knows of them."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from vision_zero.lifeline import end_with_parent
from vision_zero.models.nano.architecture import CELLS, GRID, HEIGHT, MERGE, PATCH, WIDTH
from vision_zero.pairs.base import Split
from vision_zero.pairs.clevr.language import ATTRIBUTES
from vision_zero.pairs.clevr.raycast import object_ids, render
from vision_zero.pairs.clevr.scenes import SceneRules, make_pair
from vision_zero.seeds import derive_seed
from vision_zero.types import JSON

RULES = SceneRules(objects=(3, 6), style="nano", width=WIDTH, height=HEIGHT)
CHANGES, CHANGED = 2, ("shape", "color")
"""How the twin of a picture differs."""
_CELL = PATCH * MERGE
_LEAST_SHARE = 0.1
"""An object must cover this much of a cell to be its label."""

Object = dict[str, str]


@dataclass(frozen=True)
class Scenes:
    """N pairs as 2N pictures: picture 2i and 2i + 1 are twins.

    images: uint8 (2N, height, width, 3). objects: int8 (2N, most objects, 4), from left to right, an index
    into the words of each attribute in the order of `ATTRIBUTES`, -1 for no object. cells: int8 (2N, cells),
    the object that covers most of an image token, -1 for none. centres: bool (2N, cells), whether an
    object's centre is there.
    """

    images: NDArray[np.uint8]
    objects: NDArray[np.int8]
    cells: NDArray[np.int8]
    centres: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def described(self) -> list[list[Object]]:
        """The objects of every picture as words. Example of one: `{"size": "small", ..., "shape": "cube"}`"""
        words = list(ATTRIBUTES.items())
        return [
            [{name: values[i] for (name, values), i in zip(words, o, strict=True)} for o in scene if o[0] >= 0]
            for scene in self.objects.tolist()
        ]


def render_shards(folder: Path, seed: int, pairs: int, shard: int, workers: int) -> None:
    """Write the files that `folder` lacks of the first `pairs` training pairs, `shard` pairs in each.

    A file depends on the seed and its number only, not on who wrote it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(-(-pairs // shard)) if not _shard(folder, i).exists()]
    if not missing:
        return
    # spawned, not forked: the caller may have threads (torch), which a fork would cut off
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        list(pool.map(partial(_render_shard, folder, seed, shard), missing))


def read_shards(folder: Path, pairs: int, shard: int) -> Scenes:
    """The first `pairs` pairs, from files that `render_shards` wrote."""
    shards = [np.load(_shard(folder, i)) for i in range(-(-pairs // shard))]
    return Scenes(**{k: np.concatenate([s[k] for s in shards])[: 2 * pairs] for k in Scenes.__dataclass_fields__})


def make_scenes(seed: int, split: Split, first: int, count: int) -> Scenes:
    """Pairs `first` to `first + count - 1` of a split."""
    made = [_facts(scene) for i in range(first, first + count) for scene in _pair(seed, split, i)]
    images, objects, cells, centres = (np.stack(a) for a in zip(*made, strict=True))
    return Scenes(images, objects, cells, centres)


def _shard(folder: Path, index: int) -> Path:
    return folder / f"train-{index:04d}.npz"


def _render_shard(folder: Path, seed: int, size: int, index: int) -> None:
    scenes = make_scenes(seed, "train", index * size, size)
    path = _shard(folder, index)
    unfinished = path.with_suffix(".writing")
    with unfinished.open("wb") as file:
        np.savez(file, **{k: getattr(scenes, k) for k in Scenes.__dataclass_fields__})
    os.replace(unfinished, path)


def _pair(seed: int, split: Split, index: int) -> tuple[JSON, JSON]:
    scene, twin, _ = make_pair(Random(derive_seed(seed, "nano", split, index)), RULES, CHANGES, CHANGED)
    return scene, twin


def _facts(scene: JSON) -> tuple[NDArray[np.uint8], NDArray[np.int8], NDArray[np.int8], NDArray[np.bool_]]:
    order = sorted(range(len(scene["objects"])), key=lambda i: scene["objects"][i]["pixel_coords"][0])
    objects = np.full((RULES.objects[1], len(ATTRIBUTES)), -1, np.int8)
    centres = np.zeros(GRID, bool)
    rank = np.full(len(order) + 1, -1, np.int8)
    for place, i in enumerate(order):
        obj = scene["objects"][i]
        objects[place] = [values.index(obj[name]) for name, values in ATTRIBUTES.items()]
        x, y = obj["pixel_coords"][:2]
        centres[min(y // _CELL, GRID[0] - 1), min(x // _CELL, GRID[1] - 1)] = True
        rank[i] = place
    ids = rank[object_ids(scene, WIDTH, HEIGHT)]  # the ground, -1, takes the last entry: -1
    covered = ids.reshape(GRID[0], _CELL, GRID[1], _CELL).transpose(0, 2, 1, 3).reshape(CELLS, -1)
    shares = (covered[:, :, None] == np.arange(len(order))).mean(1)
    cells = np.where(shares.max(1) >= _LEAST_SHARE, shares.argmax(1), -1).astype(np.int8)
    return render(scene, WIDTH, HEIGHT), objects, cells, centres.reshape(-1)
