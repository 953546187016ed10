"""One process of a run whose weights lie in pieces: `torchrun --nproc_per_node 2 devices_worker.py OUT SETTING...`.

Trains two steps, then again from the checkpoint of the first, and writes what this process knows.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from vision_zero.config import RunConfig, load_config
from vision_zero.credit.assign import LEARNER
from vision_zero.distributed import make_accelerator, rank
from vision_zero.games.base import Deal
from vision_zero.preemption import Preemption
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.runner import play
from vision_zero.runs.store import RunStore
from vision_zero.train import Trainer
from vision_zero.types import Episode, ImagePair

NANO = Path(__file__).resolve().parent.parent / "recipes" / "nano.yaml"


def main(out: Path, config: RunConfig) -> None:
    accelerator = make_accelerator(cpu=True)
    path = out / "run"
    if accelerator.is_main_process:
        RunStore.create(out, config, path)
    accelerator.wait_for_everyone()
    trainer = Trainer(config, RunStore.open(path), accelerator, Console(quiet=True))
    dealt: list[list[str]] = []
    play_step = trainer.playing.play_step

    def watched(step: int, mine: Sequence[Deal]) -> list[tuple[Episode, ImagePair]]:
        dealt.append([deal.id for deal in mine])
        return play_step(step, mine)

    trainer.playing.play_step = watched  # type: ignore[method-assign]
    trainer.restore()
    trainer.run(Preemption(), lambda phase: None)
    # Both processes play the same games now: with equal weights they say the same.
    same = deals_of_step(trainer.pairs, config.seed, 7, 2, trainer.playing.cast, range(2))
    said = [
        [turn.utterance.ids for turn in episode.turns]
        for episode in play(trainer.playing.game, same, {LEARNER: trainer.playing.policy})
    ]
    knows = {
        "dealt": dealt,
        "said": said,
        "roles": trainer.rae.state_dict(),
        "stages": trainer.stages.state_dict(),
    }
    (out / f"knows-{rank()}.json").write_text(json.dumps(knows))
    again = out / "again"
    if accelerator.is_main_process:
        shutil.copytree(path, again)
        shutil.rmtree(again / "checkpoints" / "step-000002")
    accelerator.wait_for_everyone()
    resumed = Trainer(config, RunStore.open(again), accelerator, Console(quiet=True))
    resumed.restore()
    assert resumed.done == 1
    resumed.run(Preemption(), lambda phase: None)
    accelerator.end_training()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), load_config(NANO, sys.argv[2:]))
