"""What is computed once, for every kind of log-prob; and what happens where nothing can be shared."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.test_train import config, short
from tests.tiny_models import FAMILIES, folder, load_tiny
from tests.update.made_samples import as_sampled, game, games
from vision_zero.config import ModelConfig
from vision_zero.distributed import make_accelerator
from vision_zero.errors import UserError
from vision_zero.models import files
from vision_zero.models.base import VLM, load
from vision_zero.models.tree_attention import TreeMask
from vision_zero.runs.store import RunStore
from vision_zero.train import Trainer
from vision_zero.types import Picture, Sample
from vision_zero.update.updater import Updater

Make = Callable[..., tuple[VLM, Updater]]
STILL = {"learning_rate": 1e-12, "warmup": 0, "epochs": 2}
"""Two updates, so that there are old log-probs, that hardly move the weights."""


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Which masks the model is given."""
    given: list[type] = []
    real = VLM.forward_hidden

    def forward_hidden(self: VLM, ids: Any, mask: Any, *more: Any) -> torch.Tensor:
        given.append(type(mask))
        return real(self, ids, mask, *more)

    monkeypatch.setattr(VLM, "forward_hidden", forward_hidden)
    return given


def move(vlm: VLM) -> None:
    """Away from the frozen start."""
    for name, p in vlm.trainable():
        p.data.add_(0.03 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))))


def a_step(
    vlm: VLM, updater: Updater, samples: Sequence[Sample], pictures: Mapping[str, Picture]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, float]]:
    """Old and reference log-probs, all gradients up to a factor, and the metrics."""
    scored = updater.prepare(samples, pictures)
    metrics = updater.step(scored, pictures)
    adam = updater.state_dict()["optimizer"]["adam"]["state"]
    assert scored.old is not None
    assert scored.reference is not None
    return scored.old, scored.reference, torch.cat([adam[i]["exp_avg"].flatten() for i in sorted(adam)]), metrics


