"""Weights that rest in the computer's memory and come to the device when they are used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


class Offload:
    """Takes the weights of a frozen `model` off its device, but for those of its parts that it shares with another.

    They must never change: what comes back to rest is what rested before. For CUDA they rest in pinned memory.
    """

    def __init__(self, model: nn.Module, shared: Sequence[nn.Module] = ()) -> None:
        others = {id(t) for part in shared for t in chain(part.parameters(), part.buffers())}
        mine = [t for t in chain(model.parameters(), model.buffers()) if id(t) not in others]
        self._device = next(model.parameters()).device
        self._at_rest = [(t, _host(t.data)) for t in mine]
        self._rest()

    @contextmanager
    def present(self) -> Iterator[None]:
        """Inside, the model is on its device. Does not nest."""
        for tensor, resting in self._at_rest:
            tensor.data = resting.to(self._device, non_blocking=True)
        try:
            yield
        finally:
            self._rest()

    def _rest(self) -> None:
        for tensor, resting in self._at_rest:
            tensor.data = resting


def _host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.cpu().pin_memory() if tensor.is_cuda else tensor
