"""The probe meets the worst batch, leaves no trace, and says what to do when memory ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator

from tests.tiny_models import folder
from vision_zero.config import RunConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM, load
from vision_zero.plan.longest import longest_game
from vision_zero.plan.shapes import shape_of
from vision_zero.probe import probe
from vision_zero.rollouts.engine import Completion, Request
from vision_zero.rollouts.hf import HfEngine
from vision_zero.update.updater import Updater


def made(**model: Any) -> tuple[RunConfig, VLM, Updater]:
    config = RunConfig.model_validate(
        {
            "games_per_step": 1,
            "pairs": {"kind": "clevr", "width": 84, "height": 56, "count": 2},
            "game": {"wording": "compact", "rounds": 1, "max_clue_tokens": 6, "max_vote_tokens": 3},
            "model": {"path": str(folder("internvl")), **model},
        }
    )
    vlm = load(config.model, "cpu")
    return config, vlm, Updater(vlm, vlm.reference(), config, Accelerator(cpu=True), 1)


@pytest.mark.parametrize("model", [{}, {"dtype": "bfloat16"}])
def test_the_probe_leaves_no_trace(model: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config, vlm, updater = made(**model)
    weights = {n: p.clone() for n, p in vlm.model.named_parameters()}
    longest: list[int] = []
    plain = HfEngine.generate

    def watched(self: HfEngine, requests: list[Request]) -> list[Completion]:
        done = plain(self, requests)
        longest.extend(len(c.ids) for c in done)
        return done

    monkeypatch.setattr(HfEngine, "generate", watched)
    said: list[str] = []
    probe(config, vlm, updater, 1, said.append)
    assert len(said) == 2
    tick = longest_game(config, shape_of(config.model)).requests[-1]
    assert longest
    assert set(longest) <= {6, 3}, "every answer takes its whole budget"
    assert tick.budget in (6, 3)
    assert all(torch.equal(p, weights[n]) for n, p in vlm.model.named_parameters())
    assert all(p.grad is None for p in vlm.model.parameters())
    state = updater.state_dict()
    assert state["steps"] == 0
    assert not state["optimizer"]["adam"]["state"], "no moments are left"
    assert vlm.end_ids, "the model can end its turns again"


def test_memory_that_ends_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    config, vlm, updater = made()

    def full(*_: object) -> list[Completion]:
        raise torch.OutOfMemoryError("tried to allocate 9 GiB")

    monkeypatch.setattr(HfEngine, "generate", full)
    with pytest.raises(UserError, match=r"memory ends while playing at full length .*9 GiB.*vision-zero plan"):
        probe(config, vlm, updater, 1, lambda _: None)


def test_a_run_that_has_begun_is_not_rehearsed() -> None:
    _, _, updater = made()
    updater.steps = 1
    with pytest.raises(ValueError, match="before the first step"):
        updater.rehearse([], {})