@pytest.mark.parametrize("model", [{}, {"lora": {"rank": 4}}], ids=["all", "LoRA"])
def test_old_reference_and_gradient_all_come_from_trees(make: Make, masks: list[type], model: dict[str, Any]) -> None:
    found = []
    for pack in ("tree", "none"):
        vlm, updater = make(update=STILL | {"pack": pack}, **model)
        move(vlm)
        samples, pictures = game(vlm, "g")
        samples = as_sampled(updater, samples, pictures)
        masks.clear()
        found.append(a_step(vlm, updater, samples, pictures))
        assert len(masks) == 4, "old, reference, two updates"
        assert set(masks) == {TreeMask if pack == "tree" else torch.Tensor}
    packed, apart = found
    for a, b in zip(packed[:2], apart[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert (packed[0] - packed[1]).abs().max() > 0.01, "old and reference are two models"
    assert float((packed[2] - apart[2]).norm()) < 1e-5 * float(apart[2].norm())
    for name in ("loss", "kl", "entropy", "gradient_norm"):
        assert packed[3][name] == pytest.approx(apart[3][name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tower_and_the_head_read_nothing_twice(make: Make, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower each picture once though two games show it; the head only nodes that predict a sampled token."""
    vlm, updater = make(family)
    samples, pictures = game(vlm, "a")
    scored = updater.pack(samples + game(vlm, "b")[0], pictures)
    assert len(scored.trees) == 2 * len(pictures)
    towers: list[int] = []
    headed: list[int] = []
    shown: list[int] = []
    real = vlm.family.features

    def features(backbone: Any, given: Sequence[Any]) -> Any:
        shown.append(len(given))
        return real(backbone, given)

    monkeypatch.setattr(type(vlm.family), "features", lambda _, backbone, given: features(backbone, given))
    hooks = [
        vlm.vision_parts[0].register_forward_hook(lambda *_: towers.append(1)),
        vlm.network.get_output_embeddings().register_forward_hook(lambda _, given, __: headed.append(len(given[0]))),
    ]
    try:
        updater.score(scored, pictures)
    finally:
        for hook in hooks:
            hook.remove()
    assert (len(towers), shown) == (1, [len(pictures)])
    predicting = sum(len({int(n) for nodes in tree.predictors for n in nodes}) for tree in scored.trees)
    assert headed == [predicting]
    assert predicting < len(scored.sampling), "equal votes predict from the same nodes"
    assert predicting < 0.5 * sum(map(len, scored.trees))


def test_a_frozen_tower_reads_each_picture_once_for_all(make: Make) -> None:
    vlm, updater = make(update=STILL, train="language")
    samples, pictures = games(vlm, 2)
    runs: list[int] = []
    # The reference has the same tower.
    hook = vlm.vision_parts[0].register_forward_hook(lambda *_: runs.append(1))
    try:
        for _ in range(2):
            a_step(vlm, updater, as_sampled(updater, samples, pictures), pictures)
    finally:
        hook.remove()
    assert len(runs) == len(pictures)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """`flash_attention_2` with sdpa's kernel: it needs a GPU, and what is asked of it does not."""
    read = files.read

    def without_kernel(path: str, config: ModelConfig) -> tuple[Any, Any]:
        return read(path, config.model_copy(update={"attention": "sdpa"}))

    monkeypatch.setattr(files, "read", without_kernel)


def windowed(vlm: VLM) -> VLM:
    """The same weights with a window of 16 tokens in the second layer."""
    text = vlm.network.config.get_text_config()
    text.layer_types = ["full_attention", "sliding_attention", *text.layer_types[2:]]
    text.use_sliding_window, text.sliding_window = True, 16
    return VLM(type(vlm.network)(vlm.network.config).eval(), vlm.processor, vlm.config)


@pytest.mark.usefixtures("flash")
def test_flash_attention_computes_samples_apart_with_a_word(make: Make, masks: list[type], tmp_path: Path) -> None:
    vlm, updater = make(attention="flash_attention_2", update=STILL)
    samples, pictures = game(vlm, "g")
    metrics = a_step(vlm, updater, as_sampled(updater, samples, pictures), pictures)[3]
    assert metrics["tokens/packed"] == metrics["tokens/unpacked"]
    assert set(masks) == {torch.Tensor}
    assert updater.apart is not None

    said = Console(file=io.StringIO(), width=200)
    settings = config({**short(), "model.attention": "flash_attention_2"})
    store = RunStore.create(tmp_path, settings, tmp_path / "run")
    Trainer(settings, store, make_accelerator(cpu=True), said).dealer.close()
    assert isinstance(said.file, io.StringIO)
    assert f"trained apart, as with update.pack=none: {updater.apart}" in said.file.getvalue()
    assert "model.attention=flash_attention_2" in updater.apart


def test_what_packs_and_what_was_asked_to_be_apart_needs_no_word(make: Make) -> None:
    assert make()[1].apart is None
    assert make(update={"pack": "none"})[1].apart is None


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_flash_attention_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"(?i)flash"):
        load(ModelConfig(path=str(folder("qwen2_5_vl")), attention="flash_attention_2"), device="cpu")


def test_layers_with_a_window_are_computed_apart_and_their_trees_refused_by_name(make: Make) -> None:
    """A mask over all pairs would be taken as it is and the window be forgotten in silence."""
    vlm = windowed(load_tiny("qwen2_5_vl"))
    _, updater = make()
    samples, pictures = game(vlm, "g")
    updater = Updater(vlm, vlm.reference(), updater._config, updater._accelerator, 10)
    assert "sliding_attention" in str(updater.apart)
    scored = updater.pack(samples, pictures)
    logprobs = updater.score(scored, pictures)
    prompt, ids = samples[1].prompt, samples[1].ids
    whole = torch.tensor([prompt.ids + ids])
    with torch.no_grad():
        logits = vlm.network(
            input_ids=whole,
            mm_token_type_ids=(whole == vlm.image_token_id).long(),
            **vlm.pixels([pictures[sha] for sha in prompt.pictures]),
        ).logits[0, len(prompt.ids) - 1 : -1]
    expected = vlm.mask_forbidden(logits).log_softmax(-1).gather(1, whole[0, len(prompt.ids) :, None])[:, 0]
    torch.testing.assert_close(logprobs[scored.owner == 1], expected, rtol=1e-5, atol=1e-5)
    updater._pack = "tree"
    with pytest.raises(UserError, match=r"sliding_attention layers.*set update\.pack=none"):
        updater.score(updater.pack(samples, pictures), pictures)
