"""Killed at any instant and started again by the same command, a run ends as if nothing had happened.

The long form, with many instants, is `make soak`.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.kills import KILLED, Kill, Life, command, differences, live, live_together, plan_kill, ranks
from vision_zero.cli import app
from vision_zero.config import load_config
from vision_zero.preemption import EXIT_CODE
from vision_zero.runs.store import RunStore


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Life]:
    run = tmp_path_factory.mktemp("restart") / "run"
    life = live(run, command(run))
    assert life.code == 0
    return run, life


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Life]:
    """Of two processes, what the first has seen."""
    run = tmp_path_factory.mktemp("restart") / "run"
    lives = live_together(run, command(run, processes=2), [None, None], ranks(2))
    assert [life.code for life in lives] == [0, 0]
    return run, lives[0]


@pytest.mark.slow
@pytest.mark.parametrize("instant", ["play", "update", "checkpoint"])
def test_killed_and_started_again(uninterrupted: tuple[Path, Life], tmp_path: Path, instant: str) -> None:
    expected, reference = uninterrupted
    run = tmp_path / "run"
    assert live(run, command(run), plan_kill(reference, instant, seed=1)).code == KILLED
    assert live(run, command(run)).code == 0
    assert differences(expected, run) == []


@pytest.mark.slow
def test_two_processes_killed_and_started_again(together: tuple[Path, Life], tmp_path: Path) -> None:
    expected, reference = together
    run = tmp_path / "run"
    kill = plan_kill(reference, "update", seed=1)
    lives = live_together(run, command(run, processes=2), [None, kill], ranks(2))
    assert KILLED in {life.code for life in lives}
    lives = live_together(run, command(run, processes=2), [None, None], ranks(2))
    assert [life.code for life in lives] == [0, 0]
    assert differences(expected, run) == []


@pytest.mark.slow
def test_asked_to_leave_all_processes_save_and_leave_together(together: tuple[Path, Life], tmp_path: Path) -> None:
    """Only one of them hears the signal, while it plays its first games."""
    expected, _ = together
    run = tmp_path / "run"
    asked = Kill(phase=0, signal=signal.SIGTERM)
    lives = live_together(run, command(run, processes=2), [None, asked], ranks(2))
    assert [life.code for life in lives] == [EXIT_CODE, EXIT_CODE]
    saved = [path.name for path in (run / "checkpoints").iterdir()]
    assert saved == ["step-000001"]
    lives = live_together(run, command(run, processes=2), [None, None], ranks(2))
    assert [life.code for life in lives] == [0, 0]
    # it has one checkpoint more, and may therefore have another best one
    others = {name for name in differences(expected, run) if not name.startswith("checkpoints/step-00000")}
    assert others == set()
    assert not [name for name in differences(expected, run) if name.startswith("checkpoints/step-000004")]


@pytest.mark.slow
def test_a_torn_checkpoint_is_passed_over_with_a_word(uninterrupted: tuple[Path, Life], tmp_path: Path) -> None:
    expected, _ = uninterrupted
    run = tmp_path / "run"
    shutil.copytree(expected, run)
    weights = run / "checkpoints" / "step-000004" / "model" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    life = live(run, command(run))
    assert life.code == 0
    assert "model/model.safetensors was altered after it was written; trying the one before" in life.said
    assert differences(expected, run) == []


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 2, result.output
    return result.stderr


def test_other_settings_are_refused_unless_they_are_named(tmp_path: Path) -> None:
    """Before any model is read; what happens when they are named is in `tests/test_cli.py`."""
    run = tmp_path / "run"
    words = command(run)
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    store = RunStore.create(tmp_path, load_config(Path(words[1]), settings), run)
    text = refused(*words, "--set", "update.kl=0.5")
    assert "update.kl was 0.04, is 0.5" in text
    assert f"vision-zero resume {run}" in text
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("kl: 0.04", "kl: 0.5").replace("seed: 0", "seed: 9"))
    assert "seed was 0, is 9; update.kl was 0.04, is 0.5" in refused("resume", run)
    assert "(update.kl was 0.04, is 0.5)" in refused("resume", run, "--allow", "seed")
    assert "(seed was 0, is 9)" in refused("resume", run, "--set", "update.kl=0.7")
    assert store.settled.update.kl == 0.04
