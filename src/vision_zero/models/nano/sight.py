"""First stage: the vision tower learns what stands where, from a label for every image token."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration

from vision_zero.models.nano.architecture import CELLS, VOCABULARY, build_processor
from vision_zero.models.nano.scenes import Scenes
from vision_zero.models.nano.training import half_precision
from vision_zero.pairs.clevr.language import ATTRIBUTES
from vision_zero.seeds import derive_seed

_SIZES = {name: len(words) for name, words in ATTRIBUTES.items()} | {"present": 1, "centre": 1, "place": CELLS}
_WEIGHTS = {"shape": 2.0, "place": 0.2}
"""Shape is the slowest to learn; place is only a help for the language model. All others count once."""


class Sight:
    """The stage: `reader` reads each image token's attributes, presence, centre and place off its feature."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, scenes: Scenes, batch: int, seed: int) -> None:
        self.model, self.scenes, self.batch, self.seed = model, scenes, batch, seed
        self.reader = build_reader(model)
        self.modules: list[nn.Module] = [model.model.visual, self.reader]
        self._images = build_processor().image_processor

    def loss(self, step: int, share: slice) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of all that the reader reads."""
        rows = Random(derive_seed(self.seed, "sight", step)).sample(range(len(self.scenes)), self.batch)[share]
        read = self.read(rows)
        truth = cell_truth(self.scenes, rows)
        there = truth["present"].bool()
        losses = {}
        for name, scores in read.items():
            target = truth[name]
            if name in ("present", "centre"):
                losses[name] = F.binary_cross_entropy_with_logits(scores[..., 0], target)
            else:
                at = torch.ones_like(there) if name == "place" else there
                losses[name] = F.cross_entropy(scores[at], target[at])
        total = torch.stack([_WEIGHTS.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
        return total, {name: loss.item() for name, loss in losses.items()}

    def read(self, rows: list[int]) -> dict[str, Tensor]:
        """Scores (rows, cells, classes) for everything that is read."""
        features = see(self.model, self._images, self.scenes.images[rows])
        scores: Tensor = self.reader(features)
        return dict(zip(_SIZES, torch.split(scores, list(_SIZES.values()), dim=-1), strict=True))


def build_reader(model: Qwen2_5_VLForConditionalGeneration) -> nn.Linear:
    """An untrained linear reader of image tokens; zero, so that it needs no seed."""
    reader = nn.Linear(model.lm_head.in_features, sum(_SIZES.values()))
    nn.init.zeros_(reader.weight)
    nn.init.zeros_(reader.bias)
    return reader


def see(model: Qwen2_5_VLForConditionalGeneration, images: Any, pixels: NDArray[np.uint8]) -> Tensor:
    """Features (pictures, cells, hidden size) of uint8 pictures (pictures, height, width, 3)."""
    read = images(list(torch.from_numpy(pixels).permute(0, 3, 1, 2)), return_tensors="pt")
    with half_precision():
        features: Tensor = model.model.visual(read["pixel_values"], read["image_grid_thw"]).pooler_output
    return features.float().view(len(pixels), CELLS, -1)


def cell_truth(scenes: Scenes, rows: list[int]) -> dict[str, Tensor]:
    """What is to be read off every image token: one tensor (rows, cells) a name; -1 where there is no object."""
    cells = scenes.cells[rows].astype(np.int64)
    objects = np.take_along_axis(scenes.objects[rows].astype(np.int64), np.maximum(cells, 0)[:, :, None], axis=1)
    objects[cells < 0] = -1
    truth = {name: torch.from_numpy(objects[:, :, k]) for k, name in enumerate(ATTRIBUTES)}
    return truth | {
        "present": torch.from_numpy(cells >= 0).float(),
        "centre": torch.from_numpy(scenes.centres[rows]).float(),
        "place": torch.arange(CELLS).expand(len(rows), CELLS),
    }


@torch.no_grad()
def hand_over(model: Qwen2_5_VLForConditionalGeneration, reader: nn.Linear, features: Tensor) -> None:
    """Prepare the language model for the features (any shape, last axis hidden size) that it will meet.

    Scales the features to length 1, in the merger's last layer, and starts the word of every attribute
    value in the direction in which the reader found that value: what a feature means is then what a word means.
    """
    merger: Any = model.model.visual.merger
    last: nn.Linear = merger.mlp[2]
    length = features.norm(dim=-1).mean()
    last.weight.div_(length)
    last.bias.div_(length)
    embedding = model.lm_head.weight  # the input embedding too: they are tied
    embedding.mul_(0.5 / embedding.norm(dim=1).mean())
    directions = torch.split(reader.weight, list(_SIZES.values()))
    for values, rows in zip(ATTRIBUTES.values(), directions, strict=False):
        centred = rows - rows.mean(0)
        for value, row in zip(values, centred / centred.norm(dim=1, keepdim=True), strict=True):
            embedding[VOCABULARY.index(value)] = 0.5 * row
