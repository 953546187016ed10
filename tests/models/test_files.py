"""Loading says what is wrong and what to do about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.tiny_models import folder, load_tiny
from vision_zero.config import LoraConfig, ModelConfig
from vision_zero.errors import UserError
from vision_zero.models import files
from vision_zero.models.base import load


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A copy of a good model, to be damaged."""
    return Path(shutil.copytree(folder("internvl"), tmp_path / "model"))


def fails(path: Path | str, match: str, **settings: object) -> None:
    with pytest.raises(UserError, match=match):
        load(ModelConfig.model_validate({"path": str(path), **settings}), device="cpu")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", r"cannot load model .*nowhere.*give `nano`, a folder")


def test_an_empty_folder(tmp_path: Path) -> None:
    fails(tmp_path, r"(?s)cannot load model|config\.json is missing")


def test_an_unknown_family_lists_the_known_ones(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "talking_horse"}))
    fails(broken, r"unknown model type 'talking_horse'; known are idefics3, internvl, qwen2_5_vl, qwen3_vl, smolvlm")


def test_the_original_internvl_is_refused_with_the_way_to_convert_it(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "internvl_chat"}))
    fails(broken, rf"convert_internvl_weights_to_hf\.py --input_dir {broken} --output_dir {broken}-hf")


def test_the_family_goes_by_the_configuration_not_by_the_name(tmp_path: Path) -> None:
    misnamed = Path(shutil.copytree(folder("internvl"), tmp_path / "Qwen2.5-VL-7B-Instruct"))
    assert load(ModelConfig(path=str(misnamed)), device="cpu").family.model_types == ("internvl",)


def test_missing_weights_are_not_made_up(broken: Path) -> None:
    weights = load_file(broken / "model.safetensors")
    gone = next(k for k in weights if "mlp" in k)
    save_file({k: v for k, v in weights.items() if k != gone}, broken / "model.safetensors", metadata={"format": "pt"})
    fails(broken, r"lack 1 weights")


def test_no_weights_at_all(broken: Path) -> None:
    (broken / "model.safetensors").unlink()
    fails(broken, r"cannot load model")


def test_a_contradiction_of_lora_and_training(broken: Path) -> None:
    fails(broken, r"contradicts model\.train=language", train="language", lora={"where": "language+vision"})


def test_a_tile_is_the_least_that_internvl_sees(broken: Path) -> None:
    fails(broken, r"set it to 3136 or more", max_pixels=100)


def test_restoring_another_kind_of_weights(tmp_path: Path) -> None:
    adapter = load_tiny("internvl", lora=LoraConfig(rank=2, alpha=4))
    adapter.save(tmp_path / "adapter")
    with pytest.raises(UserError, match="model"):
        load_tiny("internvl").restore(folder("qwen2_5_vl"))
    with pytest.raises(UserError, match="adapter"):
        adapter.restore(folder("internvl"))
    with pytest.raises(UserError, match="adapter"):
        load_tiny("internvl", lora=LoraConfig(rank=4, alpha=4)).restore(tmp_path / "adapter")


def test_an_adapter_needs_lora_in_the_configuration(tmp_path: Path) -> None:
    load_tiny("internvl", lora=LoraConfig(rank=2, alpha=4)).save(tmp_path)
    fails(tmp_path, r"model\.lora")


def test_nano_without_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.resources, "files", lambda _package: tmp_path)
    fails("nano", r"vision-zero nano make")


def test_no_progress_bars_tear_the_display(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    load_tiny("internvl").save(tmp_path)
    captured = capfd.readouterr()
    assert "%|" not in captured.err + captured.out
