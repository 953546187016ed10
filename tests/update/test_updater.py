from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.update.made_samples import as_sampled, game, games
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.update.sight import sight_check
from vision_zero.update.tree import name
from vision_zero.update.updater import Updater

Make = Callable[..., tuple[VLM, Updater]]
RATE = {"learning_rate": 1e-3, "warmup": 0}


def weights(vlm: VLM) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in vlm.trainable()}


def first_moments(updater: Updater) -> torch.Tensor:
    """All gradients of the first step, up to a factor."""
    adam = updater.state_dict()["optimizer"]["adam"]["state"]
    return torch.cat([adam[i]["exp_avg"].flatten() for i in sorted(adam)])


def test_wanted_tokens_become_likelier_and_unwanted_ones_less(make: Make) -> None:
    vlm, updater = make(update=RATE | {"kl": 0.0})
    samples, pictures = game(vlm, "g")
    samples = [replace(s, advantage=1.0 if i % 2 else -1.0) for i, s in enumerate(samples[:3])]
    samples = as_sampled(updater, samples, pictures)
    scored = updater.prepare(samples, pictures)
    before = updater.score(scored, pictures)
    metrics = updater.step(scored, pictures)
    change = updater.score(scored, pictures) - before
    for i in range(3):
        assert (float(change[scored.owner == i].mean()) > 0) == (i % 2 == 1)
    assert "kl" not in metrics
    assert not vlm.model.training


def test_metrics_of_a_faithful_step(make: Make) -> None:
    vlm, updater = make(update=RATE)
    samples, pictures = games(vlm, 2)
    samples = as_sampled(updater, samples, pictures)
    metrics = updater.step(updater.prepare(samples, pictures), pictures)
    assert metrics["samples"] == len(samples)
    assert metrics["tokens/sampled"] == sum(len(s.ids) for s in samples)
    assert metrics["tokens/unpacked"] == sum(len(s.prompt.ids) + len(s.ids) - 1 for s in samples)
    assert metrics["tokens/packed"] < 0.5 * metrics["tokens/unpacked"]
    assert metrics["ratio"] == metrics["ratio/max"] == 1
    assert metrics["sampler_difference/max"] < 1e-4
    assert metrics["kl"] == pytest.approx(0, abs=1e-6)
    assert metrics["learning_rate"] == 1e-3
    assert 0 < metrics["entropy/decision"] < 7
    # On policy each sequence contributes its advantage.
    mean = sum(s.advantage or 0 for s in samples) / len(samples)
    assert metrics["loss"] == pytest.approx(-mean, abs=1e-5)
    assert {k for k in metrics if k.startswith("seconds/")} == {
        f"seconds/{phase}" for phase in ("pack", "reference", "forward", "backward", "optimizer")
    }


def test_micro_batches_do_not_change_the_gradient(make: Make) -> None:
    gradients = []
    for tokens in (4096, 256):
        vlm, updater = make(update=RATE | {"tokens_per_batch": tokens})
        samples, pictures = games(vlm, 3)
        samples = [replace(s, advantage=None if s.label == "decision" else s.advantage) for s in samples]
        updater.step(updater.prepare(as_sampled(updater, samples, pictures), pictures), pictures)
        gradients.append(first_moments(updater))
    assert float((gradients[0] - gradients[1]).norm()) < 1e-5 * float(gradients[0].norm())


def test_several_updates_use_log_probs_from_before_the_first(make: Make) -> None:
    vlm, updater = make(update=RATE | {"epochs": 2, "minibatches": 2, "learning_rate": 3e-3})
    samples, pictures = games(vlm, 4)
    samples = as_sampled(updater, samples, pictures)
    scored = updater.prepare(samples, pictures)
    assert scored.old is not None
    torch.testing.assert_close(scored.old, scored.sampling)
    kept = scored.old.clone()
    metrics = updater.step(scored, pictures)
    assert torch.equal(scored.old, kept)
    assert metrics["ratio/max"] > 1.05
    assert 0 < metrics["clip_fraction"] < 1
    assert metrics["sampler_difference/max"] < 1e-4
    assert "seconds/old" in metrics


