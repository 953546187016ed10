"""Pictures through a model's own image processor."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vision_zero.errors import UserError
from vision_zero.models.lru import ByteLru
from vision_zero.types import Picture

PIXEL_CACHE_BYTES = 1 << 30
"""As much as Qwen2.5-VL makes of 140 photos of 640x480: a step's pictures are to be read once."""


@dataclass(frozen=True)
class Reading:
    """What a model's processor makes of one picture.

    `expansion`: the ids in place of the picture. `pixels`: the image processor's output, on the CPU.
    """

    expansion: tuple[int, ...]
    pixels: Mapping[str, Tensor]

    def __reduce__(self) -> tuple[Any, ...]:
        # As arrays: tensors would travel between processes through shared memory, of which containers have little.
        return _unpack, (self.expansion, {name: tensor.numpy() for name, tensor in self.pixels.items()})


def _unpack(expansion: tuple[int, ...], arrays: Mapping[str, np.ndarray]) -> Reading:
    return Reading(expansion, {name: torch.from_numpy(array) for name, array in arrays.items()})


class Preprocessor:
    """A model's own processor, for pictures. It can be sent to other processes.

    A picture is always processed alone, so that what the model sees of it cannot depend on its neighbours.
    """

    def __init__(self, processor: Any, image_token_id: int) -> None:
        self._processor = processor
        self._image_token = processor.tokenizer.convert_ids_to_tokens(image_token_id)
        self._names = set(processor.image_processor.model_input_names)

    def __call__(self, picture: Picture) -> Reading:
        """Raises `UserError` for what is not a picture."""
        try:
            image = Image.open(io.BytesIO(picture.data)).convert("RGB")
        except (OSError, ValueError) as e:
            raise UserError(f"picture {picture.sha[:12]} is not an image file that can be read: {e}") from e
        out = self._processor(
            text=[self._image_token], images=[image], return_tensors="pt", text_kwargs={"add_special_tokens": False}
        )
        expansion = tuple(out["input_ids"][0].tolist())
        return Reading(expansion, {name: tensor for name, tensor in out.items() if name in self._names})


class PictureReader:
    """Reads pictures for one model, each once."""

    def __init__(self, processor: Any, image_token_id: int, shape_names: Sequence[str] = ()) -> None:
        """`shape_names`: what `shapes` gives, of what the image processor says beside pixels."""
        self.preprocess = Preprocessor(processor, image_token_id)
        self._image_token_id, self._shape_names = image_token_id, tuple(shape_names)
        self._pixels: ByteLru[Mapping[str, Tensor]] = ByteLru(
            PIXEL_CACHE_BYTES, lambda p: sum(t.numel() * t.element_size() for t in p.values())
        )
        # Two facts of a few bytes a picture, kept for good: pictures of one shape share one expansion.
        self._expansions: dict[str, tuple[int, ...]] = {}
        self._interned: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._shapes: dict[str, dict[str, Tensor]] = {}
        self._failed: dict[str, Exception] = {}

    def pixels(self, picture: Picture) -> Mapping[str, Tensor]:
        """The image processor's output for one picture, on the CPU. The family's `picture_axis`: patches or tiles."""
        return self._pixels.get(picture.sha, lambda: self._note(picture, self._read(picture)))

    def keep(self, picture: Picture, reading: Reading | Exception) -> None:
        """Take what `preprocess` made of a picture in another process, or what it raised, and do not try it again."""
        if isinstance(reading, Exception):
            self._failed[picture.sha] = reading
        else:
            self._pixels.get(picture.sha, lambda: self._note(picture, reading))

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

    def _read(self, picture: Picture) -> Reading:
        if picture.sha in self._failed:
            raise self._failed[picture.sha]
        return self.preprocess(picture)

    def _note(self, picture: Picture, reading: Reading) -> Mapping[str, Tensor]:
        self._expansions[picture.sha] = self._interned.setdefault(reading.expansion, reading.expansion)
        # Copied to where torch puts tensors, whoever made them: products of what begins elsewhere may round otherwise.
        pixels = {name: tensor.clone() for name, tensor in reading.pixels.items()}
        self._shapes[picture.sha] = {name: pixels[name] for name in self._shape_names}
        return pixels


def concatenate(parts: Sequence[Mapping[str, Tensor]], axis: int = 0) -> dict[str, Tensor]:
    """Join image processor outputs along an axis, order kept. Empty for no pictures."""
    return {k: torch.cat([p[k] for p in parts], dim=axis) for k in parts[0]} if parts else {}
