"""One process of a two-process update: `torchrun --nproc_per_node 2 worker.py MODEL OUT LAYOUT...`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from tests.update.made_samples import as_sampled, games
from vision_zero.config import ModelConfig, RunConfig
from vision_zero.models.base import VLM, load
from vision_zero.runs.states import read_state, write_state
from vision_zero.update.updater import Updater

UPDATE = {"learning_rate": 1e-4, "warmup": 0, "tokens_per_batch": 300, "kl": 0.1}
SHARES = ((0, 3), (3, 1))
"""First game and number of games of each process in the first step; in the second step the last has none."""
KINDS: dict[str, dict[str, Any]] = {
    "rounded": {"dtype": "bfloat16", "gradient_checkpointing": True, "train": "language"},
    "lora": {"lora": {"rank": 4, "where": "language+vision"}, "gradient_checkpointing": True},
}
"""Models that take one step, beside the one that trains all its float32 weights."""


class Worker:
    def __init__(self, model: Path, out: Path, layout: str, accelerator: Accelerator) -> None:
        self.model, self.out, self.layout, self.accelerator = str(model), out, layout, accelerator
        self.rank = accelerator.process_index

    def begin(self, **kind: Any) -> tuple[VLM, Updater]:
        vlm = load(ModelConfig.model_validate({"path": self.model} | kind), device="cpu")
        settings = {"model": vlm.config.model_dump(), "update": UPDATE, "devices": {"shard": self.layout}}
        reference = vlm.reference()
        if self.rank == 1:
            with torch.no_grad():  # as if this process had drawn another adapter: the first one's weights must win
                for _, p in vlm.trainable():
                    p.add_(0.01)
        config = RunConfig.model_validate(settings)
        return vlm, Updater(vlm, reference, config, self.accelerator, total_steps=10)

    def step(self, vlm: VLM, updater: Updater, idle: int | None = None, broken: int | None = None) -> dict[str, float]:
        """One step; the process `idle` has no samples for it, `broken` has one whose loss is not a number."""
        first, count = SHARES[self.rank]
        _, pictures = games(vlm, 4)  # all processes know the pictures of all games
        samples, _ = games(vlm, 0 if self.rank == idle else count, first)
        samples = as_sampled(updater, samples, pictures)
        if self.rank == broken:
            samples[0] = replace(samples[0], advantage=float("nan"))
        metrics = updater.step(updater.prepare(samples, pictures), pictures)
        return {k: v for k, v in metrics.items() if not k.startswith("seconds")}

    def write(self, name: str, vlm: VLM, metrics: dict[str, float]) -> None:
        weights = {n: p.detach().clone().contiguous() for n, p in vlm.trainable()}
        save_file(weights, self.out / f"{name}-{self.rank}.safetensors")
        (self.out / f"{name}-{self.rank}.txt").write_text(repr(metrics))

    def run(self) -> None:
        vlm, updater = self.begin()
        self.write("first", vlm, self.step(vlm, updater))
        state = updater.state_dict()
        if self.rank == 0:
            vlm.save(self.out / "model")
            write_state(self.out, "updater", state)
        self.accelerator.wait_for_everyone()
        self.write("second", vlm, self.step(vlm, updater, idle=1))
        vlm, updater = self.begin()
        vlm.restore(self.out / "model")
        updater.load_state_dict(read_state(self.out, "updater"))
        self.write("skipped", vlm, self.step(vlm, updater, broken=1))
        updater.steps -= 1  # the skipped one has taken its turn in the schedule
        self.write("resumed", vlm, self.step(vlm, updater, idle=1))
        for name, kind in KINDS.items():
            vlm, updater = self.begin(**kind)
            self.write(name, vlm, self.step(vlm, updater))


if __name__ == "__main__":
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    for layout in sys.argv[3:]:
        folder = Path(sys.argv[2]) / layout
        folder.mkdir(exist_ok=True)
        Worker(Path(sys.argv[1]), folder, layout, accelerator).run()
    accelerator.end_training()
