"""Weights on disk have other names than in the module, for Qwen2.5-VL and InternVL. A loader that gives the file to the
module and forgives what does not match loads next to nothing, and the run trains on from the initial weights (so the
Trainer of Transformers 5 does when it resumes). Ours puts every weight back or refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny_models import load_tiny
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.runs import checkpoint

FAMILIES = ("qwen2_5_vl", "internvl")


def trained(family: str) -> VLM:
    """As if training had moved every weight."""
    vlm = load_tiny(family)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, weight in vlm.trainable():
            weight.add_(0.01 * torch.randn(weight.shape, generator=generator))
    return vlm


def weights(vlm: VLM) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in vlm.network.state_dict().items()}


def equal(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    return [name for name in a if torch.equal(a[name], b[name])]


@pytest.fixture(params=FAMILIES)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[VLM, Path]:
    vlm = trained(request.param)
    return load_tiny(request.param), checkpoint.save(tmp_path, 1, vlm, {}).path / "model"


def test_the_trap_is_there_and_ours_does_not_fall_into_it(saved: tuple[VLM, Path]) -> None:
    fresh, folder = saved
    file = load_file(folder / "model.safetensors")
    initial = weights(fresh)
    report = fresh.network.load_state_dict(file, strict=False)
    ignored = [name for name in file if name in report.unexpected_keys]
    assert len(ignored) > 0.9 * len(file), "the names agree now: this test shows nothing, remove it"
    assert len(equal(weights(fresh), initial)) > 0.9 * len(initial)

    found = checkpoint.latest(folder.parent.parent)
    assert found is not None
    checkpoint.load(found, fresh, {})
    now = weights(fresh)
    assert equal(now, initial) == []
    # what was saved, by the sum over all weights, whatever their names
    assert sorted(float(w.double().sum()) for w in file.values()) == sorted(
        {name: float(w.double().sum()) for name, w in now.items() if name != "lm_head.weight"}.values()
    )


@pytest.mark.parametrize("renamed", ["all", "one"])
def test_names_that_nobody_knows_are_refused(saved: tuple[VLM, Path], renamed: str) -> None:
    fresh, folder = saved
    file = load_file(folder / "model.safetensors")
    before = weights(fresh)
    victims = set(file) if renamed == "all" else {next(name for name in sorted(file) if "mlp" in name)}
    changed = {(f"other.{name}" if name in victims else name): w for name, w in file.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the files lack \d+ weights"):
        fresh.restore(folder)
    assert len(equal(weights(fresh), before)) == len(before), "what is refused has changed nothing"
