"""A recipe on pictures that are not CLEVR's trains, from dealing to checkpoint."""

from __future__ import annotations

from pathlib import Path

from vision_zero.config import load_config
from vision_zero.runs.store import RunStore
from vision_zero.train import train

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_tiny_model_trains_on_charts(tmp_path: Path) -> None:
    small = ["steps=1", "games_per_step=2", "save.every=1", "evaluation.games=0"]
    config = load_config(RECIPES / "nano_charts.yaml", small)
    run = RunStore.create(tmp_path, config, tmp_path / "run").path
    train(config, run)
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    assert (checkpoint / "model" / "config.json").exists()
    (first, second) = RunStore.open(run).read_episodes(0)
    facts = first.seats[0].picture.facts
    assert facts is not None
    assert facts["chart"]
    assert first.pair != second.pair
