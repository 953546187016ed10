"""Weights, gradients and moments in pieces over all processes, by torch's `fully_shard` (FSDP2).

Torch's own and not accelerate's, which on the CPU silently does something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vision_zero.config import RunConfig
from vision_zero.models.base import VLM
from vision_zero.update.optimizer import MasterAdamW, whole
from vision_zero.update.parallel.twin import Whole, twin
from vision_zero.update.scorer import Scorer


class Fsdp:
    """The layout `fsdp`: each decoder layer is brought together when it is needed, everything else for a whole pass.

    Pieces are float32; what is brought together has the model's dtype, and gradients are summed in float32 after
    every backward.
    """

    even = True

    def __init__(self, vlm: VLM, config: RunConfig, accelerator: Accelerator) -> None:
        self._max_norm = config.update.max_gradient_norm
        self._main = accelerator.is_main_process
        trained = twin(vlm)
        self._whole = Whole(vlm, [name for name, _ in trained.model.named_parameters()])
        for _, weight in self._whole:
            weight.copy_(broadcast(weight))  # every process trains what the first one has
        scorer = Scorer(trained, config.rollouts.temperature)
        self._shard(scorer, trained, config, accelerator)
        self.scorer: nn.Module = scorer
        self._pieces: dict[str, nn.Parameter] = dict(trained.model.named_parameters())
        self._optimizer = MasterAdamW(dict(trained.trainable()), config.update)
        self._rounded = {name for name, weight in self._whole if weight.dtype != torch.float32}
        self._take_whole()

    @contextmanager
    def training(self) -> Iterator[None]:
        """The whole model gives its memory to training, and comes back with the new weights."""
        self._whole.free()
        yield
        self._give_whole()

    def clear(self) -> None:
        """Forget all gradients."""
        self._optimizer.clear()

    def backward(self, loss: torch.Tensor, last: bool) -> None:
        """Gradients are summed over processes and cut into pieces in passing."""
        loss.backward()

    def synchronise(self) -> None:
        """Every backward has."""

    def finite(self) -> bool:
        """Of all pieces on all processes."""
        return self._optimizer.finite()

    def step(self, rate: float) -> torch.Tensor:
        """Every process steps its pieces."""
        norm = self._optimizer.clip(self._max_norm)
        self._optimizer.step(rate)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """What `Replicated` would have saved; put together one by one, and kept by the first process."""
        state = self._optimizer.state_dict()
        adam = state["adam"]
        moments = {i: {k: self._gathered(v) for k, v in m.items()} for i, m in adam["state"].items()}
        masters = {n: self._gathered(self._pieces[n].detach()) for n in state["names"] if n in self._rounded}
        return {**state, "adam": {**adam, "state": moments}, "masters": masters}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Every process takes its pieces."""
        self._take_whole()
        names, adam = list(state["names"]), state["adam"]
        moments = {
            i: {k: self._piece(v, self._pieces[names[i]]) if v.dim() else v for k, v in m.items()}
            for i, m in adam["state"].items()
        }
        masters = {n: self._piece(v, self._pieces[n]) for n, v in state["masters"].items()}
        self._optimizer.load_state_dict({**state, "adam": {**adam, "state": moments}, "masters": masters})

    def _shard(self, scorer: Scorer, trained: VLM, config: RunConfig, accelerator: Accelerator) -> None:
        mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
        dtype = getattr(torch, config.model.dtype)
        policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        layers = trained.backbone.get_decoder().layers
        for module in (*layers, scorer):
            fully_shard(module, mesh=mesh, mp_policy=policy)
        for module in scorer.modules():
            if isinstance(module, FSDPModule):
                # Losses are parts of one sum, and gloo knows no other way to say so.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    @torch.no_grad()
    def _take_whole(self) -> None:
        for name, weight in self._whole:
            piece = self._pieces[name]
            piece.copy_(self._piece(weight, piece))

    @torch.no_grad()
    def _give_whole(self) -> None:
        for name, weight in self._whole:
            # Rounded before it travels, as `fully_shard` does in a forward.
            self._whole.take(name, whole(self._pieces[name].detach().to(weight.dtype)))

    def _gathered(self, value: torch.Tensor) -> torch.Tensor:
        together = whole(value)
        return together.cpu() if self._main else torch.empty(0)

    @staticmethod
    def _piece(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        assert isinstance(like, DTensor)
        value = value.to(device=like.device, dtype=like.dtype)
        return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
