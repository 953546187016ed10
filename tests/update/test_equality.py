"""Packed or apart: the same log-probs and the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny_models import picture
from tests.update.made_samples import game, games
from vision_zero.models.base import VLM
from vision_zero.types import Message, Picture, PicturePart, Sample, TextPart
from vision_zero.update.samples import flatten
from vision_zero.update.scorer import Scorer
from vision_zero.update.tree import build_trees, collate, plan

Make = Callable[..., Any]
TOLERANCE = 1e-5


def scores(
    vlm: VLM, samples: list[Sample], pictures: dict[str, Picture], pack: Any, per_batch: int = 2048
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probs (T,), entropies (T,) and gradients of a fixed random combination of the log-probs."""
    trees = build_trees(samples, vlm.positions, [vlm.image_token_id], per_batch, pack)
    scored = flatten(samples, trees, torch.device("cpu"))
    coefficients = torch.randn(len(scored.sampling), generator=torch.Generator().manual_seed(0))
    scorer = Scorer(vlm, temperature=0.8).train()
    logprobs, entropies = torch.empty_like(scored.sampling), torch.empty_like(scored.sampling)
    vlm.model.zero_grad(set_to_none=True)
    for rows in plan(trees, per_batch, pack):
        batch = collate(rows, samples, scored.offsets, vlm.pad_id)
        lp, entropy = scorer(batch, pictures)
        (coefficients[batch.tokens] * lp).sum().backward()
        logprobs[batch.tokens], entropies[batch.tokens] = lp.detach(), entropy
    vlm.model.eval()
    return logprobs, entropies, {n: p.grad.clone() for n, p in vlm.trainable() if p.grad is not None}


def assert_equal(vlm: VLM, samples: list[Sample], pictures: dict[str, Picture]) -> None:
    logprobs, entropies, gradients = scores(vlm, samples, pictures, "tree")
    expected, expected_entropies, expected_gradients = scores(vlm, samples, pictures, "none")
    torch.testing.assert_close(logprobs, expected, rtol=TOLERANCE, atol=TOLERANCE)
    torch.testing.assert_close(entropies, expected_entropies, rtol=TOLERANCE, atol=TOLERANCE)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(float(g.abs().max()) for g in expected_gradients.values())
    assert largest > 1e-3
    for name, expected_gradient in expected_gradients.items():
        error = float((gradients[name] - expected_gradient).norm())
        # Relative to the parameter's gradient, or to the whole one where that is all but zero (biases of keys).
        assert error <= TOLERANCE * max(float(expected_gradient.norm()), 1e-2 * largest), name


@pytest.mark.parametrize(
    ("family", "model"),
    [
        ("qwen2_5_vl", {}),
        ("qwen2_5_vl", {"attention": "eager"}),
        ("qwen2_5_vl", {"lora": {"rank": 4}, "gradient_checkpointing": True}),
        ("qwen2_5_vl", {"gradient_checkpointing": True, "train": "language"}),
        ("qwen3_vl", {}),
        ("internvl", {}),
    ],
    ids=["qwen2.5", "eager", "lora+checkpointing", "frozen vision+checkpointing", "qwen3", "internvl"],
)
def test_a_game_packed_equals_its_samples_apart(make: Make, family: str, model: dict[str, Any]) -> None:
    vlm, _ = make(family, **model)
    if model.get("lora"):  # a fresh adapter is zero: move it, so that both its matrices have gradients
        for name, p in vlm.trainable():
            torch.nn.init.normal_(p.data, std=0.05, generator=torch.Generator().manual_seed(len(name)))
    samples, pictures = game(vlm, "g", seats=4)
    assert_equal(vlm, samples, pictures)


def test_in_bfloat16_packing_adds_nothing_to_the_rounding(make: Make) -> None:
    rounded, _ = make(dtype="bfloat16")
    exact, _ = make()
    exact.model.load_state_dict({n: w.float() for n, w in rounded.model.state_dict().items()})
    samples, pictures = games(rounded, 2)
    for s in samples:  # positions need the shapes of pictures that this model has read
        assert exact.placeholders(pictures[s.prompt.pictures[0]]) > 0
    expected, _, _ = scores(exact, samples, pictures, "none")
    packed, apart = (scores(rounded, samples, pictures, pack)[0] for pack in ("tree", "none"))
    spread = float((apart - expected).abs().mean())
    assert 1e-4 < spread < 0.2
    assert float((packed - expected).abs().mean()) < 1.3 * spread


