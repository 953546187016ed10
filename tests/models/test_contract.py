"""What every model family must do. A new family is done when it passes here."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.tiny_models import FAMILIES, HOLES, load_tiny, picture
from vision_zero.config import LoraConfig, ModelConfig
from vision_zero.models.base import VLM, load
from vision_zero.models.tree_attention import tree_mask
from vision_zero.types import Message, Picture, PicturePart, Prompt, TextPart

PICTURES = (picture(1), picture(2, 100, 200), picture(3, 56, 56))
FIVE = (picture(11), picture(12, 100, 200), picture(13, 56, 56), picture(14, 224, 56), picture(15, 120, 90))
SPECIAL = ("<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|image_pad|>", "<|vision_start|>", "<img>", "<IMG_CONTEXT>")


def message(*parts: str | Picture) -> Message:
    return Message("user", tuple(TextPart(p) if isinstance(p, str) else PicturePart(p) for p in parts))


def conversations() -> list[tuple[Message, ...]]:
    """With no, one and two pictures of different sizes, of different lengths."""
    a, b, _ = PICTURES
    return [
        (message("one clue please\n"),),
        (Message("system", (TextPart("you play a game\n"),)), message(a, "1 : a red cube .\n", "2 :\n")),
        (message("first ", a, " then ", b, "which is the spy ?\n"),),
    ]


def five() -> tuple[Message, ...]:
    """Five pictures of different sizes, among texts and two together."""
    p, q, r, s, t = FIVE
    return (message("all : ", p, q, "a red cube\n", r, "\n", s, "the spy ", t, "vote\n"),)


def pictures_of(messages: Sequence[Message]) -> list[Picture]:
    return [p.picture for m in messages for p in m.parts if isinstance(p, PicturePart)]


def hidden_of(vlm: VLM, prompt: Prompt, pictures: Sequence[Picture]) -> Tensor:
    ids = torch.tensor([prompt.ids])
    return vlm.forward_hidden(ids, None, vlm.positions(prompt, 0)[:, None], pictures)


def last_logits(vlm: VLM, prompt: Prompt, pictures: Sequence[Picture]) -> Tensor:
    return vlm.logits(hidden_of(vlm, prompt, pictures)[0, -1])


def nudge(vlm: VLM, size: float = 0.05) -> None:
    """Move every trainable weight a little, as training would."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, p in vlm.trainable():
            p.add_(size * torch.randn(p.shape, generator=generator))


