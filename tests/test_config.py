from __future__ import annotations

from pathlib import Path

import pytest

from vision_zero.config import RunConfig, load_config
from vision_zero.errors import UserError


def test_defaults_need_no_recipe() -> None:
    assert load_config(None) == RunConfig()


def test_overrides_reach_any_depth_and_are_yaml() -> None:
    config = load_config(
        None,
        ["credit.stages.patience=null", "pairs={kind: clevr, objects: [3, 5]}", "update.learning_rate=3e-4", "name=x"],
    )
    assert config.credit.stages.patience is None
    assert config.pairs.objects == (3, 5)  # type: ignore[union-attr]
    assert (config.update.learning_rate, config.name) == (3e-4, "x")


def test_overrides_win_over_the_recipe_and_may_fill_an_empty_branch(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: 7\nseed: 3\nmodel:\n  lora: null\n")
    config = load_config(recipe, ["steps=9", "model.lora.rank=4"])
    assert (config.steps, config.seed) == (9, 3)
    assert config.model.lora is not None
    assert config.model.lora.rank == 4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stepps=3", ["unknown key 'stepps'", "did you mean 'steps'"]),
        ("credit.stages.patiance=3", ["'credit.stages.patiance'", "did you mean 'patience'"]),
        ("xyzzy.plugh=1", ["unknown key 'xyzzy'"]),
        ("steps", ["--set 'steps'", "a.b=c"]),
        ("=3", ["--set '=3'", "a.b=c"]),
        ("steps=[1", ["--set 'steps=[1'", "not a YAML value"]),
        ("steps=0", ["steps", "greater than 0"]),
        ("steps=many", ["steps", "valid integer"]),
        ("name.first=x", ["name"]),
        ("game.spies=3", ["spies=3", "fewer than civilians=3", "lower game.spies"]),
        ("credit.group=voter", ["credit.group=voter", "game.votes_per_voter of 2 or more"]),
        ("game.voters=analyst", ["one analyst vote", "set game.votes_per_voter"]),
        ("credit.stages.patience=2", ["patience=2", "min_dwell=5", "raise credit.stages.patience"]),
        ("credit.stages={rho: 1, bias_correction: true}", ["rho=1", "lower credit.stages.rho"]),
        ("rollouts.opponents={civilian: frozen, spy: frozen}", ["every role is frozen", "remove one"]),
        ("rollouts.opponents={civilian: frozen}", ["no vote is the policy's", "credit.stages.schedule=clue"]),
        ("rollouts.opponents={judge: frozen}", ["rollouts.opponents"]),
    ],
)
def test_mistakes_are_named_with_the_remedy(override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load_config(None, [override])
    assert [w for w in words if w not in str(error.value)] == [], str(error.value)


def test_a_format_bonus_without_thoughts_is_refused() -> None:
    with pytest.raises(UserError, match=r"no private thought.*set credit\.format_bonus=0"):
        load_config(None, ["game.wording=compact", "credit.format_bonus=0.3"])


def test_an_override_below_a_plain_value_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("steps: 7\n")
    with pytest.raises(UserError, match="'steps' has no settings below it"):
        load_config(recipe, ["steps.more=3"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b\n", "not a YAML mapping"),
        ("steps: [1\n", "cannot read recipe"),
        ("", "not a YAML mapping"),
        ("update: {lr: 1}\n", "unknown key 'update.lr'"),
    ],
)
def test_a_bad_recipe_names_its_file(tmp_path: Path, text: str, words: str) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text(text)
    with pytest.raises(UserError, match=words) as error:
        load_config(recipe)
    assert "bad.yaml" in str(error.value)


def test_a_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read recipe .*gone\.yaml"):
        load_config(tmp_path / "gone.yaml")


def test_values_never_change_after_construction() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().steps = 3  # type: ignore[misc]


def test_a_reference_that_is_no_copy_cannot_be_off_loaded() -> None:
    settings = ["model.lora={rank: 2, alpha: 4}", "devices.reference=cpu"]
    with pytest.raises(UserError, match=r"remove devices\.reference"):
        load_config(None, settings)


@pytest.mark.parametrize("other", ["devices.shard=fsdp", "rollouts.engine=vllm"])
def test_only_what_sums_in_one_order_is_reproducible(other: str) -> None:
    assert load_config(None, ["reproducible=true"]).reproducible
    with pytest.raises(UserError, match=r"reproducible needs rollouts\.engine=hf and devices\.shard=none"):
        load_config(None, ["reproducible=true", other])
