"""Every process holds everything. Gradients are summed once an optimizer step, as DDP would in its last backward."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from vision_zero.config import RunConfig
from vision_zero.distributed import Processes
from vision_zero.models.base import VLM
from vision_zero.update.optimizer import MasterAdamW
from vision_zero.update.scorer import Scorer


class Replicated:
    """The layout `none`. DDP itself would wait in every backward for processes that have no more micro-batches."""

    even = False

    def __init__(self, vlm: VLM, scorer: Scorer, config: RunConfig, accelerator: Processes) -> None:
        self.scorer: torch.nn.Module = scorer
        self._accelerator = accelerator
        self._max_norm = config.update.max_gradient_norm
        self._optimizer = MasterAdamW(dict(vlm.trainable()), config.update)
        self._optimizer.start(accelerator)

    def training(self) -> AbstractContextManager[None]:
        """Nothing changes."""
        return nullcontext()

    def clear(self) -> None:
        """Forget all gradients."""
        self._optimizer.clear()

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Add to this process's own gradients."""
        loss.backward()
        self._optimizer.accumulate()

    def synchronise(self) -> None:
        """Sum them over processes."""
        self._optimizer.synchronise(self._accelerator)

    def finite(self) -> bool:
        """Of this process's own gradients until `synchronise`, of the sums afterwards."""
        return self._optimizer.finite()

    def step(self, rate: float) -> torch.Tensor:
        """The same on every process."""
        norm = self._optimizer.clip(self._max_norm)
        self._optimizer.step(rate)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """As `MasterAdamW`."""
        return self._optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As `MasterAdamW`."""
        self._optimizer.load_state_dict(state)
