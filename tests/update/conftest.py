from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from tests.tiny_models import load_tiny
from vision_zero.config import RunConfig
from vision_zero.models.base import VLM
from vision_zero.update.updater import Updater

torch.set_num_threads(1)


@pytest.fixture
def make() -> Callable[..., tuple[VLM, Updater]]:
    """A fresh model and its updater: `make(family, lora={...}, train=..., update={...}, ...)`."""

    def build_both(
        family: str = "qwen2_5_vl",
        update: dict[str, Any] | None = None,
        run: dict[str, Any] | None = None,
        **model: Any,
    ) -> tuple[VLM, Updater]:
        torch.manual_seed(0)  # LoRA's first matrices are drawn from the global generator
        vlm = load_tiny(family, **model)
        config = RunConfig.model_validate({"model": vlm.config.model_dump(), "update": update or {}, **(run or {})})
        return vlm, Updater(vlm, vlm.reference(), config, Accelerator(cpu=True), total_steps=10)

    return build_both
