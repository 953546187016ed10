"""Games and checkpoints written for others, read back with their own tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import load_dataset
from tests.evaluate.test_arena import File
from tests.runs.stored_games import MODIFIED, ORIGINAL, game
from typer.testing import CliRunner

from vision_zero.cli import app
from vision_zero.config import load_config
from vision_zero.errors import UserError
from vision_zero.evaluate.cards import export_checkpoint
from vision_zero.evaluate.export import export_games
from vision_zero.evaluate.weights import find_weights
from vision_zero.models.nano.architecture import build_processor
from vision_zero.runs import checkpoint
from vision_zero.runs.store import RunStore
from vision_zero.types import ABSTAIN

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """Two games won by the civilians (the second with an abstention and a wrong vote) and one by the spy."""
    root = tmp_path_factory.mktemp("runs")
    config = load_config(RECIPE, [f"model.path={root / 'models' / 'my-start'}", "steps=2"])
    made = RunStore.create(root, config, root / "run")
    made.write_episodes(0, [game(0), game(1, votes=(1, 1, 0))])
    made.write_episodes(1, [game(0, step=1, votes=(2, 3, ABSTAIN))])
    for step in range(2):
        made.append_metrics(step, {"stage": "clue", "win/civilian": 0.25 + step / 2, "update/kl": 0.01})
    checkpoint.save(made.checkpoints, 2, File(b"weights"), {})
    return made


def test_games_come_back_as_chats_with_their_pictures(store: RunStore, tmp_path: Path) -> None:
    done = export_games(store, tmp_path / "games", "command")
    rows = load_dataset(str(tmp_path / "games"), "sft", split="train", cache_dir=str(tmp_path / "cache"))
    assert (done.games, done.sft, len(rows)) == (3, 9, 9)
    # clues of 3 civilians in 2 games, less the one that has no box; the spy's one; right votes of won games
    assert {name: done.by_stage[name] for name in ("sft/clue", "sft/decision")} == {"sft/clue": 5, "sft/decision": 4}
    first: Any = rows[0]
    assert first["messages"][-1] == {
        "role": "assistant",
        "content": [{"type": "text", "text": r"hm \boxed{a cube that 1 sees}"}],
    }
    assert first["messages"][0]["content"] == [
        {"type": "image", "text": None},
        {"type": "text", "text": "4 players\nyou are 1"},
    ]
    assert first["images"][0].size == (12, 8)
    spies = [row for row in rows if row["role"] == "spy"]
    assert [row["episode"] for row in spies] == ["000001-0000"]
    assert spies[0]["images"][0].getpixel((0, 0)) == (0, 0, 255)
    assert ORIGINAL != MODIFIED
    text = build_processor().apply_chat_template(first["messages"], tokenize=False)
    assert text.startswith("<|vision_start|><|image_pad|><|vision_end|>4 players")
    assert text.endswith(r"<|assistant|>hm \boxed{a cube that 1 sees}<|end|>")


def test_preferences_are_best_and_worst_of_one_prompt(store: RunStore, tmp_path: Path) -> None:
    export_games(store, tmp_path / "games", "command")
    rows = load_dataset(str(tmp_path / "games"), "preference", split="train", cache_dir=str(tmp_path / "cache"))
    # all voters of these games read the same words: right votes, an abstention and wrong ones
    [row] = [row for row in rows if row["stage"] == "decision"]
    assert (row["chosen_score"], row["rejected_score"]) == (1.0, -1.0)
    assert row["chosen"][0]["content"][0]["text"] == r"\boxed{1}"
    assert row["rejected"][0]["content"][0]["text"] in (r"\boxed{0}", r"\boxed{2}", r"\boxed{3}")
    assert row["prompt"][-1]["role"] == "user"


def test_nothing_is_written_over_and_nothing_made_of_nothing(store: RunStore, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        export_games(store, tmp_path / "full", "command")
    with pytest.raises(UserError, match="not empty"):
        export_checkpoint(find_weights(f"{store.path}@2"), tmp_path / "full")
    empty = RunStore.create(tmp_path, store.config, tmp_path / "empty")
    with pytest.raises(UserError, match="no games yet"):
        export_games(empty, tmp_path / "games", "command")
    assert not (tmp_path / "games").exists()


def test_the_card_is_filled_from_the_run(store: RunStore, tmp_path: Path) -> None:
    out = tmp_path / "model"
    done = CliRunner().invoke(app, ["export", str(store.path), "--checkpoint", "2", str(out)])
    assert done.exit_code == 0, done.output
    assert (out / "model.safetensors").read_bytes() == b"weights"
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (out / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert (head["library_name"], head["pipeline_tag"]) == ("transformers", "image-text-to-text")
    assert "base_model" not in head, "a folder of this machine is no model of the Hub"
    assert "# nano, step 2" in card
    assert "`my-start`" in card
    assert "| games won by the civilians" in card
    assert "0.250" in card
    assert "0.750" in card
    assert "None was made of step 2" in card
    assert "not compared with its base" in card
    recipe = (out / "recipe.yaml").read_text()
    assert str(store.path.parent) not in card + recipe
    assert load_config(out / "recipe.yaml").model.path == "my-start"


def test_evaluations_are_told_if_they_are_of_these_weights(store: RunStore, tmp_path: Path) -> None:
    weights = find_weights(f"{store.path}@2")
    share = {"point": 0.4, "low": 0.3, "high": 0.5, "trials": 90, "games": 30}
    row = {"label": "exists", "before": share, "after": share, "difference": share, "verdict": "improved"}
    exam = tmp_path / "exam"
    exam.mkdir()
    (exam / "exam.json").write_text(json.dumps({"base": "nano", "checkpoint": "another", "rows": [row]}))
    with pytest.raises(UserError, match="not of step-000002"):
        export_checkpoint(weights, tmp_path / "model", exam)
    (exam / "exam.json").write_text(json.dumps({"base": "nano", "checkpoint": weights.version, "rows": [row]}))
    export_checkpoint(weights, tmp_path / "model", exam)
    card = (tmp_path / "model" / "README.md").read_text()
    assert "| exists | 40% (30% to 50%)" in card
    assert "None was made" not in card


def test_only_checkpoints_of_runs_have_a_card(tmp_path: Path) -> None:
    File(b"1").save(tmp_path / "m")
    with pytest.raises(UserError, match="only a checkpoint of a run"):
        export_checkpoint(find_weights(str(tmp_path / "m")), tmp_path / "model")


def test_the_command_needs_something_to_do(store: RunStore) -> None:
    done = CliRunner().invoke(app, ["export", str(store.path)])
    assert done.exit_code == 2
    assert "nothing to export" in done.stderr