def test_more_minibatches_than_games_are_refused(make: Make) -> None:
    vlm, updater = make(update=RATE | {"minibatches": 3})
    samples, pictures = game(vlm, "g")
    scored = updater.prepare(as_sampled(updater, samples, pictures), pictures)
    with pytest.raises(UserError, match=r"lower update\.minibatches"):
        updater.step(scored, pictures)


@pytest.mark.parametrize("update", [{}, {"epochs": 2}])
def test_a_sampler_that_is_another_distribution_is_refused(make: Make, update: dict[str, Any]) -> None:
    vlm, updater = make(update=RATE | update)
    samples, pictures = game(vlm, "g")
    samples = as_sampled(updater, samples, pictures)
    wrong = [replace(s, sampling_logprobs=tuple(lp - 0.6 for lp in s.sampling_logprobs)) for s in samples]
    before = weights(vlm)
    with pytest.raises(UserError, match=r"differ by 0\.6 on average"):
        updater.step(updater.prepare(wrong, pictures), pictures)
    assert all(torch.equal(before[n], w) for n, w in weights(vlm).items())
    # What the refused update has left behind does not reach the next one.
    _, other = make(update=RATE | update)
    norms = [u.step(u.prepare(samples, pictures), pictures)["gradient_norm"] for u in (updater, other)]
    assert norms[0] == norms[1]


