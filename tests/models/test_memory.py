"""Memory that ends, by allocations that are really too large."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.tiny_models import load_tiny
from vision_zero.errors import UserError
from vision_zero.models.memory import memory_for
from vision_zero.rollouts.engine import Request
from vision_zero.rollouts.hf import HfEngine
from vision_zero.types import Message, TextPart

TOO_MUCH: dict[str, Callable[[], object]] = {
    "torch": lambda: torch.empty(2**52),
    "numpy": lambda: np.empty(2**52),
    "python": lambda: bytearray(2**55),
}


@pytest.mark.parametrize("who", TOO_MUCH)
def test_it_is_told(who: str) -> None:
    with (
        pytest.raises(UserError, match=r"out of memory in a test: lower everything\."),
        memory_for("a test", "lower everything"),
    ):
        TOO_MUCH[who]()


def test_that_of_a_gpu_too() -> None:
    with pytest.raises(UserError, match="Tried to allocate 2 GiB"), memory_for("a test", "lower everything"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


def test_other_errors_are_as_they_were() -> None:
    with pytest.raises(RuntimeError, match="shape"), memory_for("a test", "lower everything"):
        torch.ones(2, 3) @ torch.ones(2, 3)


def test_play_names_its_batch_and_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = load_tiny("qwen2_5_vl")
    prompt = vlm.encode((Message("user", (TextPart("a clue\n"),)),))
    monkeypatch.setattr(vlm, "forward_hidden", lambda *_: torch.empty(2**52))
    with pytest.raises(UserError) as e:
        HfEngine(vlm, 7).generate([Request(prompt, (), 1, 5, 1.0)])
    assert f"in play, on 1 completions of prompts of up to {len(prompt.ids)} tokens and 5 new ones" in str(e.value)
    assert "lower rollouts.batch_size (it is 7)" in str(e.value)
