"""Pictures through a model's own image processor."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vision_zero.errors import UserError
from vision_zero.models.lru import ByteLru
from vision_zero.types import Picture

PIXEL_CACHE_BYTES = 256 << 20


class PictureReader:
    """Reads pictures for one model, each once.

    A picture is always processed alone, so that what the model sees of it cannot depend on its neighbours.
    """

    def __init__(self, processor: Any, image_token_id: int, shape_names: Sequence[str] = ()) -> None:
        """`shape_names`: what `shapes` gives, of what the image processor says beside pixels."""
        self._processor, self._image_token_id = processor, image_token_id
        self._shape_names = tuple(shape_names)
        self._image_token = processor.tokenizer.convert_ids_to_tokens(image_token_id)
        self._names = set(processor.image_processor.model_input_names)
        self._pixels: ByteLru[dict[str, Tensor]] = ByteLru(
            PIXEL_CACHE_BYTES, lambda p: sum(t.numel() * t.element_size() for t in p.values())
        )
        # Two facts of a few bytes a picture, kept for good: pictures of one shape share one expansion.
        self._expansions: dict[str, tuple[int, ...]] = {}
        self._interned: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._shapes: dict[str, dict[str, Tensor]] = {}

    def pixels(self, picture: Picture) -> dict[str, Tensor]:
        """The image processor's output for one picture, on the CPU. The family's `picture_axis`: patches or tiles."""
        return self._pixels.get(picture.sha, lambda: self._read(picture))

    def expansion(self, picture: Picture) -> tuple[int, ...]:
        """The ids that the model's processor puts in place of the picture: placeholders and what encloses them."""
        if picture.sha not in self._expansions:
            self.pixels(picture)
        return self._expansions[picture.sha]

    def placeholders(self, picture: Picture) -> int:
        """How many placeholder tokens the picture takes."""
        return self.expansion(picture).count(self._image_token_id)

    def shapes(self, hashes: Sequence[str]) -> Mapping[str, Tensor]:
        """What the image processor said beside pixels (such as `image_grid_thw`), concatenated over pictures."""
        for sha in hashes:
            if sha not in self._shapes:
                raise KeyError(f"picture {sha} has not been read by this model: encode its prompt or its pixels first")
        return concatenate([self._shapes[sha] for sha in hashes])

    def _read(self, picture: Picture) -> dict[str, Tensor]:
        try:
            image = Image.open(io.BytesIO(picture.data)).convert("RGB")
        except (OSError, ValueError) as e:
            raise UserError(f"picture {picture.sha[:12]} is not an image file that can be read: {e}") from e
        out = self._processor(
            text=[self._image_token], images=[image], return_tensors="pt", text_kwargs={"add_special_tokens": False}
        )
        expansion = tuple(out["input_ids"][0].tolist())
        self._expansions[picture.sha] = self._interned.setdefault(expansion, expansion)
        pixels = {k: v for k, v in out.items() if k in self._names}
        self._shapes[picture.sha] = {k: pixels[k] for k in self._shape_names}
        return pixels


def concatenate(parts: Sequence[Mapping[str, Tensor]], axis: int = 0) -> dict[str, Tensor]:
    """Join image processor outputs along an axis, order kept. Empty for no pictures."""
    return {k: torch.cat([p[k] for p in parts], dim=axis) for k in parts[0]} if parts else {}
