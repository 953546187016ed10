"""The table of docs/which-card.md: what every recipe needs on one device, by `vision-zero plan`.

    python benchmarks/which_card.py > table.md

Everything is an estimate (benchmarks/plan_error.py tells how good), and nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from vision_zero.config import RunConfig, load_config
from vision_zero.plan.devices import USABLE
from vision_zero.plan.longest import longest_game
from vision_zero.plan.making import with_settings
from vision_zero.plan.memory import GIB, bill, checkpoint_bytes
from vision_zero.plan.shapes import shape_of

CARDS = (24, 48, 80, 141)
FULL = {"rollouts.batch_size": 32, "update.tokens_per_batch": 8192}
ADAPTER = {"model.train": "language", "model.lora": {"rank": 16, "alpha": 32}, **FULL}
RECIPES = Path(__file__).parents[1] / "recipes"


def row(name: str, note: str, config: RunConfig) -> str:
    """One line of the table."""
    shape = shape_of(config.model)
    game = longest_game(config, shape)
    made = bill(config, shape, game)
    fits = " | ".join("yes" if made.peak <= card * GIB * USABLE else "no" for card in CARDS)
    disk = (config.save.keep + 1) * checkpoint_bytes(shape) / GIB
    return f"| `{name}` | {note} | {made.play / GIB:.0f} | {made.update / GIB:.0f} | {fits} | {disk:.0f} |"


def main() -> None:
    print(f"| recipe | with | play, GiB | update, GiB | {' | '.join(f'{c} GB' for c in CARDS)} | disk, GiB |")
    print("|---|---|--:|--:|" + "---|" * len(CARDS) + "--:|")
    with TemporaryDirectory() as folder:
        Image.new("RGB", (640, 480)).save(Path(folder) / "photo.png")
        for recipe in sorted(RECIPES.glob("*.yaml")):
            config = load_config(recipe)
            if config.pairs.kind in ("photos", "folder"):
                config = with_settings(config, {"pairs.path": folder})
            print(row(recipe.stem, "as it is", config), flush=True)
            if config.model.path != "nano" and config.model.lora is None:
                print(row(recipe.stem, "smaller batches", with_settings(config, FULL)), flush=True)
                print(row(recipe.stem, "smaller batches, LoRA", with_settings(config, ADAPTER)), flush=True)


if __name__ == "__main__":
    main()
