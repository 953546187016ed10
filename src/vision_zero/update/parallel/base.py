"""What the updater asks of a layout."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch


class Parallel(Protocol):
    """Trainable weights with their gradients and moments, on all processes.

    Between steps every process holds the whole model, in the dtype in which it is played and trained: playing,
    scoring and saving know nothing of layouts and wait for nobody. Only inside `training` may it be in pieces.
    """

    scorer: torch.nn.Module
    """What gradients pass through; it is called as `Scorer` is."""
    even: bool
    """Whether all processes meet inside every forward and backward, so that they must run equally many."""

    def training(self) -> AbstractContextManager[None]:
        """Inside, `scorer` trains; what `Updater` scores with may not be called. All processes enter and leave."""
        ...

    def clear(self) -> None:
        """Forget all gradients."""
        ...

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add the gradient of this process's `loss` (); `last`: of this optimizer step."""
        ...

    def synchronise(self) -> None:
        """Sum gradients over processes, those that `backward` has not summed yet."""
        ...

    def finite(self) -> bool:
        """Whether all gradients that this process can see are finite; after `synchronise` equal on all processes."""
        ...

    def step(self, rate: float) -> torch.Tensor:
        """Clip gradients to the norm in the configuration and take one step at learning rate `rate`.

        Returns the norm () before clipping, equal on all processes. Gradients are forgotten.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Whole moments and masters, whatever the layout, so that another one can go on with them.

        All processes call it; those that are not the first may get empty tensors.
        """
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken; the weights are in the model already.

        Raises `UserError` if the state was saved for other trainable weights.
        """
        ...
