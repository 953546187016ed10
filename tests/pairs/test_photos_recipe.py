"""The recipe on photos trains, with twins and with single pictures, from dealing to checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.pairs.photo_files import PHOTOS
from vision_zero.config import load_config
from vision_zero.runs.store import RunStore
from vision_zero.train import train

RECIPE = Path(__file__).parents[2] / "recipes" / "nano_photos.yaml"


@pytest.mark.parametrize("single", [False, True])
def test_the_tiny_model_trains_on_photos(tmp_path: Path, single: bool) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("motorcycle_left.png", "coins.png"):
        shutil.copy(PHOTOS[name], photos / name)
    small = [f"pairs.path={photos}", "steps=1", "games_per_step=2", "save.every=1"]
    if single:
        small += ["pairs.edits=[]", "game.spy_picture=blank"]
    config = load_config(RECIPE, small)
    run = RunStore.create(tmp_path, config, tmp_path / "run").path
    train(config, run)
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    assert (checkpoint / "model" / "config.json").exists()
    episodes = list(RunStore.open(run).read_episodes(0))
    assert len(episodes) == 2
    assert all(e.pair.startswith(("motorcycle-left-", "coins-")) for e in episodes)
