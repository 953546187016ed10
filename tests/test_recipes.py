"""Every recipe parses, says where it comes from, and holds what its name promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vision_zero.config import CreditConfig, RunConfig, StageConfig, load_config
from vision_zero.credit.stages import StageScheduler
from vision_zero.types import Stage

FOLDER = Path(__file__).parents[1] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes() -> None:
    assert {"nano", "qwen2_5_vl_7b_clevr", "published_code", "internvl3_8b_clevr"} <= {r.stem for r in RECIPES}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.stem)
def test_recipe_parses_and_is_commented(recipe: Path) -> None:
    config = load_config(recipe)
    assert config.name == recipe.stem
    assert recipe.read_text().startswith("# ")
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config, "a resolved recipe reads back as itself"


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.stem)
def test_recipe_names_no_key_twice(recipe: Path) -> None:
    """YAML would silently keep the last one."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    yaml.load(recipe.read_text(), Strict)


def test_the_main_recipe_has_the_papers_values_and_they_are_the_defaults() -> None:
    config = load_config(FOLDER / "qwen2_5_vl_7b_clevr.yaml")
    assert (config.steps, config.games_per_step, config.pairs.kind) == (100, 128, "clevr")
    assert config.credit == CreditConfig(), "the paper's credit is the default"
    assert config.credit.stages == StageConfig(
        rho=0.95, accuracy_up=0.9, na_down=0.1, error_up=0.4, na_up=0.5, min_dwell=5, patience=20
    )
    assert (config.credit.beta, config.credit.lam, config.credit.rae_alpha) == (0.1, 0.1, 0.95)
    assert (config.update.learning_rate, config.update.kl) == (1e-5, 0.04)
    assert load_config(FOLDER / "internvl3_8b_clevr.yaml").credit == config.credit


@pytest.mark.parametrize("accuracy", [0.2, 0.35, 0.45, 0.55, 0.65])
def test_nano_trains_both_stages_whatever_is_measured(accuracy: float) -> None:
    config = load_config(FOLDER / "nano.yaml")
    scheduler = StageScheduler(config.credit.stages)
    trained = []
    for _ in range(config.steps):
        trained.append(scheduler.stage)
        scheduler.update(accuracy, 0.05)
    assert 5 <= trained.count(Stage.CLUE) <= 40
    assert trained.count(Stage.DECISION) >= 10
