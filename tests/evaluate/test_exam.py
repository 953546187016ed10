"""The tiny model and one with untaught weights answer real probes on real pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vision_zero.config import load_config
from vision_zero.errors import UserError
from vision_zero.evaluate.exam import hold_exam, make_probes
from vision_zero.evaluate.weights import find_weights
from vision_zero.models.nano.architecture import build_model, build_processor

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.yaml"
CONFIG = load_config(RECIPE, ["pairs.count=40"])


@pytest.fixture(scope="module")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("untaught")
    build_model(3).save_pretrained(folder)
    build_processor().save_pretrained(folder)
    return folder


def test_what_was_learned_shows_and_what_is_needed_to_repeat_it_is_written(untaught: Path, tmp_path: Path) -> None:
    base, taught = find_weights(str(untaught), CONFIG.model), find_weights("nano", CONFIG.model)
    exam = hold_exam(CONFIG, base, taught, 12, tmp_path / "exam")
    rows = {row.name: row for row in exam.rows}
    assert set(rows) == {"exists", "attribute", "twins", "all", "unreadable"}
    assert (rows["all"].verdict, rows["exists"].verdict, rows["unreadable"].verdict) == ("improved",) * 3
    assert rows["exists"].after.point >= 0.8
    assert rows["twins"].after.trials == rows["twins"].after.games, "both pictures of a pair count as one question"
    assert set(exam.left_out) == {"count", "compare", "relation", "same_or_different", "spot_the_difference"}
    tree = json.loads((tmp_path / "exam" / "exam.json").read_text())
    assert tree["settings"]["decoding"] == {"temperature": 0, "max_new_tokens": 12, "batch": 256}
    assert tree["settings"]["prompts"]["examples"]["exists"].endswith(" ?\n")
    assert tree["settings"]["versions"]["torch"]
    assert tree["settings"]["pictures"]["pairs"]["width"] == 96
    replies = [json.loads(line) for line in (tmp_path / "exam" / "replies.jsonl").read_text().splitlines()]
    right = [r["checkpoint"]["right"] for r in replies if r["family"] == "exists"]
    assert sum(right) / len(right) == rows["exists"].after.point
    assert "| exists" in (tmp_path / "exam" / "table.md").read_text()


def test_models_loaded_in_different_ways_are_not_compared(untaught: Path, tmp_path: Path) -> None:
    other = CONFIG.model.model_copy(update={"max_pixels": 3072})
    with pytest.raises(UserError, match=r"model\.max_pixels"):
        hold_exam(CONFIG, find_weights(str(untaught), other), find_weights("nano", CONFIG.model), 4, tmp_path)


def test_pictures_without_facts_and_words_are_refused() -> None:
    charts = load_config(RECIPE, ["pairs={kind: charts, count: 20, width: 240, height: 160}"])
    with pytest.raises(UserError, match="no words to ask about charts"):
        make_probes(charts, 2)


def test_families_asked_of_one_pair_alone_are_left_out() -> None:
    charts = load_config(RECIPE.with_name("nano_charts.yaml"), ["game.wording=full"])
    for pairs in range(2, 12):
        asked = make_probes(charts, pairs)
        pairs_of = {f: {p.pair for p in asked.probes if p.family == f} for f in ("value", "extremum", "trend")}
        assert all(len(found) != 1 for found in pairs_of.values())
        assert all(bool(found) != (family in asked.left_out) for family, found in pairs_of.items())
        if any("one pair alone" in why for why in asked.left_out.values()):
            return
    raise AssertionError("no number of pairs showed it")
