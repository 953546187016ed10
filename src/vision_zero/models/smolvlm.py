"""SmolVLM, SmolVLM2 and the Idefics3 models that they descend from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vision_zero.errors import UserError
from vision_zero.models.family import PictureFeatures

MOST_SPLITS = 6
"""Rows and columns of tiles for which the vocabulary has names."""


class SmolVLM:
    """Pictures cut into square tiles with one small view of the whole, ordinary 1-D positions."""

    model_types: tuple[str, ...] = ("smolvlm", "idefics3")
    vision_parts: tuple[str, ...] = ("vision_model", "connector")
    vision_tokens: tuple[str, ...] = (
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
        *(f"<row_{r}_col_{c}>" for r, c in itertools.product(range(1, MOST_SPLITS + 1), repeat=2)),
    )
    position_axes = 1
    shape_names: tuple[str, ...] = ()
    picture_axis = 1

    def picture_tokens(self, image_processor: Any, config: Any, height: int, width: int) -> int:
        """A fixed number for each tile; a picture that is not cut is one tile."""
        tiles, _, _ = image_processor.get_number_of_image_patches(height, width)
        side = config.vision_config.image_size // config.vision_config.patch_size
        return max(1, int(tiles)) * int(side**2 // self.patches_per_token(config))

    def patches_per_token(self, config: Any) -> int:
        """Pixel shuffle folds squares of patches."""
        return int(config.scale_factor) ** 2

    def limit_pixels(self, processor: Any, max_pixels: int) -> None:
        """Fewer tiles; a tile's own size is part of the model. With several tiles comes the view of the whole."""
        image_processor = processor.image_processor
        side = int(image_processor.max_image_size["longest_edge"])
        if max_pixels < side**2:
            raise UserError(
                f"model.max_pixels={max_pixels} is less than one tile of this model: set it to {side**2} or more"
            )
        splits = 1
        while ((splits + 1) ** 2 + 1) * side**2 <= max_pixels:
            splits += 1
        size = image_processor.size
        image_processor.size = type(size)(longest_edge=min(size["longest_edge"], splits * side))

    def features(self, backbone: Any, pictures: Sequence[Mapping[str, Tensor]]) -> list[PictureFeatures]:
        """One pass over all tiles, of shape (1, tiles, 3, S, S) a picture, then split picture by picture."""
        out = backbone.get_image_features(
            torch.cat([p["pixel_values"] for p in pictures], dim=1),
            torch.cat([p["pixel_attention_mask"] for p in pictures], dim=1),
            return_dict=True,
        )
        # (tiles, n, H) before Transformers 5.20, since then a list over the batch of (tiles * n, H)
        tokens: Tensor = torch.cat(list(out.pooler_output))
        tiles = [p["pixel_values"].shape[1] for p in pictures]
        each = len(tokens) // sum(tiles)
        return [PictureFeatures(t) for t in torch.split(tokens, [n * each for n in tiles])]

    def encoder_output(self, features: Sequence[PictureFeatures]) -> Any:
        """All pictures' tokens, one after the other."""
        tokens: Any = torch.cat([f.tokens for f in features])
        return BaseModelOutputWithPooling(pooler_output=tokens)

    def positions(self, backbone: Any, ids: Tensor, picture: Tensor, shapes: Mapping[str, Tensor]) -> Tensor:
        """0, 1, 2, ..."""
        return torch.arange(len(ids), device=ids.device)[None]
