"""Steps of a tiny run, begun here or taken up from a checkpoint: `python resumed.py MODEL CHECKPOINTS OUT`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from tests.update.made_samples import as_sampled, games
from vision_zero.config import ModelConfig, RunConfig
from vision_zero.models.base import VLM, load
from vision_zero.runs import checkpoint
from vision_zero.update.updater import Updater

KINDS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"lora": {"rank": 4, "dropout": 0.1}},
    "bfloat16": {"dtype": "bfloat16"},
}


def begin(model: Path, kind: str) -> tuple[VLM, Updater]:
    """A model and its updater as at the start of the run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    vlm = load(ModelConfig.model_validate({"path": str(model)} | KINDS[kind]), device="cpu")
    update = {"learning_rate": 1e-3, "warmup": 3, "kl": 0.1, "minibatches": 2}
    config = RunConfig.model_validate({"model": vlm.config.model_dump(), "update": update})
    return vlm, Updater(vlm, vlm.reference(), config, Accelerator(cpu=True), total_steps=10)


def step(vlm: VLM, updater: Updater) -> None:
    """One step, on samples that depend on its number only."""
    samples, pictures = games(vlm, 1, first=updater.steps)
    samples = as_sampled(updater, samples, pictures)
    updater.step(updater.prepare(samples, pictures), pictures)


def weights(vlm: VLM) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in vlm.model.named_parameters()}


def main(model: Path, checkpoints: Path, out: Path) -> None:
    for kind in KINDS:
        vlm, updater = begin(model, kind)
        found = checkpoint.latest(checkpoints / kind)
        assert found is not None
        assert found.step == 1
        checkpoint.load(found, vlm, {"updater": updater})
        step(vlm, updater)
        save_file(weights(vlm), out / f"{kind}.safetensors")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
