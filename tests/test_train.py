"""The loop on real pictures and real gradients: it learns and splits over processes. That it resumes bit for bit is
shown in `tests/test_restart.py`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.kills import differences
from tests.tiny_models import folder
from vision_zero.config import RunConfig, load_config
from vision_zero.errors import UserError
from vision_zero.games.base import Deal
from vision_zero.models.pictures import Preprocessor, Reading
from vision_zero.pairs.clevr.source import ClevrSource
from vision_zero.rollouts.dealing import Dealer
from vision_zero.runs.store import RunStore
from vision_zero.train import train
from vision_zero.types import ImagePair, Picture, PicturePart, Stage, TextPart

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "recipes" / "qwen2_5_vl_7b_clevr.yaml"


def full_size() -> dict[str, Any]:
    """Overrides that shrink the 7B recipe to a random tiny model of its family; prompts and pictures stay full size."""
    return {
        "model.path": folder("qwen2_5_vl"),
        "model.dtype": "float32",
        "model.gradient_checkpointing": False,
        "games_per_step": 2,
        "steps": 1,
        "pairs.count": 6,
        "game.max_clue_tokens": 8,
        "game.max_vote_tokens": 8,
        "evaluation.games": 0,
        "rollouts.workers": 0,
        "sight_check_every": 1,
        "update.learning_rate": 1e-3,
        # A random model never votes readably, so that only a penalty on its clues gives it something to learn.
        "credit.stages.start": "clue",
        "credit.malformed_clue_penalty": 0.1,
    }


def short() -> dict[str, Any]:
    """The same with bare words and small pictures, so that several steps take seconds."""
    small = {"pairs.style": "nano", "pairs.width": 96, "pairs.height": 64, "game.wording": "compact"}
    return {**full_size(), **small, "steps": 4, "save.every": 2}


def overrides(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={value}" for key, value in settings.items()]


def config(settings: dict[str, Any]) -> RunConfig:
    return load_config(RECIPE, overrides(settings))


def command(path: Path, settings: dict[str, Any]) -> list[str]:
    """The command line that starts the run."""
    changed = [word for item in overrides(settings) for word in ("--set", item)]
    return [sys.executable, "-m", "vision_zero.cli", "train", str(RECIPE), "--out", str(path), *changed]


def run(path: Path, config: RunConfig) -> RunStore:
    store = RunStore.create(path.parent, config, path)
    train(config, path, Console(quiet=True))
    return store


def weights(store: RunStore, step: int) -> dict[str, torch.Tensor]:
    model = store.checkpoints / f"step-{step:06d}" / "model"
    return dict(AutoModelForImageTextToText.from_pretrained(model).state_dict())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """An uninterrupted short run."""
    return run(tmp_path_factory.mktemp("train") / "run", config(short()))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """One step of the shrunk 7B recipe with full prompts, private thought, boxes and 320x240 pictures."""
    return run(tmp_path_factory.mktemp("train") / "full", config(full_size()))


def test_the_7b_recipe_plays_with_full_prompts_and_trains(full: RunStore) -> None:
    start = AutoModelForImageTextToText.from_pretrained(folder("qwen2_5_vl")).state_dict()
    trained = weights(full, 1)
    moved = [name for name in start if not torch.equal(start[name], trained[name])]
    assert any("visual" in name for name in moved), "the recipe trains the vision tower too"
    assert any("language_model" in name for name in moved)
    episode = next(iter(full.read_episodes(0)))
    clue = episode.turns[0]
    words = "".join(p.text for m in clue.shown for p in m.parts if isinstance(p, TextPart))
    assert "\\boxed{" in words
    [picture] = [p.picture for m in clue.shown for p in m.parts if isinstance(p, PicturePart)]
    assert full.picture(picture.sha).data == picture.data
    assert all(len(t.utterance.ids) == len(t.utterance.logprobs) > 0 for t in episode.turns)
    assert {t.stage for t in episode.turns} == set(Stage)


def test_sampler_and_trainer_agree_and_the_model_sees(finished: RunStore, full: RunStore) -> None:
    for line in finished.read_metrics() + full.read_metrics():
        assert line["update/sampler_difference"] < 1e-4
        assert line["sight"] > 1e-4


@pytest.mark.slow
def test_pictures_that_workers_make_and_read_change_no_byte(
    finished: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deal, make, read = Dealer.deal, ClevrSource._make, Preprocessor.__call__
    made_here: list[int] = []
    read_here: list[str] = []

    def deal_when_all_is_done(self: Dealer, step: int, only: Sequence[int]) -> list[Deal]:
        self.wait()
        return deal(self, step, only)

    def make_here(self: ClevrSource, index: int) -> ImagePair:
        made_here.append(index)
        return make(self, index)

    def read_here_too(self: Preprocessor, picture: Picture) -> Reading:
        read_here.append(picture.sha)
        return read(self, picture)

    monkeypatch.setattr(Preprocessor, "__call__", read_here_too)
    monkeypatch.setattr(Dealer, "deal", deal_when_all_is_done)
    monkeypatch.setattr(ClevrSource, "_make", make_here)
    other = run(tmp_path / "run", config({**short(), "rollouts.workers": 1}))
    # those of the first step
    assert len(made_here) == 2
    assert len(read_here) == len(set(read_here)), "a picture was processed twice"
    assert differences(finished.path, other.path) == ["recipe.yaml"]


def test_a_checkpoint_is_an_ordinary_model_folder(finished: RunStore) -> None:
    model = sorted(finished.checkpoints.iterdir())[-1] / "model"
    code = (
        "import sys; from transformers import AutoModelForImageTextToText as M, AutoProcessor as P\n"
        "m, info = M.from_pretrained(sys.argv[1], output_loading_info=True); P.from_pretrained(sys.argv[1])\n"
        "assert not info['missing_keys'] and not info['unexpected_keys'] and not info['mismatched_keys'], info"
    )
    subprocess.run([sys.executable, "-c", code, str(model)], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert AutoProcessor.from_pretrained(model).tokenizer is not None


def test_two_processes_learn_what_one_learns(finished: RunStore, tmp_path: Path) -> None:
    path = tmp_path / "run"
    subprocess.run(command(path, {**short(), "processes": 2}), check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    split = RunStore.open(path)
    for mine, theirs in zip(finished.read_episodes(0), split.read_episodes(0), strict=True):
        assert mine.id == theirs.id
        assert [t.utterance.ids for t in mine.turns] == [t.utterance.ids for t in theirs.turns]
    start = dict(AutoModelForImageTextToText.from_pretrained(folder("qwen2_5_vl")).state_dict())
    one, two = weights(finished, 2), weights(split, 2)
    learned = torch.cat([(one[name] - start[name]).flatten() for name in start])
    apart = torch.cat([(one[name] - two[name]).flatten() for name in start])
    # Sums are taken in another order, and Adam's first steps enlarge what that does to gradients near 0.
    assert apart.norm() < 1e-2 * learned.norm()


def test_a_failing_process_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "no_model").mkdir()
    bad = {**short(), "processes": 2, "model.path": tmp_path / "no_model"}
    done = subprocess.run(
        command(tmp_path / "r", bad), capture_output=True, text=True, cwd=tmp_path, timeout=200, check=False
    )
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_json_records_what_is_needed_to_repeat_it(finished: RunStore) -> None:
    facts = json.loads((finished.path / "run.json").read_text())
    assert RunConfig.model_validate(facts["config"]) == config(short())
    assert {"torch", "transformers", "vision-zero"} <= {k.replace("_", "-") for k in facts["versions"]}


def test_evaluations_while_training_are_metrics(tmp_path: Path) -> None:
    lines = run(tmp_path / "run", config({**short(), "steps": 2, "evaluation.games": 2, "evaluation.every": 2}))
    first, second = lines.read_metrics()
    assert not any(name.startswith("held_out/") for name in first)
    assert 0 <= second["held_out/votes_on_start_clues"] <= 1


def test_other_pictures_are_not_taken_for_those_of_the_run(finished: RunStore, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(finished.path, path)
    with pytest.raises(UserError, match="the set of pairs changed"):
        train(config({**short(), "steps": 5, "pairs.count": 7}), path, Console(quiet=True))


def test_a_lora_adapter_is_no_start(tmp_path: Path) -> None:
    lora = {"model.train": "language", "model.lora": {"rank": 2, "alpha": 4}}
    store = run(tmp_path / "run", config({**short(), "steps": 1, "save.every": 1, **lora}))
    adapter = store.checkpoints / "step-000001" / "model"
    again = config({**short(), **lora, "model.path": adapter})
    with pytest.raises(UserError, match="is a LoRA adapter"):
        run(tmp_path / "again", again)


def test_a_game_without_credit_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set game\.name=spy"):
        run(tmp_path / "run", config({**short(), "game.name": "pick"}))


def test_pictures_and_words_must_speak_of_the_same(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set game\.subject=clevr"):
        run(tmp_path / "run", config({**full_size(), "game.subject": "charts"}))
