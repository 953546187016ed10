"""One process of a two-process update: `torchrun --nproc_per_node 2 worker.py MODEL OUT LAYOUT...`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from tests.update.made_samples import as_sampled, games
from vision_zero.config import ModelConfig, RunConfig
from vision_zero.models.base import load
from vision_zero.update.updater import Updater

UPDATE = {"learning_rate": 1e-4, "warmup": 0, "tokens_per_batch": 300, "kl": 0.1}
SHARES = ((0, 3), (3, 1))
"""First game and number of games of each process in the first step; in the second step the last has none."""


def main(model: Path, out: Path, layout: str, accelerator: Accelerator) -> None:
    rank = accelerator.process_index
    vlm = load(ModelConfig(path=str(model)), device="cpu")
    config = RunConfig.model_validate(
        {"model": vlm.config.model_dump(), "update": UPDATE, "devices": {"shard": layout}}
    )
    reference = vlm.reference()
    if rank == 1:
        with torch.no_grad():  # as if this process had drawn another adapter: the first one's weights must win
            for _, p in vlm.trainable():
                p.add_(0.01)
    updater = Updater(vlm, reference, config, accelerator, total_steps=10)
    first, count = SHARES[rank]
    _, pictures = games(vlm, 4)  # all processes know the pictures of all games
    samples, _ = games(vlm, count, first)
    samples = as_sampled(updater, samples, pictures)
    metrics = updater.step(updater.prepare(samples, pictures), pictures)
    save_file({n: p.detach().clone() for n, p in vlm.trainable()}, out / f"first-{rank}.safetensors")
    samples = as_sampled(updater, samples, pictures) if rank == 0 else []
    again = updater.step(updater.prepare(samples, pictures), pictures)
    save_file({n: p.detach().clone() for n, p in vlm.trainable()}, out / f"second-{rank}.safetensors")
    figures = {k: v for m in (metrics, again) for k, v in m.items() if not k.startswith("seconds")}
    (out / f"metrics-{rank}.txt").write_text(repr(figures | {"first loss": metrics["loss"]}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    for layout in sys.argv[3:]:
        folder = Path(sys.argv[2]) / layout
        folder.mkdir(exist_ok=True)
        main(Path(sys.argv[1]), folder, layout, accelerator)
    accelerator.end_training()
