"""What differs between model families. Each family is one small file that fills in this protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True)
class PictureFeatures:
    """One picture as the language model reads it.

    `tokens` (n, H) takes the place of the n placeholders' embeddings. `deep` (also (n, H) each) is added
    at the placeholders after the first decoder layers, for families that do so (Qwen3-VL's deepstack).
    """

    tokens: Tensor
    deep: tuple[Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return sum(t.numel() * t.element_size() for t in (self.tokens, *self.deep))


class Family(Protocol):
    """Everything this package knows of a family of models. `backbone` is the model without its language head."""

    model_types: tuple[str, ...]
    """Values of `config.model_type` that this family serves."""
    vision_parts: tuple[str, ...]
    """Attributes of the backbone that make up the vision tower and its projector."""
    vision_tokens: tuple[str, ...]
    """Tokens that stand for pictures or videos: never sampled. Those that a tokenizer lacks are passed over."""
    position_axes: int
    """A: 3 for M-RoPE (time, height, width), else 1."""
    shape_names: tuple[str, ...]
    """What the image processor returns beside pixels and `positions` needs, such as `image_grid_thw`."""
    picture_axis: int
    """Along which axis of the image processor's output pictures follow each other."""

    def picture_tokens(self, image_processor: Any, config: Any, height: int, width: int) -> int:
        """How many placeholders a picture of this size takes, without reading it. `config`: the model's."""
        ...

    def patches_per_token(self, config: Any) -> int:
        """How many patches of the vision tower end up in one placeholder."""
        ...

    def limit_pixels(self, processor: Any, max_pixels: int) -> None:
        """Make the image processor scale pictures down to `max_pixels`. Raises `UserError` if it cannot."""
        ...

    def features(self, backbone: Any, pictures: Sequence[Mapping[str, Tensor]]) -> list[PictureFeatures]:
        """Run the vision tower once over all pictures, each given as its own image processor output."""
        ...

    def encoder_output(self, features: Sequence[PictureFeatures]) -> Any:
        """Features in the form in which the backbone takes them in place of pixels."""
        ...

    def positions(self, backbone: Any, ids: Tensor, picture: Tensor, shapes: Mapping[str, Tensor]) -> Tensor:
        """Position ids (A, L) of `ids` (L,), by the model's own rule.

        `picture` (L,) is 1 at picture placeholders and 0 elsewhere; `shapes` holds what the image processor
        returned beside pixels, of all pictures, in order.
        """
        ...
