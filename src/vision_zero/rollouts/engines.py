"""The engines of a training run: one for the policy, one for its frozen start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vision_zero.config import RunConfig
from vision_zero.models.base import VLM
from vision_zero.rollouts.engine import PolicyEngine
from vision_zero.rollouts.hf import HfEngine

WHOLE_GAME = 1 << 30
"""A batch size that no game reaches."""


def make_engines(
    vlm: VLM, start: VLM, config: RunConfig, folder: Path, rank: int, world: int, wait: Callable[[], None]
) -> tuple[PolicyEngine, PolicyEngine]:
    """As `config.rollouts.engine` says, for process `rank` of `world`; `wait` returns when all have called it.

    vLLM holds one set of weights: it plays the frozen start too where that is the policy without its adapter, and
    else leaves it to Transformers. `folder`: for files of this run. Raises `UserError`.
    """
    rollouts = config.rollouts
    if config.reproducible:
        # Sums over batches of other sizes round differently: a game's asks go together, beside nothing else.
        return HfEngine(vlm, WHOLE_GAME), HfEngine(start, WHOLE_GAME)
    frozen = HfEngine.of(start, rollouts)
    if rollouts.engine == "hf":
        return HfEngine.of(vlm, rollouts), frozen
    place = Path(rollouts.vllm.folder) if rollouts.vllm.folder else folder
    if rollouts.engine == "vllm":
        from vision_zero.rollouts.vllm_local import VllmEngine

        local = VllmEngine(vlm, config, place / f"process-{rank}", world)
        return local, local.base() if vlm.adapted else frozen
    from vision_zero.rollouts.vllm_server import VllmServerEngine

    server = VllmServerEngine(vlm, config, place, rank == 0, wait)
    return server, server.base() if vlm.adapted else frozen
