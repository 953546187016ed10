"""One full step on real shapes with random weights: seconds and memory against `vision-zero plan`, and MFU.

    python -m benchmarks.gpu_step --run 3b-lora

For a machine with a GPU; nothing is downloaded. Shapes are those that the plan knows, recipes and code paths the real
ones; every turn is trained, and answers are of full length, as the plan assumes (random weights hardly ever end a
turn). MFU counts the operations of the language model's weights on packed tokens, without what checkpointing computes
again, against matrix products measured on the spot. `--run tiny` takes the same way with a small model, on a CPU too.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoModelForImageTextToText

from benchmarks._common import matrix_limit, peak_bytes, report, spent
from benchmarks._games import deals_of, play_ours, samples_of
from benchmarks._models import end_with, folder, ids_of, processor, tokenizer
from vision_zero.config import RunConfig, load_config
from vision_zero.models.base import VLM
from vision_zero.plan.devices import find_devices
from vision_zero.plan.longest import longest_game
from vision_zero.plan.memory import GIB, bill
from vision_zero.plan.shapes import Shape, shape_of
from vision_zero.plan.speed import seconds_of
from vision_zero.types import Stage
from vision_zero.update.updater import Updater

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL = "qwen2_5_vl_3b_lora_24gb.yaml"
RUNS = {
    "3b-lora": (SMALL, []),
    "3b-full": (SMALL, ["model.lora=null", "update.learning_rate=1e-5"]),
    "7b-lora": ("qwen2_5_vl_7b_lora_80gb.yaml", []),
    "tiny": (SMALL, ["game.max_clue_tokens=8", "game.max_vote_tokens=8"]),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", choices=list(RUNS), default="3b-lora")
    parser.add_argument("--games", type=int, default=8, help="games of the step")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of `vision-zero train`")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    gpu = torch.cuda.is_available()
    if not gpu and asked.run != "tiny":
        raise SystemExit("no GPU here: only `--run tiny` makes sense on a CPU")
    recipe, settings = RUNS[asked.run]
    if asked.run == "tiny":
        settings = [*settings, f"model.path={folder('tiny')}"]
    settings = [*settings, f"games_per_step={asked.games}", f"pairs.count={max(asked.games, 2)}", *asked.set]
    config = load_config(RECIPES / recipe, settings)
    shape = shape_of(config.model)
    game = longest_game(config, shape)
    vlm = random_vlm(config, shape)
    reference = vlm.reference()
    updater = Updater(vlm, reference, config, Accelerator(cpu=not gpu), 10)
    deals = deals_of(config, asked.games)
    metrics: dict[str, float] = {}

    def play() -> None:
        made.update(zip(("samples", "pictures"), samples_of(play_ours(config, vlm, deals)), strict=True))

    def update() -> None:
        scored = updater.prepare(made["samples"], made["pictures"])
        metrics.update(updater.step(scored, made["pictures"]))

    made: dict[str, Any] = {}
    weights = (
        0 if gpu else sum(p.nbytes for p in {id(p): p for m in (vlm, reference) for p in m.model.parameters()}.values())
    )
    peaks = {"play": _peak(play, weights), "update": _peak(update, weights)}
    seconds = {"play": spent(play).wall}
    spent(update)
    seconds["reference"] = metrics.get("seconds/reference", 0.0)
    seconds["update"] = sum(metrics[f"seconds/{phase}"] for phase in ("pack", "forward", "backward", "optimizer"))

    both = (Stage.CLUE, Stage.DECISION)
    predicted = bill(config, shape, game, gpu=gpu)
    devices = find_devices(None, config)
    planned = vars(seconds_of(config, shape, game, devices, both)) if devices.speed else {}
    operations = (4 if shape.adapter else 6) * (shape.parameters - shape.vision_parameters) * metrics["tokens/packed"]
    limit = matrix_limit(next(vlm.network.parameters()).dtype, int(shape.text.hidden_size))
    rows = [
        (name, f"{seconds[name]:.2f}", f"{planned[name]:.2f}" if planned else "not measured yet",
         f"{peaks[name] / GIB:.2f}" if name in peaks else "",
         f"{getattr(predicted, name) / GIB:.2f}" if name in peaks else "")
        for name in seconds
    ]  # fmt: skip
    report(
        f"{asked.run}: one step of {asked.games} games, {len(made['samples'])} samples",
        ("phase", "seconds", "seconds, plan", "peak GiB", "peak GiB, plan"),
        rows,
        [
            f"{metrics['tokens/packed']:.0f} packed tokens, {metrics['tokens/unpacked']:.0f} apart",
            f"MFU of the update: {operations / seconds['update'] / limit:.1%} of the {limit / 1e12:.2f} TFLOP/s seen",
        ],
        json_to=asked.json,
    )


def random_vlm(config: RunConfig, shape: Shape) -> VLM:
    """The model that the recipe names, with random weights, made on the device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens, made = tokenizer(), copy.deepcopy(shape.config)
    for name, number in ids_of(tokens).items():
        setattr(made, name, number)
    builder: Any = AutoModelForImageTextToText
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        model = builder.from_config(
            made, dtype=getattr(torch, config.model.dtype), attn_implementation=config.model.attention
        )
    vlm = VLM(end_with(model, tokens), processor(tokens, shape.image_processor), config.model)
    vlm.model.to(device).eval()
    return vlm


def _peak(act: Callable[[], None], weights: int) -> int:
    """Most bytes that are allocated while `act` runs, weights included."""
    if not torch.cuda.is_available():
        return weights + peak_bytes(act)
    torch.cuda.reset_peak_memory_stats()
    act()
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    main()
