"""A second model that trains in pieces, beside the whole one that plays."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch

from vision_zero.models.base import VLM


class Whole:
    """The weights of the model that plays, whose memory can be lent to training.

    Leaves out a frozen vision part, which `twin` does not have either.
    """

    def __init__(self, vlm: VLM, names: Iterable[str]) -> None:
        named = dict(vlm.model.named_parameters())
        self._weights = {name: named[name] for name in names}

    def free(self) -> None:
        """Give the memory back. Until `take` has brought every weight, the model is unusable."""
        for weight in self._weights.values():
            weight.data = weight.data.new_empty(0)

    @torch.no_grad()
    def take(self, name: str, value: torch.Tensor) -> None:
        """Fill a weight with this new tensor, in its own dtype."""
        weight = self._weights[name]
        weight.data = value.to(weight.dtype)

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        return ((name, weight.detach()) for name, weight in self._weights.items())


def twin(vlm: VLM) -> VLM:
    """A copy with weights of its own, on the CPU, trainable weights in float32: they are their own masters.

    A vision part that is frozen is shared, and hidden from whatever walks over modules: its features come from a
    cache, so that some processes would run it and others not, and wait for each other forever.
    """
    other = copy.copy(vlm)
    vision = {name: getattr(vlm.backbone, name) for name in vlm.family.vision_parts} if vlm.vision_frozen else {}
    device = vlm.device
    vlm.model.to("cpu")  # two whole models need not fit a device, not even at the start
    other.model = copy.deepcopy(vlm.model, {id(part): part for part in vision.values()})
    vlm.model.to(device)
    for name, part in vision.items():
        delattr(other.backbone, name)
        other.backbone.__dict__[name] = part
    for _, parameter in other.trainable():
        parameter.data = parameter.data.float()
    return other
