"""What several processes share. Games are split over ranks; ranks meet only between phases of a step."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs

from vision_zero.errors import UserError

T = TypeVar("T")


def make_accelerator(cpu: bool, max_wait: timedelta = timedelta(hours=1)) -> Accelerator:
    """The process group and devices. Ranks wait for each other at most `max_wait`.

    Raises `UserError` if this machine has fewer GPUs than processes, or if fewer processes met than were started.
    """
    here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if not cpu and here > gpus:
        raise UserError(f"{here} processes were started on a machine with {gpus} GPUs: --devices {gpus}")
    made = Accelerator(cpu=cpu, kwargs_handlers=[InitProcessGroupKwargs(timeout=max_wait)])
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if made.num_processes != started:
        raise UserError(f"{started} processes were started, but {made.num_processes} met: start them with torchrun")
    return made


class Alone:
    """Stands in for an `Accelerator` where every process does all of the work, as if there were no other."""

    num_processes, process_index = 1, 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def reduce(self, tensor: torch.Tensor, reduction: str = "sum") -> torch.Tensor:
        """What a single process has is the sum."""
        return tensor


Processes = Accelerator | Alone
"""Who shares an update."""


def rank() -> int:
    """Index of this process, 0 when it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def tell_all(value: T) -> list[T]:
    """What every rank told, in the order of ranks; the same on each. To be called by all of them."""
    if world() == 1:
        return [value]
    told: list[T] = [value] * world()
    dist.all_gather_object(told, value)
    return told


def shard(items: Sequence[T]) -> list[T]:
    """This rank's part: every world-th item, so that parts differ by at most one item."""
    return list(items[rank() :: world()])


def gather(parts: Sequence[T]) -> list[T]:
    """Undo `shard` on every rank: all items in their first order."""
    everyone = tell_all(list(parts))
    out: list[T] = []
    for i in range(max(len(p) for p in everyone)):
        out += [p[i] for p in everyone if i < len(p)]
    return out
