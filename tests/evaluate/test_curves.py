from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vision_zero.errors import UserError
from vision_zero.evaluate.curves import PANELS, STAGE_COLORS, plot_curves


def run(steps: int = 40) -> list[dict[str, float | int | str]]:
    rng = random.Random(0)
    metrics: list[dict[str, float | int | str]] = []
    for step in range(steps):
        up = 1 - math.exp(-step / 15)
        win = min(1.0, max(0.0, 0.35 + 0.2 * up + rng.gauss(0, 0.05)))
        metrics.append(
            {
                "step": step,
                "stage": "decision" if step % 17 < 12 else "clue",
                "win/civilian": win,
                "win/spy": 1 - win,
                "votes/accuracy": win - 0.05,
                "votes/plurality": win,
                "votes/na": 0.12 * (1 - up),
                "votes/invalid": 0.02,
                "update/kl": 0.05 * up * rng.random(),
                "update/entropy": 0.9 - 0.4 * up,
            }
        )
    return metrics


def share_of(pixels: np.ndarray, color: str) -> float:
    """Share of pixels that are a stage's band: its colour at 30 % over white."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
    return float((np.abs(pixels - (0.3 * rgb + 0.7 * 255)).max(-1) <= 3).mean())


def test_curves_show_every_panel_with_the_stages_behind(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "curves.png"
    plot_curves(run(), path)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert pixels.shape[0] > 100 * len(PANELS)
    clue, decision = share_of(pixels, STAGE_COLORS["clue"]), share_of(pixels, STAGE_COLORS["decision"])
    assert clue > 0.1
    assert decision / clue == pytest.approx(30 / 10, rel=0.3)


def test_panels_without_data_are_left_out_and_gaps_are_allowed(tmp_path: Path) -> None:
    plot_curves(run(), tmp_path / "all.png")
    sparse = [{"stage": "clue", "win/civilian": 0.5}, {"stage": "clue"}, {"win/civilian": 0.6}]
    plot_curves(sparse, tmp_path / "one.png")
    assert Image.open(tmp_path / "one.png").height < Image.open(tmp_path / "all.png").height / 2
    plot_curves(run(1), tmp_path / "single.png")


def test_nothing_to_plot_is_said(tmp_path: Path) -> None:
    for metrics in ([], [{"step": 0, "stage": "clue"}]):
        with pytest.raises(UserError, match="nothing to plot"):
            plot_curves(metrics, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