def test_apart_is_what_transformers_computes(make: Make) -> None:
    vlm, _ = make()
    samples, pictures = game(vlm, "g")
    logprobs, entropies, _ = scores(vlm, samples, pictures, "none")
    start = 0
    for s in samples:
        ids = torch.tensor([s.prompt.ids + s.ids])
        with torch.no_grad():
            logits = vlm.network(
                input_ids=ids,
                mm_token_type_ids=(ids == vlm.image_token_id).long(),
                **vlm.pixels([pictures[sha] for sha in s.prompt.pictures]),
            ).logits[0, len(s.prompt.ids) - 1 : -1]
        logits[:, sorted(vlm.forbidden_ids)] = -torch.inf
        distribution = torch.distributions.Categorical(logits=logits / 0.8)
        part = slice(start, start + len(s.ids))
        torch.testing.assert_close(logprobs[part], distribution.log_prob(torch.tensor(s.ids)), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(entropies[part], distribution.entropy(), rtol=1e-5, atol=1e-5)
        start += len(s.ids)


def test_two_pictures_with_equal_placeholders_are_told_apart(make: Make) -> None:
    vlm, _ = make()
    samples, pictures = game(vlm, "g")
    common = next(s for s in samples if s.label == "clue/civilian")
    [odd] = {p for s in samples for p in s.prompt.pictures} - set(common.prompt.pictures)
    twin = replace(common, prompt=replace(common.prompt, pictures=(odd,)))
    assert twin.prompt.ids == common.prompt.ids
    logprobs, _, _ = scores(vlm, [common, twin], pictures, "tree")
    n = len(common.ids)
    assert (logprobs[:n] - logprobs[n:]).abs().max() > 0.01
    assert_equal(vlm, [common, twin], pictures)


@pytest.mark.parametrize("block", [7, 32, 10_000])
def test_trees_that_share_a_row(make: Make, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("vision_zero.models.tree_attention.BLOCK", block)
    vlm, _ = make()
    samples, pictures = games(vlm, 3)
    trees = build_trees(samples, vlm.positions, [vlm.image_token_id], 2048)
    assert any(len(row) > 1 for rows in plan(trees, 2048) for row in rows)
    assert_equal(vlm, samples, pictures)


def test_several_pictures_in_one_prompt(make: Make) -> None:
    vlm, _ = make()
    a, b = picture(1), picture(2, 112, 168)
    ids = (40, 41, min(vlm.end_ids))

    def ask(*parts: Any) -> Sample:
        return Sample(vlm.encode([Message("user", parts)]), ids, (-1.0,) * 3, 1.0, "x", "g", 0)

    first, second = PicturePart(a), PicturePart(b)
    samples = [
        ask(first, TextPart("red\n"), second, TextPart("cube\n")),
        ask(first, TextPart("red\n"), second, TextPart("spy\n")),
        ask(first, TextPart("blue\n"), second, TextPart("spy\n")),
        ask(second, TextPart("red\n"), first, TextPart("cube\n")),
        ask(TextPart("no picture\n")),
    ]
    assert_equal(vlm, samples, {p.sha: p for p in (a, b)})


def test_logits_in_pieces_are_the_same(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, _ = make()
    samples, pictures = game(vlm, "g")
    whole = scores(vlm, samples, pictures, "tree")
    monkeypatch.setattr("vision_zero.update.scorer.MAX_LOGITS", 7 * 512)
    pieces = scores(vlm, samples, pictures, "tree")
    torch.testing.assert_close(pieces[0], whole[0])
    torch.testing.assert_close(pieces[1], whole[1])
    torch.testing.assert_close(pieces[2], whole[2], rtol=1e-4, atol=1e-6)


@given(st.data())
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_trees(make: Make, data: st.DataObject) -> None:
    vlm, _ = make()
    shown = [picture(n) for n in range(2)]
    words = st.lists(st.integers(40, 43), min_size=1, max_size=5)
    head = vlm.encode([Message("user", (PicturePart(shown[0]), TextPart("spy\n")))])
    samples = []
    for turn in range(data.draw(st.integers(2, 7))):
        sha = data.draw(st.sampled_from(shown)).sha
        vlm.placeholders(shown[0]), vlm.placeholders(shown[1])
        prompt = replace(head, ids=(*head.ids, *data.draw(words)), pictures=(sha,))
        ids = tuple(data.draw(words))
        samples.append(Sample(prompt, ids, (-1.0,) * len(ids), 1.0, "x", "g", turn))
    assert_equal(vlm, samples, {p.sha: p for p in shown})
