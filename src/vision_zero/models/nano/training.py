"""One training loop for all stages: several processes, one thread each, and a partial file to go on from."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

_SAVE_SECONDS = 60.0
_FLOOR = 0.02
"""The last learning rate as a share of the highest."""


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train: one warm-up, one cosine. `batch` counts pictures a step over all workers."""

    steps: int
    batch: int
    learning_rate: float
    warmup: int = 40

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        falling = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warmup) * (_FLOOR + (1 - _FLOOR) * falling)


class Stage(Protocol):
    """Something to minimise."""

    @property
    def modules(self) -> Sequence[nn.Module]:
        """What is trained, and what a partial file keeps."""
        ...

    def loss(self, step: int, share: slice) -> tuple[Tensor, dict[str, float]]:
        """Loss on this worker's share of the batch of a step, and figures to show."""
        ...


def half_precision() -> AbstractContextManager[Any]:
    """Matrix products in bfloat16 where the processor has instructions for it, float32 elsewhere."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16())


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 fast."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def train(stage: Stage, schedule: Schedule, partial_file: Path, say: Callable[[str], None]) -> None:
    """Train the stage's modules in place, going on from `partial_file` if there is one.

    Every process of the default group calls this; gradients are averaged over them. Equal results for
    equal batches, number of processes and machine, interrupted or not.
    """
    rank, workers = dist.get_rank(), dist.get_world_size()
    if schedule.batch % workers:
        raise ValueError(f"a batch of {schedule.batch} cannot be shared evenly by {workers} workers")
    share = slice(rank, schedule.batch, workers)
    parameters = [p for m in stage.modules for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    first = _restore(stage, optimizer, partial_file)
    saved = time.monotonic()
    for step in range(first, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate(step)
        optimizer.zero_grad()
        loss, figures = stage.loss(step, share)
        loss.backward()  # type: ignore[no-untyped-call]
        _average([p.grad for p in parameters if p.grad is not None], workers)
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if rank == 0 and (step % 50 == 49 or step + 1 == schedule.steps):
            shown = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
            say(f"{step + 1}/{schedule.steps} loss {loss.item():.3f} {shown}")
        if rank == 0 and time.monotonic() - saved > _SAVE_SECONDS:
            _save(stage, optimizer, step + 1, partial_file)
            saved = time.monotonic()


def _average(gradients: Sequence[Tensor], workers: int) -> None:
    if workers == 1:
        return
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= workers
    for gradient, part in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _save(stage: Stage, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    state = {"step": step, "modules": [m.state_dict() for m in stage.modules], "optimizer": optimizer.state_dict()}
    save_atomically(state, path)


def _restore(stage: Stage, optimizer: torch.optim.Optimizer, path: Path) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    for module, weights in zip(stage.modules, state["modules"], strict=True):
        module.load_state_dict(weights)
    optimizer.load_state_dict(state["optimizer"])
    step: int = state["step"]
    return step


def save_atomically(state: Any, path: Path) -> None:
    """Write a file that is either whole or not there."""
    unfinished = path.with_suffix(".writing")
    torch.save(state, unfinished)
    os.replace(unfinished, path)