def test_anchors_only_pull_towards_the_reference(make: Make) -> None:
    vlm, updater = make(update=RATE | {"kl": 0.0, "learning_rate": 1e-4}, run={"credit": {"anchor": 1.0}})
    samples, pictures = game(vlm, "g")
    anchors = as_sampled(updater, [replace(s, advantage=None) for s in samples], pictures)
    scored = updater.prepare(anchors, pictures)
    assert updater.step(scored, pictures)["gradient_norm"] == pytest.approx(0, abs=1e-4)
    for _, p in vlm.trainable():
        p.data.add_(0.01 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    kl = []
    for _ in range(3):
        scored = updater.prepare(as_sampled(updater, anchors, pictures), pictures)
        metrics = updater.step(scored, pictures)
        assert metrics["loss"] > 0
        kl.append(metrics["kl"])
    assert kl[0] > kl[1] > kl[2]


def test_kl_is_to_the_frozen_start_also_with_lora(make: Make) -> None:
    vlm, updater = make(update=RATE | {"learning_rate": 1e-2}, lora={"rank": 4})
    samples, pictures = game(vlm, "g")
    samples = as_sampled(updater, samples, pictures)
    start = updater.score(updater.pack(samples, pictures), pictures)
    for step in range(2):
        scored = updater.prepare(as_sampled(updater, samples, pictures), pictures)
        assert scored.reference is not None
        torch.testing.assert_close(scored.reference, start)
        metrics = updater.step(scored, pictures)
        assert (metrics["kl"] > 1e-3) == (step > 0)


def named(updater: Any) -> set[str]:
    return {name(sample) for sample in updater.offending}


def test_an_update_with_an_infinite_loss_is_skipped_and_counted(make: Make) -> None:
    vlm, updater = make(update=RATE | {"max_sampler_difference": 1e30})
    samples, pictures = game(vlm, "game-3")
    samples = as_sampled(updater, samples, pictures)
    poisoned = [replace(samples[0]), replace(samples[1], advantage=float("inf")), *samples[2:]]
    before = weights(vlm)
    for row in (1, 2):
        metrics = updater.step(updater.prepare(poisoned, pictures), pictures)
        assert metrics["skipped"] == 1
        assert updater.skipped_in_a_row == row
        assert "game-3 turn 1 (clue/civilian)" in named(updater)
        assert all(torch.equal(before[n], w) for n, w in weights(vlm).items())
    assert updater.state_dict()["skipped_in_a_row"] == 2
    metrics = updater.step(updater.prepare(samples, pictures), pictures)
    assert (metrics["skipped"], updater.skipped_in_a_row, updater.offending) == (0, 0, ())
    assert any(not torch.equal(before[n], w) for n, w in weights(vlm).items())


def test_a_gradient_that_is_not_finite_is_traced_to_its_micro_batch(make: Make) -> None:
    vlm, updater = make(update=RATE | {"tokens_per_batch": 128})
    samples, pictures = games(vlm, 2)
    samples = as_sampled(updater, samples, pictures)
    poison = samples[0].prompt.pictures[0]
    real = vlm.forward_hidden

    def forward_hidden(ids: Any, mask: Any, positions: Any, shown: Any) -> torch.Tensor:
        hidden = real(ids, mask, positions, shown)
        if poison in {p.sha for p in shown} and hidden.requires_grad:
            hidden.register_hook(lambda g: g * float("nan"))
        return hidden

    vlm.forward_hidden = forward_hidden  # type: ignore[method-assign,assignment]
    before = weights(vlm)
    metrics = updater.step(updater.prepare(samples, pictures), pictures)
    assert metrics["skipped"] == 1
    assert "000000-0000 turn 0 (clue/spy)" in named(updater)
    assert not any("000000-0001" in text for text in named(updater))
    assert all(torch.equal(before[n], w) for n, w in weights(vlm).items())


@pytest.mark.parametrize("where", ["the policy", "the reference"])
def test_memory_that_ends_is_told_with_what_to_lower(make: Make, where: str) -> None:
    vlm, updater = make(update=RATE | {"tokens_per_batch": 128})
    samples, pictures = games(vlm, 2)
    samples = as_sampled(updater, samples, pictures)

    def forward_hidden(*_: Any) -> torch.Tensor:
        return torch.empty(2**52)

    scored = updater.prepare(samples, pictures)
    vlm.forward_hidden = forward_hidden  # type: ignore[method-assign,assignment]
    with pytest.raises(UserError) as e:
        updater.step(scored, pictures) if where == "the policy" else updater.score(scored, pictures)
    doing = "an update" if where == "the policy" else "scoring"
    assert re.match(
        rf"out of memory in {doing} at step 0, on a micro-batch of \d+ x \d+ tokens \(\d+ samples\)", str(e.value)
    )
    assert "lower update.tokens_per_batch (it is 128), or set model.gradient_checkpointing=true" in str(e.value)
    assert "tried to allocate" in str(e.value)


def test_log_probs_that_do_not_match_their_ids_are_refused(make: Make) -> None:
    vlm, updater = make()
    samples, pictures = game(vlm, "g")
    with pytest.raises(ValueError, match=r"g turn 0 \(clue/spy\)"):
        updater.prepare([replace(samples[0], sampling_logprobs=(-1.0,))], pictures)


def test_sight(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, updater = make()
    samples, pictures = game(vlm, "g")
    found = sight_check(updater, samples, pictures)
    assert found["sight"] > 0.01
    kinds = {s.label.partition("/")[0] for s in samples}
    assert found.keys() == {"sight", *(f"sight/{kind}" for kind in kinds)}
    features = vlm.image_features
    first = next(iter(pictures.values()))
    monkeypatch.setattr(vlm, "image_features", lambda shown: features([first] * len(shown)))
    assert set(sight_check(updater, samples, pictures).values()) == {0}


def test_sight_needs_a_picture_with_something_in_it(make: Make) -> None:
    from vision_zero.update.sight import _blank

    vlm, updater = make()
    samples, pictures = game(vlm, "g")
    blank = _blank(next(iter(pictures.values())))
    assert blank is not None
    with pytest.raises(UserError, match="not uniform"):
        sight_check(updater, samples, dict.fromkeys(pictures, blank))
