"""Plans: counted by the real rules, exact where the tokenizer is at hand, and near what is measured."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from benchmarks.plan_error import compare
from rich.console import Console

from tests.tiny_models import folder, load_tiny, picture
from vision_zero.config import ModelConfig, RunConfig, load_config
from vision_zero.errors import UserError
from vision_zero.plan import make_plan, print_plan
from vision_zero.plan.devices import find_devices
from vision_zero.plan.longest import longest_game
from vision_zero.plan.making import with_settings
from vision_zero.plan.memory import GIB, Bill, bill, checkpoint_bytes, steps_of
from vision_zero.plan.shapes import published, shape_of
from vision_zero.types import Stage, TextPart

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


def tiny(**settings: Any) -> RunConfig:
    base = RunConfig.model_validate(
        {
            "games_per_step": 2,
            "pairs": {"kind": "clevr", "width": 168, "height": 112, "count": 4},
            "game": {"max_clue_tokens": 16, "max_vote_tokens": 16},
            "model": {"path": str(folder("qwen2_5_vl"))},
        }
    )
    return with_settings(base, settings)


def text_of(config: RunConfig, devices: str) -> str:
    console = Console(file=io.StringIO(), width=140)
    print_plan(make_plan(config, find_devices(devices, config)), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.stem)
def test_every_recipe_is_planned(recipe: Path, tmp_path: Path) -> None:
    config = load_config(recipe)
    if config.pairs.kind in ("photos", "folder"):
        (tmp_path / "a.png").write_bytes(picture(1, 640, 480).data)
        config = with_settings(config, {"pairs.path": str(tmp_path)})
    text = text_of(config, "80gb:8")
    for word in ("longest prompt", "optimizer", "in all", "disk: ", "time: unknown, nobody has measured 80gb"):
        assert word in text
    assert ("it fits" in text) != ("it does not fit" in text) or "cheapest changes" in text


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # bytes of their published weight files, halved
        ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),
        ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
        ("OpenGVLab/InternVL3-8B-hf", 7_944_373_760),
    ],
)
def test_published_shapes_have_the_published_number_of_weights(model: str, parameters: int) -> None:
    assert model in published()["models"]
    shape = shape_of(ModelConfig(path=model, dtype="bfloat16"))
    assert shape.parameters == parameters
    assert shape.weights == 2 * parameters
    assert "built-in table" in shape.source


@pytest.mark.parametrize("settings", [{}, {"train": "language"}, {"lora": {"rank": 4}, "dtype": "bfloat16"}])
def test_shapes_are_those_of_the_loaded_model(settings: dict[str, Any]) -> None:
    vlm = load_tiny("internvl", **settings)
    shape = shape_of(ModelConfig.model_validate({"path": str(folder("internvl")), **settings}))
    every = {id(p): p for p in vlm.model.parameters()}.values()
    assert shape.weights == sum(p.numel() * p.element_size() for p in every)
    assert shape.trained == sum(p.numel() for _, p in vlm.trainable())
    assert shape.vision_trained == (not vlm.vision_frozen)


def test_the_longest_game_is_counted_in_the_models_own_tokens() -> None:
    config = tiny()
    game = longest_game(config, shape_of(config.model))
    vlm = load_tiny("qwen2_5_vl")
    assert game.exact
    for request in game.requests:
        assert vlm.encode(request.messages).ids == request.ids
    assert game.completions([Stage.CLUE]) == 8
    assert game.completions([Stage.DECISION]) == 3
    vote = game.requests[-1]
    texts = [part.text for part in vote.messages[0].parts if isinstance(part, TextPart)]
    assert sum("red red" in t for t in texts) == 8 + 2, "eight clues and two own thoughts at full length"
    assert len(game.longest.ids) == max(len(r.ids) for r in game.requests)


def test_longer_answers_and_larger_pictures_cost_more() -> None:
    shape = shape_of(tiny().model)
    base = longest_game(tiny(), shape)
    longer = longest_game(tiny(**{"game.max_clue_tokens": 64}), shape)
    larger = longest_game(tiny(**{"pairs.width": 336}), shape)
    assert len(longer.longest.ids) > len(base.longest.ids)
    assert len(larger.longest.ids) - len(base.longest.ids) == larger.picture_tokens - base.picture_tokens > 0
    assert sum(base.trees([Stage.CLUE])) < base.unpacked([Stage.CLUE])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"game.max_vote_tokens": 8000}, r"exceed the model's context of 8192; lower game\.rounds"),
        ({"update.tokens_per_batch": 300}, r"exceed update\.tokens_per_batch=300; raise it, or lower game\.rounds"),
    ],
)
def test_what_cannot_hold_the_longest_game_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        make_plan(tiny(**settings), find_devices("24gb", tiny()))


def test_an_unknown_model_names_the_built_in_shapes(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"Qwen/Qwen2\.5-VL-7B-Instruct|names no model_type"):
        shape_of(ModelConfig(path=str(tmp_path)))


@pytest.mark.parametrize(("asked", "words"), [("abacus:2", "there is no 'abacus'"), ("a100:x", "NAME:COUNT")])
def test_unknown_devices_are_refused(asked: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        find_devices(asked, tiny())


def test_a_bfloat16_weight_costs_its_master_and_moments() -> None:
    config = tiny(**{"model.dtype": "bfloat16", "update.kl": 0.0})
    shape = shape_of(config.model)
    lines = {line.name: line for line in bill(config, shape, longest_game(config, shape)).lines}
    assert lines["optimizer"].update == 12 * shape.parameters
    assert lines["weights"].update == 2 * shape.parameters
    assert checkpoint_bytes(shape) == 14 * shape.parameters


def test_vllm_stands_on_the_bill_where_it_runs() -> None:
    shapes = {}
    for engine, urls in (("hf", []), ("vllm", []), ("vllm-server", ["http://localhost:8100"])):
        config = tiny(**{"rollouts.engine": engine, "rollouts.vllm.urls": urls, "rollouts.vllm.context": 1000})
        shape = shape_of(config.model)
        shapes[engine] = {line.name: line for line in bill(config, shape, longest_game(config, shape)).lines}
    ours = shapes["vllm"]["vLLM: weights, one prompt"]
    assert ours.play == shape.weights + 1000 * shape.kv
    assert ours.update == 0, "it sleeps"
    assert "keys and values" in shapes["hf"]
    assert "keys and values" not in shapes["vllm"]
    assert set(shapes["vllm-server"]) == set(shapes["vllm"]) - {"vLLM: weights, one prompt"}


def test_advice_makes_it_fit_and_names_the_smallest_sacrifice() -> None:
    config = load_config(next(r for r in RECIPES if r.stem == "qwen2_5_vl_7b_clevr"))
    devices = find_devices("80gb:1", config)
    plan = make_plan(config, devices)
    assert not plan.fits
    assert plan.advice is not None
    assert plan.advice.fits
    assert 1 <= len(plan.advice.changes) <= 3
    changed = with_settings(config, {k: v for c in plan.advice.changes for k, v in c.settings.items()})
    assert make_plan(changed, devices).fits
    for left_out in plan.advice.changes:
        kept = {k: v for c in plan.advice.changes if c is not left_out for k, v in c.settings.items()}
        assert not make_plan(with_settings(config, kept), devices).fits, f"{left_out} is not needed"


def test_advice_is_printed_as_settings_that_can_be_typed() -> None:
    config = load_config(next(r for r in RECIPES if r.stem == "qwen2_5_vl_7b_clevr"))
    text = text_of(config, "80gb:1")
    settings = [part.split("'")[0] for line in text.splitlines() for part in line.split("--set '")[1:]]
    assert settings
    assert make_plan(with_settings(config, {}), find_devices("80gb:1", config)).fits is False
    recipe = next(r for r in RECIPES if r.stem == "qwen2_5_vl_7b_clevr")
    assert make_plan(load_config(recipe, settings), find_devices("80gb:1", config)).fits


def test_the_released_small_recipes_fit_their_cards() -> None:
    for name, card in (("qwen2_5_vl_3b_lora_24gb", "24gb"), ("qwen2_5_vl_7b_lora_80gb", "80gb")):
        config = load_config(next(r for r in RECIPES if r.stem == name))
        plan = make_plan(config, find_devices(card, config))
        assert plan.fits, f"{name}: {plan.bill.peak / GIB:.1f} GiB"


def test_the_plan_says_whether_samples_are_packed() -> None:
    flash = {"model.attention": "flash_attention_2"}
    said = [text_of(tiny(**settings), "cpu") for settings in ({}, {"update.pack": "none"}, flash)]
    assert ["tokens packed as trees" in text for text in said] == [True, False, False]
    assert ["tokens, each sample apart" in text for text in said] == [False, True, True]


def test_stages_that_are_never_trained_are_not_planned() -> None:
    both = (Stage.CLUE, Stage.DECISION)
    assert steps_of(tiny(**{"credit.stages.schedule": "clue"})) == [(Stage.CLUE, (Stage.CLUE,))]
    assert steps_of(tiny(**{"credit.anchor": 0.1})) == [(Stage.CLUE, both), (Stage.DECISION, both)]


@pytest.mark.parametrize("votes", [1, 8])
def test_the_bill_is_near_what_is_measured(votes: int) -> None:
    """On real batches of full length (benchmarks/plan_error.py prints more of them)."""
    for row in compare("internvl", "all, checkpointing", games=1, answers=16, votes=votes):
        assert 0.8 < row["predicted"] / row["measured"] < 1.6, row


def test_pieces_make_an_update_smaller_and_a_resting_reference_play() -> None:
    shape = shape_of(tiny().model)
    game = longest_game(tiny(), shape)

    def held(**settings: Any) -> Bill:
        return bill(with_settings(tiny(), settings), shape, game, devices=4)

    whole = held()
    for shard in ("zero2", "fsdp", "zero3"):
        [optimizer] = [line for line in held(**{"devices.shard": shard}).lines if line.name.startswith("optimizer")]
        assert optimizer.update == 12 * shape.trained // 4
    assert held(**{"devices.shard": "fsdp"}).update < whole.update
    resting = held(**{"devices.reference": "cpu"})
    assert whole.play - resting.play == whole.update - resting.update == shape.weights
