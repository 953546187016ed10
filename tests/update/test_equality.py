"""Packed or apart: the same log-probs and the same gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tiny_models import FAMILIES, load_tiny, picture
from tests.update.made_samples import game, games
from vision_zero.models.base import VLM
from vision_zero.types import Message, Picture, PicturePart, Sample, TextPart
from vision_zero.update.samples import flatten
from vision_zero.update.scorer import Scorer
from vision_zero.update.tree import build_trees, collate, plan

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def plain() -> dict[str, VLM]:
    """Everything trainable; not to be changed."""
    return {family: load_tiny(family) for family in FAMILIES}


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


def assert_equal(vlm: VLM, samples: list[Sample], pictures: dict[str, Picture], per_batch: int = 2048) -> None:
    """Every log-prob and the gradient of every weight, relative to itself."""
    logprobs, entropies, gradients = scores(vlm, samples, pictures, "tree", per_batch)
    expected, expected_entropies, expected_gradients = scores(vlm, samples, pictures, "none")
    torch.testing.assert_close(logprobs, expected, rtol=TOLERANCE, atol=1e-6)
    torch.testing.assert_close(entropies, expected_entropies, rtol=TOLERANCE, atol=1e-6)
    assert gradients.keys() == expected_gradients.keys()
    largest = max(float(g.abs().max()) for g in expected_gradients.values())
    assert largest > 1e-3
    for name, expected_gradient in expected_gradients.items():
        error = float((gradients[name] - expected_gradient).norm())
        # Where the gradient is 0 but for rounding (biases of keys), relative to the whole one.
        assert error <= TOLERANCE * max(float(expected_gradient.norm()), 1e-3 * largest), name


def pictures_among_words(vlm: VLM) -> tuple[list[Sample], dict[str, Picture]]:
    """A game whose prompts show two pictures of different sizes, one or none, and branch before, between, behind."""
    a, b = picture(1, 84, 56), picture(2, 56, 112)
    ids = (40, 41, min(vlm.end_ids))

    def ask(*parts: str | Picture) -> Sample:
        message = Message("user", tuple(TextPart(p) if isinstance(p, str) else PicturePart(p) for p in parts))
        return Sample(vlm.encode([message]), ids, (-1.0,) * 3, 1.0, "x", "g2", 0)

    samples = [
        ask(a, "red\n", b, "cube\n"),
        ask(a, "red\n", b, "spy\n"),
        ask(a, "blue\n", b, "spy\n"),
        ask(b, "red\n", a, "cube\n"),
        ask(a, "red\n"),
        ask("no picture\n"),
    ]
    return samples, {p.sha: p for p in (a, b)}


def everything(vlm: VLM) -> tuple[list[Sample], dict[str, Picture]]:
    """A played game, and one with several pictures in a prompt."""
    (played, shown), (others, more) = game(vlm, "g1", seats=2), pictures_among_words(vlm)
    return played + others, shown | more


def load_moved(family: str, **settings: Any) -> VLM:
    """A fresh adapter is zero: move it, so that both its matrices have gradients."""
    torch.manual_seed(0)
    vlm = load_tiny(family, **settings)
    if vlm.adapted:
        for name, p in vlm.trainable():
            torch.nn.init.normal_(p.data, std=0.05, generator=torch.Generator().manual_seed(len(name)))
    return vlm


TRAINED: dict[str, dict[str, Any]] = {
    "all": {},
    "all, checkpointing": {"gradient_checkpointing": True},
    "language, checkpointing": {"train": "language", "gradient_checkpointing": True},
    "LoRA, vision too": {"lora": {"rank": 4, "where": "language+vision"}},
    "LoRA, checkpointing": {"lora": {"rank": 4}, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("family", FAMILIES)
def test_games_packed_equal_their_samples_apart(family: str, trained: str) -> None:
    vlm = load_moved(family, **TRAINED[trained])
    assert vlm.vision_frozen == (trained in ("language, checkpointing", "LoRA, checkpointing"))
    samples, shown = everything(vlm)
    assert_equal(vlm, samples, shown)
    assert all(p.grad is not None for _, p in vlm.trainable())


def test_eager_attention_too() -> None:
    """It adds masks to scores: with a mask of bools, log-probs would be off by whole nats."""
    vlm = load_tiny("qwen2_5_vl", attention="eager")
    samples, shown = everything(vlm)
    assert_equal(vlm, samples, shown)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "internvl"])
def test_in_bfloat16_packing_adds_nothing_to_the_rounding(family: str) -> None:
    rounded, exact = load_tiny(family, dtype="bfloat16"), load_tiny(family)
    exact.model.load_state_dict({n: w.float() for n, w in rounded.model.state_dict().items()})
    samples, shown = everything(rounded)
    for p in shown.values():  # positions need the shapes of pictures that this model has read
        exact.placeholders(p)
    expected, _, true = scores(exact, samples, shown, "none")
    errors = []
    for pack in ("none", "tree"):
        logprobs, _, gradients = scores(rounded, samples, shown, pack)
        wrong = torch.stack([(gradients[n].float() - g).norm() for n, g in true.items()]).norm()
        errors.append((float((logprobs - expected).abs().mean()), float(wrong)))
    (apart, apart_gradient), (packed, packed_gradient) = errors
    assert 1e-4 < apart < 0.2
    assert packed < 1.3 * apart
    assert packed_gradient < 1.3 * apart_gradient


def test_apart_is_what_transformers_computes(plain: dict[str, VLM]) -> None:
    vlm = plain["qwen2_5_vl"]
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


def test_two_pictures_with_equal_placeholders_are_told_apart(plain: dict[str, VLM]) -> None:
    vlm = plain["qwen2_5_vl"]
    samples, pictures = game(vlm, "g")
    common = next(s for s in samples if s.label == "clue/civilian")
    [odd] = {p for s in samples for p in s.prompt.pictures} - set(common.prompt.pictures)
    twin = replace(common, prompt=replace(common.prompt, pictures=(odd,)))
    assert twin.prompt.ids == common.prompt.ids
    logprobs, _, _ = scores(vlm, [common, twin], pictures, "tree")
    n = len(common.ids)
    assert (logprobs[:n] - logprobs[n:]).abs().max() > 0.01
    assert_equal(vlm, [common, twin], pictures)


@pytest.mark.parametrize("block", [7, 10_000])
def test_trees_that_share_a_row(plain: dict[str, VLM], monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr("vision_zero.models.tree_attention.BLOCK", block)
    vlm = plain["qwen2_5_vl"]
    samples, pictures = games(vlm, 2)
    trees = build_trees(samples, vlm.positions, [vlm.image_token_id], 2048)
    assert any(len(row) > 1 for rows in plan(trees, 2048) for row in rows)
    assert_equal(vlm, samples, pictures)


def test_logits_in_pieces_are_the_same(plain: dict[str, VLM], monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = plain["qwen2_5_vl"]
    samples, pictures = game(vlm, "g")
    whole = scores(vlm, samples, pictures, "tree")
    monkeypatch.setattr("vision_zero.update.scorer.MAX_LOGITS", 7 * 512)
    pieces = scores(vlm, samples, pictures, "tree")
    torch.testing.assert_close(pieces[0], whole[0])
    torch.testing.assert_close(pieces[1], whole[1])
    torch.testing.assert_close(pieces[2], whole[2], rtol=1e-4, atol=1e-6)


SHOWN = (picture(1, 56, 56), picture(2, 56, 56), picture(3, 112, 56))
"""The first two have the same placeholders."""
PARTS = st.lists(st.sampled_from(["red\n", "blue\n", "1 : spy\n", *SHOWN]), min_size=1, max_size=3)


@given(st.sampled_from(FAMILIES), st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_trees(plain: dict[str, VLM], family: str, data: st.DataObject) -> None:
    """Prompts that go on from one another at any place, also in front of, between and behind pictures, in trees that
    are cut wherever the limit falls."""
    vlm = plain[family]
    grown: list[list[str | Picture]] = [[SHOWN[0], "red\n"]]
    samples = []
    for turn in range(data.draw(st.integers(2, 7))):
        before = data.draw(st.sampled_from(grown))
        parts = before[: data.draw(st.integers(0, len(before)))] + data.draw(PARTS)
        grown.append(parts)
        message = Message("user", tuple(TextPart(p) if isinstance(p, str) else PicturePart(p) for p in parts))
        ids = tuple(data.draw(st.lists(st.integers(40, 43), min_size=1, max_size=5)))
        episode = data.draw(st.sampled_from("aab"))
        samples.append(Sample(vlm.encode([message]), ids, (-1.0,) * len(ids), 1.0, "x", episode, turn))
    longest = max(len(s.prompt.ids) + len(s.ids) for s in samples)
    assert_equal(vlm, samples, {p.sha: p for p in SHOWN}, longest + data.draw(st.integers(0, 200)))
