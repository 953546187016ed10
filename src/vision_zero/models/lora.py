"""Low-rank adapters through PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peft
import torch

from vision_zero.config import ModelConfig
from vision_zero.errors import UserError
from vision_zero.seeds import derive_seed


def add_adapter(model: Any, config: ModelConfig, vision_parts: Sequence[str]) -> peft.PeftModel:
    """Wrap a Transformers model with adapters on every linear layer of the parts that `config.lora` names.

    The language head gets none. Everything but the adapters is frozen.
    """
    lora = config.lora
    assert lora is not None
    if lora.where == "language+vision" and config.train == "language":
        raise UserError("model.lora.where=language+vision contradicts model.train=language: set model.train=all")
    not_here = rf".*\b({'|'.join(vision_parts)})\..*" if lora.where == "language" else None
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        exclude_modules=not_here,
    )
    # PEFT draws the first matrices from the global generator: give it a state of its own, equal in every process.
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed("lora"))
        return peft.get_peft_model(model, settings)