class TestPrompts:
    def test_reads_like_the_models_own_processor(self, vlm: VLM) -> None:
        """Tokenised apart, the prompt still spells what the processor makes of the whole, placeholders included."""
        for messages in [*conversations(), five()]:
            whole = [
                {
                    "role": m.role,
                    "content": [
                        {"type": "text", "text": p.text} if isinstance(p, TextPart) else {"type": "image"}
                        for p in m.parts
                    ],
                }
                for m in messages
            ]
            text = vlm.processor.apply_chat_template(whole, tokenize=False, add_generation_prompt=True)
            images = [Image.open(io.BytesIO(p.data)) for p in pictures_of(messages)]
            theirs = vlm.processor(text=[text], images=images or None, return_tensors="pt")
            ours = vlm.encode(messages)
            decode = vlm.processor.tokenizer.decode
            assert decode(list(ours.ids)) == decode(theirs["input_ids"][0])
            assert ours.pictures == tuple(p.sha for p in pictures_of(messages))
            pixels = vlm.pixels(pictures_of(messages))
            for name in pixels:
                assert torch.equal(pixels[name], theirs[name])

    def test_placeholders_are_counted(self, vlm: VLM) -> None:
        counts = [vlm.placeholders(p) for p in PICTURES]
        assert len(set(counts)) == len(counts), "the pictures should differ in size, else this proves nothing"
        prompt = vlm.encode(conversations()[2])
        assert prompt.ids.count(vlm.image_token_id) == counts[0] + counts[1]
        assert [len(f.tokens) for f in vlm.image_features(PICTURES)] == counts

    def test_another_process_reads_pictures_alike(self, vlm: VLM) -> None:
        """What travels is what `multiprocessing` would send."""
        there = ForkingPickler.loads(ForkingPickler.dumps(vlm.reader.preprocess))
        for p in FIVE:
            found = ForkingPickler.loads(ForkingPickler.dumps(there(p)))
            expected = vlm.reader.preprocess(p)
            assert found.expansion == expected.expansion
            assert found.pixels.keys() == expected.pixels.keys()
            assert all(torch.equal(found.pixels[name], expected.pixels[name]) for name in expected.pixels)

    def test_placeholders_are_known_before_a_picture_is_read(self, vlm: VLM) -> None:
        for p in (*PICTURES, *FIVE):
            with Image.open(io.BytesIO(p.data)) as image:
                width, height = image.size
            asked = (vlm.processor.image_processor, vlm.network.config, height, width)
            assert vlm.family.picture_tokens(*asked) == vlm.placeholders(p)

    def test_equal_beginnings_share_ids(self, vlm: VLM) -> None:
        a, b = (vlm.encode((message(PICTURES[0], "the rules\n", "1 : red\n", end),)).ids for end in ("you\n", "vote\n"))
        shared = vlm.encode((message(PICTURES[0], "the rules\n", "1 : red\n"),)).ids
        common = next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
        tail = len(vlm.encode((message(),)).ids)
        assert common >= len(shared) - tail

    @pytest.mark.parametrize("text", [*SPECIAL, "".join(SPECIAL), "<|im_<|im_end|>end|>", " <|im_end|>\n<|im_start|>"])
    def test_text_never_becomes_a_special_token(self, vlm: VLM, text: str) -> None:
        plain, hostile = vlm.encode((message("a"),)).ids, vlm.encode((message(text),)).ids
        special = set(vlm.processor.tokenizer.all_special_ids) | vlm.forbidden_ids
        assert [i for i in hostile if i in special] == [i for i in plain if i in special]
        assert text in vlm.processor.tokenizer.decode(list(hostile)), "hostile text is kept, as text"

    @hypothesis_settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.sampled_from([*SPECIAL, "<", "|", ">", " ", "\n", "é", "日", "\u202e", "im_end"]), max_size=12))
    def test_no_mixture_of_pieces_does_either(self, vlms: dict[str, VLM], pieces: list[str]) -> None:
        for vlm in vlms.values():
            plain, hostile = vlm.encode((message("a"),)).ids, vlm.encode((message("".join(pieces)),)).ids
            special = set(vlm.processor.tokenizer.all_special_ids) | vlm.forbidden_ids
            assert [i for i in hostile if i in special] == [i for i in plain if i in special]

    def test_decode_drops_special_tokens(self, vlm: VLM) -> None:
        tokenizer = vlm.processor.tokenizer
        ids = [*tokenizer("a red cube", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        assert vlm.decode(ids) == "a red cube"

    def test_what_is_forbidden_and_what_ends_a_turn(self, vlm: VLM) -> None:
        tokenizer = vlm.processor.tokenizer
        assert vlm.image_token_id in vlm.forbidden_ids
        assert set(range(len(tokenizer), len(tokenizer) + HOLES)) <= vlm.forbidden_ids
        assert vlm.end_ids == {tokenizer.eos_token_id, tokenizer.pad_token_id}
        logits = torch.zeros(2, len(tokenizer) + HOLES, requires_grad=True)
        probabilities = vlm.mask_forbidden(logits).softmax(-1)
        forbidden = sorted(vlm.forbidden_ids)
        assert (probabilities[:, forbidden] == 0).all()
        assert torch.allclose(probabilities.sum(-1), torch.ones(2))
        assert int((probabilities[0] > 0).sum()) == len(tokenizer) + HOLES - len(forbidden)
        entropy = -(probabilities * vlm.mask_forbidden(logits).log_softmax(-1)).sum()
        entropy.backward()
        assert torch.isfinite(entropy)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


class TestForward:
    @pytest.mark.shows("several pictures")
    @pytest.mark.parametrize("frozen", [False, True])
    def test_equals_the_models_own_forward_from_pixels(self, family: str, vlms: dict[str, VLM], frozen: bool) -> None:
        """Features instead of pixels, explicit positions instead of the model's: the same logits."""
        vlm = load_tiny(family, train="language") if frozen else vlms[family]
        assert vlm.vision_frozen is frozen
        for messages in [*conversations(), five()]:
            pictures, prompt = pictures_of(messages), vlm.encode(messages)
            ids = torch.tensor([prompt.ids])
            extra: dict[str, Any] = dict(vlm.pixels(pictures))
            if vlm.family.position_axes == 3:
                extra["mm_token_type_ids"] = (ids == vlm.image_token_id).int()
            with torch.no_grad():
                theirs = vlm.network(input_ids=ids, attention_mask=torch.ones_like(ids), **extra).logits[0]
                ours = vlm.logits(hidden_of(vlm, prompt, pictures))[0]
            assert torch.allclose(ours, theirs, atol=1e-4)

    def test_pictures_matter(self, vlm: VLM) -> None:
        """Guards the tests above: a model that ignores pictures would pass most of them."""
        prompt = vlm.encode((message(PICTURES[0], "which ?\n"),))
        other = picture(99)
        swapped = Prompt(prompt.ids, (other.sha,))
        vlm.pixels([other])
        assert (last_logits(vlm, prompt, [PICTURES[0]]) - last_logits(vlm, swapped, [other])).abs().max() > 0.01

    def test_positions_go_on_after_the_prompt(self, vlm: VLM) -> None:
        prompt = vlm.encode(conversations()[2])
        positions = vlm.positions(prompt, 4)
        assert positions.shape == (vlm.family.position_axes, len(prompt.ids) + 4)
        assert torch.equal(positions[:, : len(prompt.ids)], vlm.positions(prompt, 0))
        last = positions[:, len(prompt.ids) - 1]
        assert torch.equal(positions[:, len(prompt.ids) :], last[:, None] + torch.arange(1, 5))

    def test_positions_of_an_unknown_picture_are_refused(self, vlm: VLM) -> None:
        with pytest.raises(KeyError, match="never-seen"):
            vlm.positions(Prompt((1, vlm.image_token_id), ("never-seen",)), 0)

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
    def test_batch_and_order_change_nothing(self, vlm: VLM, order: tuple[int, ...]) -> None:
        messages = [conversations()[i] for i in order]
        prompts = [vlm.encode(m) for m in messages]
        longest = max(len(p.ids) for p in prompts)
        ids = torch.full((3, longest), vlm.pad_id)
        mask = torch.zeros(3, longest, dtype=torch.long)
        positions = torch.zeros(vlm.family.position_axes, 3, longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            left = longest - len(prompt.ids)
            ids[row, left:], mask[row, left:] = torch.tensor(prompt.ids), 1
            positions[:, row, left:] = vlm.positions(prompt, 0)
        with torch.no_grad():
            pictures = [p for m in messages for p in pictures_of(m)]
            together = vlm.logits(vlm.forward_hidden(ids, mask, positions, pictures)[:, -1]).log_softmax(-1)
            for row, (m, prompt) in enumerate(zip(messages, prompts, strict=True)):
                alone = last_logits(vlm, prompt, pictures_of(m)).log_softmax(-1)
                assert torch.allclose(together[row], alone, atol=2e-5)

    @pytest.mark.shows("prefix sharing")
    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_two_prompts_packed_in_one_row(self, family: str, attention: str) -> None:
        """As two trees in one row each has its own hidden states."""
        vlm = load_tiny(family, attention=attention)
        messages = [conversations()[1], conversations()[2]]
        prompts = [vlm.encode(m) for m in messages]
        lengths = [len(p.ids) for p in prompts]
        end = np.repeat(np.cumsum(lengths), lengths)[None]
        ids = torch.tensor([prompts[0].ids + prompts[1].ids])
        positions = torch.cat([vlm.positions(p, 0) for p in prompts], -1)[:, None]
        with torch.no_grad():
            pictures = pictures_of(messages[0]) + pictures_of(messages[1])
            packed = vlm.forward_hidden(ids, tree_mask(end), positions, pictures)[0]
            apart = torch.cat([hidden_of(vlm, p, pictures_of(m))[0] for p, m in zip(prompts, messages, strict=True)])
        assert torch.allclose(packed, apart, atol=1e-4)

    def test_a_wrong_number_of_placeholders_is_refused_with_both_counts(self, vlm: VLM) -> None:
        prompt = vlm.encode((message(PICTURES[0], "x"),))
        count = vlm.placeholders(PICTURES[0])
        broken = torch.tensor([[i for i in prompt.ids if i != vlm.image_token_id] + [vlm.image_token_id] * 3])
        positions = torch.zeros(vlm.family.position_axes, 1, broken.shape[1], dtype=torch.long)
        with pytest.raises(ValueError, match=rf"\b3 picture placeholders .* {count} picture features"):
            vlm.forward_hidden(broken, None, positions, [PICTURES[0]])
        with pytest.raises(ValueError, match=rf"\b{count} picture placeholders .* 0 picture features"):
            vlm.forward_hidden(torch.tensor([prompt.ids]), None, vlm.positions(prompt, 0)[:, None], [])


class TestTraining:
    @staticmethod
    def gradients(vlm: VLM) -> dict[str, Tensor]:
        messages = conversations()[2]
        vlm.model.train()
        vlm.model.zero_grad()
        logits = vlm.logits(hidden_of(vlm, vlm.encode(messages), pictures_of(messages))[0])
        logits.log_softmax(-1)[:, 7].sum().backward()
        return {n: p.grad.clone() for n, p in vlm.model.named_parameters() if p.grad is not None}

    @staticmethod
    def in_vision(vlm: VLM, names: Sequence[str]) -> set[str]:
        return {n for n in names if any(f".{part}." in n for part in vlm.family.vision_parts)}

    @pytest.mark.shows("train")
    def test_everything_learns(self, family: str) -> None:
        vlm = load_tiny(family)
        got = self.gradients(vlm)
        assert set(got) == {n for n, _ in vlm.trainable()}
        assert any(float(got[n].abs().max()) > 0 for n in self.in_vision(vlm, list(got)))

    def test_frozen_vision(self, family: str) -> None:
        vlm = load_tiny(family, train="language")
        got = self.gradients(vlm)
        assert got
        assert not self.in_vision(vlm, list(got))

    @pytest.mark.shows("LoRA")
    @pytest.mark.parametrize("where", ["language", "language+vision"])
    def test_lora_learns_only_where_asked(self, family: str, where: str) -> None:
        vlm = load_tiny(family, lora=LoraConfig(rank=2, alpha=4, where=where))
        got = self.gradients(vlm)
        assert got
        assert all("lora_" in n for n in got)
        assert bool(self.in_vision(vlm, list(got))) == (where == "language+vision")
        assert vlm.vision_frozen == (where == "language")

    def test_gradient_checkpointing_gives_the_same_gradients(self, family: str) -> None:
        plain, saving = (self.gradients(load_tiny(family, gradient_checkpointing=c)) for c in (False, True))
        assert set(plain) == set(saving)
        assert all(torch.allclose(plain[n], saving[n], rtol=1e-4, atol=1e-5) for n in plain)

    def test_frozen_features_are_computed_once_and_alone(self, family: str) -> None:
        vlm = load_tiny(family, train="language")
        runs: list[int] = []
        hook = vlm.vision_parts[0].register_forward_hook(lambda *_: runs.append(1))
        together = vlm.image_features(PICTURES)
        again = vlm.image_features([PICTURES[1]])[0]
        hook.remove()
        assert len(runs) == len(PICTURES)
        assert again is together[1]
        assert not again.tokens.requires_grad
        alone = load_tiny(family, train="language").image_features([PICTURES[1]])[0]
        assert torch.equal(alone.tokens, again.tokens)
        assert all(torch.equal(a, b) for a, b in zip(alone.deep, again.deep, strict=True))

    def test_frozen_features_are_those_of_a_trained_tower(self, family: str, vlms: dict[str, VLM]) -> None:
        frozen = load_tiny(family, train="language").image_features(PICTURES)
        live = vlms[family].image_features(PICTURES)
        for a, b in zip(frozen, live, strict=True):
            assert torch.allclose(a.tokens, b.tokens, atol=1e-5)
            assert len(a.deep) == len(b.deep) == (2 if family == "qwen3_vl" else 0)


class TestReference:
    def test_it_shares_the_features_of_a_frozen_tower(self, family: str) -> None:
        vlm = load_tiny(family, train="language")
        start = vlm.reference()  # before any picture was read: an empty cache is shared too
        [features] = vlm.image_features(PICTURES[:1])
        assert start.image_features(PICTURES[:1])[0] is features

    CASES = ({}, {"train": "language"}, {"lora": LoraConfig(rank=2, alpha=4)})

    @pytest.mark.parametrize("settings", CASES, ids=["full", "language", "lora"])
    def test_stays_where_the_policy_started(self, family: str, settings: dict[str, Any]) -> None:
        vlm = load_tiny(family, **settings)
        reference, messages = vlm.reference(), conversations()[2]
        prompt, pictures = vlm.encode(messages), pictures_of(messages)
        with torch.no_grad():
            start = last_logits(vlm, prompt, pictures)
            still = last_logits(reference, prompt, pictures)
            assert torch.allclose(still, start, atol=1e-4)
            nudge(vlm)
            assert torch.equal(last_logits(reference, prompt, pictures), still)
            moved = last_logits(vlm, prompt, pictures)
        assert (moved - start).abs().max() > 0.01
        assert last_logits(vlm, prompt, pictures).requires_grad, "the policy still learns after the reference was used"
        assert vlm.vision_frozen == (reference.vision_parts[0] is vlm.vision_parts[0])
        if not vlm.adapted:
            assert not reference.trainable()

    def test_a_view_cannot_be_saved(self, tmp_path: Path) -> None:
        vlm = load_tiny("internvl", lora=LoraConfig(rank=2, alpha=4))
        with pytest.raises(ValueError, match="adapter off"):
            vlm.reference().save(tmp_path)


CHECK = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from vision_zero.config import ModelConfig
from vision_zero.models.base import load
for folder in map(Path, sys.argv[1:]):
    case = torch.load(folder / "case.pt")
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    with torch.no_grad():
        plain = model(**case["inputs"]).logits
    assert torch.equal(plain, case["logits"]), (folder, (plain - case["logits"]).abs().max())
    vlm = load(ModelConfig(path=str(folder)), device="cpu")
    with torch.no_grad():
        ours = vlm.network(**case["inputs"]).logits
    assert torch.equal(ours, case["logits"]), folder
    AutoProcessor.from_pretrained(folder)
print("equal")
"""


class TestFiles:
    @staticmethod
    def case(vlm: VLM, folder: Path) -> None:
        """Leave inputs and this process's logits beside the model."""
        messages = conversations()[1]
        ids = torch.tensor([vlm.encode(messages).ids])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **vlm.pixels(pictures_of(messages))}
        if vlm.family.position_axes == 3:
            inputs["mm_token_type_ids"] = (ids == vlm.image_token_id).int()
        with torch.no_grad():
            logits = vlm.network(**inputs).logits
        torch.save({"inputs": inputs, "logits": logits}, folder / "case.pt")

    def test_a_saved_model_is_the_same_model_in_a_new_process(self, tmp_path: Path) -> None:
        """Key names on disk differ from those in memory for some families: only a real reload can tell."""
        folders = []
        for family in FAMILIES:
            vlm = load_tiny(family)
            nudge(vlm)
            folders.append(tmp_path / family)
            vlm.save(folders[-1])
            self.case(vlm, folders[-1])
        done = subprocess.run(
            [sys.executable, "-c", CHECK, *map(str, folders)], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.stdout.strip().endswith("equal"), done.stderr

    @pytest.mark.shows("resume")
    @pytest.mark.parametrize("lora", [None, LoraConfig(rank=2, alpha=4)], ids=["full", "lora"])
    def test_restore_puts_every_weight_back(self, family: str, lora: LoraConfig | None, tmp_path: Path) -> None:
        vlm = load_tiny(family, lora=lora)
        nudge(vlm)
        vlm.save(tmp_path)
        before = {n: p.clone() for n, p in vlm.model.named_parameters()}
        nudge(vlm, 0.5)
        other = load_tiny(family, lora=lora)
        for one in (vlm, other):
            one.restore(tmp_path)
            assert all(torch.equal(p, before[n]) for n, p in one.model.named_parameters())

    @pytest.mark.shows("LoRA")
    @pytest.mark.parametrize("where", ["language", "language+vision"])
    def test_an_adapter_can_be_loaded_or_merged(self, family: str, where: Any, tmp_path: Path) -> None:
        lora = LoraConfig(rank=2, alpha=4, where=where)
        vlm = load_tiny(family, lora=lora)
        nudge(vlm)
        vlm.save(tmp_path / "adapter")
        vlm.save(tmp_path / "merged", merged=True)
        prompt, pictures = vlm.encode(conversations()[1]), pictures_of(conversations()[1])
        again = load(ModelConfig(path=str(tmp_path / "adapter"), lora=lora), device="cpu")
        merged = load(ModelConfig(path=str(tmp_path / "merged")), device="cpu")
        with torch.no_grad():
            expected = last_logits(vlm, prompt, pictures)
            assert again.encode(conversations()[1]) == merged.encode(conversations()[1]) == prompt
            assert torch.equal(last_logits(again, prompt, pictures), expected)
            assert torch.allclose(last_logits(merged, prompt, pictures), expected, atol=1e-4)
            assert (last_logits(vlm.reference(), prompt, pictures) - expected).abs().max() > 0.01
        assert not merged.adapted

    def test_max_pixels_is_honoured(self, family: str) -> None:
        limit = 56 * 56 * 2 if family != "smolvlm" else 56 * 56 * 6
        vlm, free = load_tiny(family, max_pixels=limit), load_tiny(family)
        large = picture(5, 280, 168)
        side = 14 if family != "qwen3_vl" else 16
        assert vlm.placeholders(large) * (2 * side) ** 2 <= limit
        assert vlm.placeholders(large) < free.placeholders(large)
        assert [len(f.tokens) for f in vlm.image_features([large])] == [vlm.placeholders(large)]
