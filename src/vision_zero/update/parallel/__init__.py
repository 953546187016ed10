"""How weights, gradients and moments lie on several devices. Nothing outside this folder knows."""

from __future__ import annotations

from vision_zero.config import RunConfig
from vision_zero.distributed import Processes
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.update.parallel.base import Parallel
from vision_zero.update.parallel.fsdp import Fsdp
from vision_zero.update.parallel.replicated import Replicated
from vision_zero.update.parallel.zero import Zero
from vision_zero.update.scorer import Scorer

__all__ = ["Parallel", "make_parallel"]


def make_parallel(vlm: VLM, scorer: Scorer, config: RunConfig, accelerator: Processes) -> Parallel:
    """The layout that `devices.shard` names. Raises `UserError` where it would have no effect."""
    shard = config.devices.shard
    if shard == "none":
        return Replicated(vlm, scorer, config, accelerator)
    if accelerator.num_processes == 1:
        raise UserError(
            f"devices.shard={shard} with a single process shards nothing: start several (--devices N), or set "
            "devices.shard=none"
        )
    if shard == "fsdp":
        return Fsdp(vlm, config, accelerator)
    return Zero(vlm, scorer, config, accelerator, stage=2 if shard == "zero2" else 3)
