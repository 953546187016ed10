"""InternVL in its native Transformers form (hub names ending in `-hf`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vision_zero.errors import UserError
from vision_zero.models.family import PictureFeatures


class InternVL:
    """Pictures cut into square tiles of a fixed size, ordinary 1-D positions."""

    model_types: tuple[str, ...] = ("internvl",)
    vision_parts: tuple[str, ...] = ("vision_tower", "multi_modal_projector")
    vision_tokens: tuple[str, ...] = ("<IMG_CONTEXT>", "<img>", "</img>", "<video>")
    position_axes = 1
    shape_names: tuple[str, ...] = ()
    picture_axis = 0

    def picture_tokens(self, image_processor: Any, config: Any, height: int, width: int) -> int:
        """A fixed number for each tile. The processor cuts whatever its image processor is set to."""
        tiles: int = image_processor.get_number_of_image_patches(height, width, {"crop_to_patches": True})
        return tiles * int(config.image_seq_length)

    def patches_per_token(self, config: Any) -> int:
        """Pixel shuffle folds squares of patches."""
        return round(1 / float(config.downsample_ratio)) ** 2

    def limit_pixels(self, processor: Any, max_pixels: int) -> None:
        """Fewer tiles; a tile's own size is part of the model. With several tiles comes one more, a thumbnail."""
        image_processor = processor.image_processor
        tile = image_processor.size["height"] * image_processor.size["width"]
        if max_pixels < tile:
            raise UserError(
                f"model.max_pixels={max_pixels} is less than one tile of this InternVL model: set it to {tile} or more"
            )
        tiles = max_pixels // tile
        thumbnail = 1 if tiles > 1 else 0
        image_processor.max_patches = min(image_processor.max_patches, max(1, tiles - thumbnail))
        image_processor.min_patches = min(image_processor.min_patches, image_processor.max_patches)

    def features(self, backbone: Any, pictures: Sequence[Mapping[str, Tensor]]) -> list[PictureFeatures]:
        """One pass over all tiles (N, tokens of a tile, H), then joined again picture by picture."""
        tiles = [p["pixel_values"] for p in pictures]
        out = backbone.get_image_features(pixel_values=torch.cat(tiles), return_dict=True).pooler_output
        return [PictureFeatures(t.flatten(0, 1)) for t in out.split([len(p) for p in tiles])]

    def encoder_output(self, features: Sequence[PictureFeatures]) -> Any:
        """The backbone reads them flat; it only wants three axes."""
        return BaseModelOutputWithPooling(pooler_output=torch.cat([f.tokens for f in features])[None])

    def positions(self, backbone: Any, ids: Tensor, picture: Tensor, shapes: Mapping[str, Tensor]) -> Tensor:
        """0, 1, 2, ..."""
        return torch.arange(len(ids), device=ids.device)[None]
