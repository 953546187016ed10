"""Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from vision_zero.models.family import PictureFeatures


class QwenVL:
    """Pictures at their own resolution, 3-D positions (M-RoPE); Qwen3-VL adds deepstack features."""

    model_types: tuple[str, ...] = ("qwen2_5_vl", "qwen3_vl")
    vision_parts: tuple[str, ...] = ("visual",)
    vision_tokens: tuple[str, ...] = (
        "<|image_pad|>",
        "<|video_pad|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|vision_pad|>",
    )
    position_axes = 3
    shape_names: tuple[str, ...] = ("image_grid_thw",)
    picture_axis = 0

    def picture_tokens(self, image_processor: Any, config: Any, height: int, width: int) -> int:
        """One for each square of `merge_size` x `merge_size` patches of the picture, scaled to its limits."""
        patches: int = image_processor.get_number_of_image_patches(height, width)
        return patches // int(image_processor.merge_size) ** 2

    def patches_per_token(self, config: Any) -> int:
        """The squares that are merged."""
        return int(config.vision_config.spatial_merge_size) ** 2

    def limit_pixels(self, processor: Any, max_pixels: int) -> None:
        """The processor's `size` holds areas, whatever its keys are called."""
        size = processor.image_processor.size
        low, high = size["shortest_edge"], size["longest_edge"]
        limit = min(high, max_pixels)
        processor.image_processor.size = type(size)(shortest_edge=min(low, limit), longest_edge=limit)

    def features(self, backbone: Any, pictures: Sequence[Mapping[str, Tensor]]) -> list[PictureFeatures]:
        """One pass over the concatenated patches; windows and attention never cross pictures."""
        out = backbone.get_image_features(
            torch.cat([p["pixel_values"] for p in pictures]),
            torch.cat([p["image_grid_thw"] for p in pictures]),
            return_dict=True,
        )
        layers = getattr(out, "deepstack_features", None) or []
        return [
            PictureFeatures(tokens, tuple(layer[i] for layer in layers)) for i, tokens in enumerate(out.pooler_output)
        ]

    def encoder_output(self, features: Sequence[PictureFeatures]) -> Any:
        """`pooler_output` is a list over pictures, `deepstack_features` a list over layers of lists over pictures."""
        tokens: Any = [f.tokens for f in features]
        if not features[0].deep:
            return BaseModelOutputWithPooling(pooler_output=tokens)
        layers: Any = [[f.deep[i] for f in features] for i in range(len(features[0].deep))]
        return BaseModelOutputWithDeepstackFeatures(pooler_output=tokens, deepstack_features=layers)

    def positions(self, backbone: Any, ids: Tensor, picture: Tensor, shapes: Mapping[str, Tensor]) -> Tensor:
        """Without `mm_token_type_ids` Qwen2.5-VL would silently fall back to 1-D positions."""
        positions: Tensor = backbone.get_rope_index(
            ids[None], mm_token_type_ids=picture[None], image_grid_thw=shapes.get("image_grid_thw")
        )[0]
        return positions[:, 0]
