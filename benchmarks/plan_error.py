"""How far `vision-zero plan` is from what is measured: the worst batch of a small model, played and updated here.

    python benchmarks/plan_error.py [FAMILY...]

On a GPU the peak is what torch's allocator says; on a CPU the sum of what was allocated and not yet freed, from
torch's profiler. Models are random, their shapes small; recipe and code paths are the real ones. The weights of
both are in the figures. Times are CPU seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tiny_models import FAMILIES, folder

from benchmarks._common import peak_bytes, spent
from vision_zero.config import RunConfig
from vision_zero.models.base import VLM, load
from vision_zero.plan.longest import longest_game
from vision_zero.plan.memory import bill
from vision_zero.plan.shapes import shape_of
from vision_zero.probe import probe_play, probe_update
from vision_zero.update.updater import Updater

VARIANTS = {
    "all weights": {"train": "all"},
    "all, checkpointing": {"train": "all", "gradient_checkpointing": True},
    "language, bfloat16": {"train": "language", "dtype": "bfloat16"},
    "LoRA": {"train": "language", "lora": {"rank": 8}},
}


def measured(run: Callable[[], None]) -> tuple[int, float]:
    """Peak of bytes allocated while `run` runs, beyond those before it, and CPU seconds of another run."""
    return peak_bytes(run), spent(run).cpu


def held(vlms: list[VLM]) -> int:
    """Bytes of the weights of a model and its reference, each once."""
    parameters = {id(p): p for vlm in vlms for p in vlm.model.parameters()}
    return sum(p.numel() * p.element_size() for p in parameters.values())


def compare(family: str, name: str, games: int, answers: int, votes: int = 1) -> list[dict[str, Any]]:
    """Predicted and measured bytes of one variant of a model, for both phases."""
    config = RunConfig.model_validate(
        {
            "games_per_step": games,
            "rollouts": {"trunk_cache_gib": 0},  # the worst batch is measured alone, with nothing kept from before
            "pairs": {"kind": "clevr", "width": 168, "height": 112, "count": 2},
            "game": {
                "wording": "full",
                "max_clue_tokens": answers,
                "max_vote_tokens": answers,
                "votes_per_voter": votes,
            },
            "model": {"path": str(folder(family)), **VARIANTS[name]},
            "update": {"tokens_per_batch": 4096, "learning_rate": 1e-5},
        }
    )
    gpu = torch.cuda.is_available()
    shape = shape_of(config.model)
    game = longest_game(config, shape)
    predicted = bill(config, shape, game, gpu=gpu)
    vlm = load(config.model)
    reference = vlm.reference()
    updater = Updater(vlm, reference, config, Accelerator(cpu=not gpu), 1)
    there = held([vlm, reference]) + 4 * shape.rounded
    play, play_seconds = measured(lambda: probe_play(config, vlm, game, games))
    update, update_seconds = measured(lambda: probe_update(config, vlm, updater, game, games))
    play += 8 * shape.trained  # moments: not there yet while the probe plays, there in training
    model = f"{family}, {name}"
    return [
        {"model": model, "phase": "play", "predicted": predicted.play, "measured": play + there, "s": play_seconds},
        {"model": model, "phase": "update", "predicted": predicted.update, "measured": update + there}
        | {"s": update_seconds},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("families", nargs="*", default=list(FAMILIES))
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--games", type=int, default=4)
    parser.add_argument("--answers", type=int, default=48, help="tokens of an answer")
    parser.add_argument("--votes", type=int, default=1, help="drawn from each voter")
    asked = parser.parse_args()
    print(f"{'model':34} {'phase':6} {'predicted':>10} {'measured':>10} {'error':>6} {'CPU s':>7}")
    errors = []
    for family in asked.families:
        for name in asked.variants:
            for row in compare(family, name, asked.games, asked.answers, asked.votes):
                guess, found = row["predicted"], row["measured"]
                errors.append(abs(guess / found - 1))
                print(
                    f"{row['model']:34} {row['phase']:6} {guess / 2**20:6.0f} MiB {found / 2**20:6.0f} MiB "
                    f"{guess / found - 1:+6.0%} {row['s']:7.2f}",
                    flush=True,
                )
    errors.sort()
    print(f"error: {errors[len(errors) // 2]:.0%} in the middle, {errors[-1]:.0%} at most")


if __name__ == "__main__":
    main()
