"""Every benchmark runs, at sizes where its figures mean nothing. No time is asserted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from benchmarks import calibrate, gpu_step, memory, play, scale, step, sync, update
from benchmarks._models import load_random

SMALL = ["--games", "1", "--repeats", "1", "--seats", "3", "--rounds", "1", "--votes", "2", "--answers", "2"]


@pytest.mark.parametrize(
    ("main", "more"),
    [
        (play.main, []),
        (update.main, ["--rows", "5"]),
        (step.main, []),
        (memory.main, []),
        (sync.main, ["--games", "2"]),
        (scale.main, ["--seat-counts", "3", "4", "--round-counts", "--game-counts", "1", "2"]),
    ],
    ids=["play", "update", "step", "memory", "sync", "scale"],
)
def test_it_runs_and_writes_its_figures(
    main: Callable[[Sequence[str]], Any], more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SMALL, *more, "--json", str(tmp_path / "out.json")])
    out = " ".join(capsys.readouterr().out.split())
    assert "goal" in out
    assert "GFLOP/s in matrix products" in out, "the limit"
    assert re.search(r"\d% of the|of the limit", out), "the share of it that was reached"
    made = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert made["rows"]
    assert made["machine"]
    assert all(goal["value"] > 0 for goal in made["goals"])


def test_a_device_is_measured_for_the_plan() -> None:
    found = calibrate.measure(load_random("tiny"), repeats=1, tokens=64, rows=2)
    # more than a pocket calculator, less than any machine there is
    assert 1e6 < found.update < 1e18
    assert 1e6 < found.read < 1e18
    assert 1e-7 < found.layer < 10


def test_a_step_on_a_real_shape_takes_its_way_with_a_small_one(capsys: pytest.CaptureFixture[str]) -> None:
    gpu_step.main(["--run", "tiny", "--games", "1", "--set", "game.rounds=1", "--set", "game.votes_per_voter=2"])
    out = capsys.readouterr().out
    assert "MFU of the update" in out
    assert "reference" in out
