"""Play with the weights that are being trained. In training mode gradient checkpointing drops a cache in silence."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import DynamicCache

from tests.tiny_models import FAMILIES
from tests.update.made_samples import as_sampled, game
from vision_zero.models.base import VLM
from vision_zero.rollouts.engine import Request
from vision_zero.rollouts.hf import HfEngine
from vision_zero.types import Picture, Sample
from vision_zero.update.updater import Updater

Make = Callable[..., tuple[VLM, Updater]]


def played(vlm: VLM, asked: list[Request], in_training: bool) -> list[Sample]:
    """Completions as samples. The prompts are read one after the other, each going on from what the last has left."""
    samples = []
    vlm.model.train(in_training)
    engine = HfEngine(vlm, 4, trunk_bytes=2**30)
    with engine.fixed_weights():
        for turn, request in enumerate(asked):
            [done] = engine.generate([request])
            samples.append(Sample(request.prompt, done.ids, done.logprobs, 1.0, "clue/spy", "g", turn))
    assert vlm.model.training == in_training
    vlm.model.eval()
    return samples


def as_trained(updater: Updater, samples: list[Sample], pictures: dict[str, Picture]) -> None:
    """Their log-probs are those of an update, which uses no cache."""
    for sample, scored in zip(samples, as_sampled(updater, samples, pictures), strict=True):
        assert sample.sampling_logprobs == pytest.approx(scored.sampling_logprobs, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_play_is_right_before_and_after_an_update_with_checkpointing(make: Make, family: str) -> None:
    vlm, updater = make(family, update={"learning_rate": 1e-3, "warmup": 0}, gradient_checkpointing=True)
    made, pictures = game(vlm, "g", votes=1)
    asked = [
        Request(
            s.prompt, tuple(pictures[sha] for sha in s.prompt.pictures), 7 * i, 5, updater._config.rollouts.temperature
        )
        for i, s in enumerate(made[1:4])
    ]
    before = played(vlm, asked, in_training=False)
    as_trained(updater, before, pictures)
    updater.step(updater.prepare(before, pictures), pictures)
    after = played(vlm, asked, in_training=False)
    as_trained(updater, after, pictures)
    assert after != before
    assert played(vlm, asked, in_training=True) == after


def test_a_cache_in_training_mode_is_refused(make: Make) -> None:
    vlm, _ = make(gradient_checkpointing=True)
    ids = torch.tensor([[40, 41]])
    vlm.model.train()
    with pytest.raises(ValueError, match="eval mode"):
        vlm.forward_hidden(ids, None, torch.arange(2).expand(3, 1, 2), (), DynamicCache())
