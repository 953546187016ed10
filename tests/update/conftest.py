from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from tests.tiny_models import build
from vision_zero.config import ModelConfig, RunConfig
from vision_zero.models.base import VLM, load
from vision_zero.update.updater import Updater

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a tiny random model of a family, made once."""
    made: dict[str, Path] = {}

    def get(family: str) -> Path:
        if family not in made:
            made[family] = build(family, tmp_path_factory.mktemp(family))
        return made[family]

    return get


@pytest.fixture
def make(folder: Callable[[str], Path]) -> Callable[..., tuple[VLM, Updater]]:
    """A fresh model and its updater: `make(family, lora={...}, train=..., update={...}, ...)`."""

    def build_both(
        family: str = "qwen2_5_vl",
        update: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
        **model: Any,
    ) -> tuple[VLM, Updater]:
        torch.manual_seed(0)  # LoRA's first matrices are drawn from the global generator
        vlm = load(ModelConfig(path=str(folder(family)), **model), device="cpu")
        config = RunConfig.model_validate({"model": vlm.config.model_dump(), "update": update or {}, **(run or {})})
        return vlm, Updater(vlm, vlm.reference(), config, Accelerator(cpu=True), total_steps=10)

    return build_both
