"""AdamW on float32 master weights, and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import broadcast
from torch.distributed.tensor import DTensor

from vision_zero.config import UpdateConfig
from vision_zero.distributed import Processes
from vision_zero.errors import UserError

REDUCE_ELEMENTS = 2**26
"""Gradients are summed over processes in pieces of at most this many elements (256 MiB)."""


def learning_rate(step: int, total_steps: int, config: UpdateConfig) -> float:
    """Rate of training step `step`, counted from 0.

    Linear warm-up that reaches `config.learning_rate` at its last step and is never 0, then constant, or a
    cosine that would reach 0 one step after the last.
    """
    warmup = max(1.0, config.warmup if config.warmup >= 1 else config.warmup * total_steps)
    done = step + 1
    if done < warmup:
        return config.learning_rate * done / warmup
    if config.schedule == "constant":
        return config.learning_rate
    share = min(1.0, (done - warmup) / max(total_steps - warmup + 1, 1))
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


class MasterAdamW:
    """AdamW whose steps are not lost to rounding.

    At a rate of 1e-6 to 1e-5 an update of a bfloat16 weight is mostly smaller than its rounding step, so
    weights that are not float32 get a float32 master: gradients are accumulated there, the step is taken
    there, and the rounded result is copied back. A float32 weight is its own master. The fused kernel gives
    equal bits for equal inputs.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], config: UpdateConfig) -> None:
        if not parameters:
            raise UserError("the model has no trainable weights: set model.train or model.lora")
        self._parameters = dict(parameters)
        self._masters = {
            name: p if p.dtype == torch.float32 else torch.nn.Parameter(p.detach().float())
            for name, p in parameters.items()
        }
        self._adam = torch.optim.AdamW(
            self._masters.values(),
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def start(self, accelerator: Processes) -> None:
        """Give every process the weights of the first one."""
        if accelerator.num_processes > 1:
            for master in self._masters.values():
                master.data.copy_(broadcast(master.data))
        self._publish()

    def accumulate(self) -> None:
        """Move gradients that a backward has left on rounded weights to their masters."""
        for parameter, master in self._pairs():
            if parameter is not master and parameter.grad is not None:
                if master.grad is None:
                    master.grad = torch.zeros_like(master)
                master.grad.add_(parameter.grad)
                parameter.grad = None

    def clear(self) -> None:
        """Forget all gradients."""
        for parameter, master in self._pairs():
            parameter.grad = master.grad = None

    def synchronise(self, accelerator: Processes) -> None:
        """Sum gradients over processes. A process that had no work takes part with zeros, so nobody waits."""
        if accelerator.num_processes == 1:
            return
        piece: list[torch.Tensor] = []
        for master in self._masters.values():
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            if piece and sum(g.numel() for g in piece) + master.numel() > REDUCE_ELEMENTS:
                _sum(piece, accelerator)
                piece = []
            piece.append(master.grad)
        _sum(piece, accelerator)

    def clip(self, max_norm: float) -> torch.Tensor:
        """Scale all gradients so that their joint norm is at most `max_norm`; the norm () before that."""
        return whole(torch.nn.utils.clip_grad_norm_(self._masters.values(), max_norm))

    def finite(self) -> bool:
        """Whether all gradients are finite numbers."""
        return all(bool(whole(m.grad.isfinite().all())) for m in self._masters.values() if m.grad is not None)

    def step(self, rate: float) -> None:
        """One AdamW step at learning rate `rate`; gradients are forgotten."""
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()
        self._publish()
        self.clear()

    def state_dict(self) -> dict[str, Any]:
        """Moments and counters, and the masters of rounded weights. Float32 weights are saved with the model."""
        rounded = {n: m.detach() for n, m in self._masters.items() if m is not self._parameters[n]}
        return {"names": list(self._masters), "adam": self._adam.state_dict(), "masters": rounded}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Raises `UserError` if the state was saved for other trainable weights."""
        if "adam" not in state or list(state["names"]) != list(self._masters):
            raise UserError(
                "the optimizer was saved for other trainable weights or another layout: resume with the same "
                "model.train, model.lora and devices.shard"
            )
        self._adam.load_state_dict(dict(state["adam"]))
        for name, master in state["masters"].items():
            self._masters[name].data.copy_(master)
        self._publish()

    def _pairs(self) -> list[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
        return [(self._parameters[n], m) for n, m in self._masters.items()]

    def _publish(self) -> None:
        for parameter, master in self._pairs():
            if parameter is not master:
                parameter.data.copy_(master.data)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that lies in pieces over processes, put together on each of them; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _sum(gradients: list[torch.Tensor], accelerator: Processes) -> None:
    flat = torch.cat([g.flatten() for g in gradients])
    flat = accelerator.reduce(flat, reduction="sum")
    for g, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        g.copy_(summed.view_as(g))
