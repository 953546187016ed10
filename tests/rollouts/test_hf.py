"""The Hugging Face engine: results are a function of the request and the weights, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tests.tiny_models import FAMILIES, load_tiny, picture
from vision_zero.config import LoraConfig
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.models.tree_attention import BRANCHES, BranchMask, most_branches
from vision_zero.rollouts.columns import Columns
from vision_zero.rollouts.engine import Completion, Request
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.rows import COMPACT_BELOW
from vision_zero.rollouts.sampling import draw, uniforms
from vision_zero.types import Message, Picture, PicturePart, StopReason, TextPart

PICTURES = [picture(i, *size) for i, size in enumerate([(168, 112), (100, 200), (56, 56), (168, 112)])]


@pytest.fixture(scope="module")
def vlms() -> dict[str, VLM]:
    return {family: load_tiny(family, train="language") for family in FAMILIES}


def request_of(
    vlm: VLM, parts: Sequence[str | Picture], seed: int, tokens: int = 12, temperature: float = 1.0
) -> Request:
    message = Message("user", tuple(TextPart(p) if isinstance(p, str) else PicturePart(p) for p in parts))
    pictures = tuple(p for p in parts if isinstance(p, Picture))
    return Request(vlm.encode((message,)), pictures, seed, tokens, temperature)


def mixed(vlm: VLM, count: int) -> list[Request]:
    """Prompts of many lengths with 0 to 2 pictures, some asked several times, all temperatures and budgets."""
    out = []
    for i in range(count):
        about = i // 3  # three requests with one prompt
        parts: list[str | Picture] = [PICTURES[(about + k) % 4] for k in range(about % 3)]
        parts += [f"{k} : a red cube\n" for k in range(about % 7)] + [f"player {about}\n"]
        out.append(request_of(vlm, parts, i, tokens=1 + (5 * i) % 13, temperature=(1.0, 0.7, 1.3, 0.0)[i % 4]))
    return out


def same(a: Sequence[Completion], b: Sequence[Completion]) -> None:
    assert [c.ids for c in a] == [c.ids for c in b]
    assert [c.stop for c in a] == [c.stop for c in b]
    for x, y in zip(a, b, strict=True):
        assert x.logprobs == pytest.approx(y.logprobs, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_results_whatever_the_batch(family: str, vlms: dict[str, VLM]) -> None:
    vlm = vlms[family]
    requests = mixed(vlm, 102)
    expected = HfEngine(vlm, 102).generate(requests)
    assert {c.stop for c in expected} == set(StopReason)
    assert len({c.ids for c in expected}) > 60, "rows should differ"
    for batch_size in (40, 9):
        same(HfEngine(vlm, batch_size).generate(requests), expected)
    same(HfEngine(vlm, 64).generate(requests[::-1])[::-1], expected)
    same([HfEngine(vlm, 1).generate([r])[0] for r in requests[:6]], expected[:6])


def test_no_forward_reads_more_than_it_may(vlms: dict[str, VLM]) -> None:
    vlm = vlms["qwen2_5_vl"]
    requests = mixed(vlm, 40)
    longest = max(len(r.prompt.ids) for r in requests)
    sizes: list[int] = []
    hook = vlm.backbone.register_forward_pre_hook(
        lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    try:
        whole = HfEngine(vlm, 40).generate(requests)
        together, sizes[:] = max(sizes), []
        parts = HfEngine(vlm, 40, read_tokens=2 * longest).generate(requests)
    finally:
        hook.remove()
    same(parts, whole)
    assert max(sizes) <= 2 * longest < together
    same(HfEngine(vlm, 40, read_tokens=1).generate(requests), whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_are_those_of_scoring(family: str, vlms: dict[str, VLM]) -> None:
    """The update scores prompt and completion in one forward, with the same temperature and mask."""
    vlm = vlms[family]
    requests = mixed(vlm, 24)
    for request, done in zip(requests, HfEngine(vlm, 24).generate(requests), strict=True):
        assert 1 <= len(done.ids) == len(done.logprobs) <= request.max_new_tokens
        if request.temperature == 0:
            assert set(done.logprobs) == {0.0}
            continue
        start = len(request.prompt.ids)
        ids = torch.tensor([request.prompt.ids + done.ids])
        positions = vlm.positions(request.prompt, len(done.ids))[:, None]
        with torch.no_grad():
            hidden = vlm.forward_hidden(ids, None, positions, request.pictures)[0, start - 1 : -1]
            scores = vlm.mask_forbidden(vlm.logits(hidden) / request.temperature).log_softmax(-1)
        expected = scores.gather(1, ids[0, start:, None])[:, 0].tolist()
        assert done.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers_generate(family: str, vlms: dict[str, VLM]) -> None:
    """An independent path: pixels instead of features, the model's own positions, cache and stopping."""
    vlm = vlms[family]
    requests = [
        request_of(vlm, parts, 0, tokens=20, temperature=0.0)
        for parts in (["hello\n"], [PICTURES[0], "a clue\n"], [PICTURES[1], "and", PICTURES[2], "a vote\n"])
    ]
    for request, done in zip(requests, HfEngine(vlm, 8).generate(requests), strict=True):
        ids = torch.tensor([request.prompt.ids])
        extra = dict(vlm.pixels(request.pictures))
        if vlm.family.position_axes == 3:
            extra["mm_token_type_ids"] = (ids == vlm.image_token_id).int()
        out = vlm.network.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=20,
            suppress_tokens=sorted(vlm.forbidden_ids),
            **extra,
        )[0, ids.shape[1] :]
        assert done.ids == tuple(out.tolist())


def test_stop_reasons_and_the_end_token(vlms: dict[str, VLM]) -> None:
    vlm = vlms["qwen2_5_vl"]
    requests = mixed(vlm, 108)
    for request, done in zip(requests, HfEngine(vlm, 50).generate(requests), strict=True):
        ended = done.ids[-1] in vlm.end_ids
        assert not vlm.end_ids.intersection(done.ids[:-1])
        assert done.stop == (StopReason.END_OF_TURN if ended else StopReason.LENGTH)
        assert ended or len(done.ids) == request.max_new_tokens


def test_forbidden_ids_are_never_sampled_however_likely(vlms: dict[str, VLM]) -> None:
    vlm = vlms["qwen2_5_vl"]
    hook = vlm.network.get_output_embeddings().register_forward_hook(
        lambda _module, _args, logits: logits.index_add(
            -1, torch.tensor(sorted(vlm.forbidden_ids)), torch.full((*logits.shape[:-1], len(vlm.forbidden_ids)), 30.0)
        )
    )
    try:
        done = HfEngine(vlm, 16).generate([request_of(vlm, [PICTURES[0], "go\n"], i) for i in range(16)])
    finally:
        hook.remove()
    assert not vlm.forbidden_ids.intersection(i for c in done for i in c.ids)
    assert all(-15 < lp <= 0 for c in done for lp in c.logprobs)


def test_seeds_decide(vlms: dict[str, VLM]) -> None:
    vlm = vlms["internvl"]
    again = [request_of(vlm, [PICTURES[0], "go\n"], seed) for seed in (1, 2, 3, 1)]
    a, b, c, d = HfEngine(vlm, 4).generate(again)
    assert a == d
    assert len({a.ids, b.ids, c.ids}) == 3


def forwards(vlm: VLM, act: Callable[[], object]) -> list[tuple[int, int]]:
    """(rows, tokens) of every forward meanwhile."""
    shapes: list[tuple[int, int]] = []
    hook = vlm.backbone.language_model.register_forward_hook(
        lambda _module, _args, kwargs, _out: shapes.append(tuple(kwargs["inputs_embeds"].shape[:2])), with_kwargs=True
    )
    try:
        act()
    finally:
        hook.remove()
    return shapes


def test_drafts_are_one_branch_until_they_differ(vlms: dict[str, VLM]) -> None:
    vlm = vlms["qwen3_vl"]
    requests = [request_of(vlm, [PICTURES[0], f"{i % 2}\n"], i, tokens=4) for i in range(16)]
    done: list[Completion] = []
    shapes = forwards(vlm, lambda: done.extend(HfEngine(vlm, 16).generate(requests)))
    assert shapes[0] == (2, len(requests[0].prompt.ids))
    for step, shape in enumerate(shapes[1:], 1):
        ways = {(r.prompt, c.ids[:step]) for r, c in zip(requests, done, strict=True) if len(c.ids) > step}
        assert shape == (len(ways), 1)
        assert 2 < len(ways) < 16
    same(done, [HfEngine(vlm, 1).generate([r])[0] for r in requests])


def test_drafts_of_a_prompt_share_its_columns(vlms: dict[str, VLM], monkeypatch: pytest.MonkeyPatch) -> None:
    vlm = vlms["qwen2_5_vl"]
    requests = [request_of(vlm, [PICTURES[0], f"{i % 2}\n"], i, tokens=4) for i in range(16)]
    stores: list[tuple[int, ...]] = []
    place = Columns.place

    def watched(self: Columns, *to: Any) -> None:
        stores.append(self.layers[0].store.shape)
        place(self, *to)

    monkeypatch.setattr(Columns, "place", watched)
    HfEngine(vlm, 16).generate(requests)
    assert {(rows, columns) for _, rows, _, columns, _ in stores} == {(2, len(requests[0].prompt.ids) + 8 * 4)}


def test_a_row_for_each_draft_where_that_takes_less_room() -> None:
    assert most_branches([8, 8], longest=700, budget=1024) == 8
    assert most_branches([24], longest=700, budget=1024) == BRANCHES
    assert most_branches([1] * 63 + [8], longest=700, budget=1024) == 1
    assert most_branches([1] * 63 + [8] * 63, longest=700, budget=8) == 8


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_was_never_written_is_never_read(attention: str, vlms: dict[str, VLM]) -> None:
    """With memory that holds NaN where nothing was written; also where attention takes no branches."""
    vlm = load_tiny("qwen2_5_vl", train="language", attention=attention)
    assert vlm.branches == (attention == "sdpa")
    requests = mixed(vlm, 60)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(8).isnan().all()
        done = HfEngine(vlm, 60).generate(requests)
    finally:
        torch.use_deterministic_algorithms(False)
    same(done, HfEngine(vlms["qwen2_5_vl"], 1).generate(requests))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_rows_that_ended_leave_the_batch(attention: str) -> None:
    vlm = load_tiny("qwen2_5_vl", train="language", attention=attention)
    requests = [request_of(vlm, [f"{i}\n"], i, tokens=30 if i < 4 else 2) for i in range(16)]
    done: list[Completion] = []
    rows = [n for n, _ in forwards(vlm, lambda: done.extend(HfEngine(vlm, 16).generate(requests)))]
    running = [sum(len(c.ids) > step for c in done) for step in range(max(len(c.ids) for c in done))]
    assert len(rows) == len(running) > 5
    assert rows[0] == 16, "prefill"
    if attention == "sdpa":
        assert rows == running
    else:
        assert all(most >= n > COMPACT_BELOW * most for n, most in zip(running, rows, strict=True))


def test_branches_are_refused_where_attention_takes_none() -> None:
    vlm = load_tiny("qwen2_5_vl", attention="eager")
    mask = BranchMask(torch.tensor([0]), torch.ones(1, 1, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="attention=eager takes no branches"):
        vlm.forward_hidden(torch.tensor([[vlm.pad_id]]), mask, torch.zeros(3, 1, 1, dtype=torch.long), [])


def test_the_training_mode_is_put_back_and_no_gradients_are_kept(vlms: dict[str, VLM]) -> None:
    vlm = vlms["internvl"]
    vlm.model.train()
    HfEngine(vlm, 4).generate(mixed(vlm, 4))
    assert vlm.model.training
    vlm.model.eval()
    HfEngine(vlm, 4).generate(mixed(vlm, 4))
    assert not vlm.model.training
    assert torch.is_grad_enabled()


def test_the_reference_of_lora_samples_without_the_adapter() -> None:
    vlm = load_tiny("qwen2_5_vl", lora=LoraConfig(rank=2, alpha=4))
    requests = mixed(vlm, 12)
    before = HfEngine(vlm, 12).generate(requests)
    with torch.no_grad():
        for name, p in vlm.trainable():
            if "lora_B" in name:
                p.add_(0.2)
    same(HfEngine(vlm.reference(), 12).generate(requests), before)
    assert [c.ids for c in HfEngine(vlm, 12).generate(requests)] != [c.ids for c in before]


def test_pictures_must_be_those_of_the_prompt(vlms: dict[str, VLM]) -> None:
    vlm = vlms["internvl"]
    request = request_of(vlm, [PICTURES[0], "go\n"], 0)
    with pytest.raises(ValueError, match=PICTURES[2].sha):
        HfEngine(vlm, 4).generate([Request(request.prompt, (PICTURES[2],), 0, 4, 1.0)])


def test_a_prompt_that_does_not_fit_is_refused_not_cut(vlms: dict[str, VLM]) -> None:
    vlm = vlms["internvl"]
    with pytest.raises(
        UserError, match=rf"8192 new ones exceed the model's context of {vlm.context}: lower game.rounds"
    ):
        HfEngine(vlm, 4).generate([request_of(vlm, ["go\n"], 0, tokens=vlm.context)])


class TestSampling:
    def test_draws_follow_the_distribution(self) -> None:
        """Frequencies of 40,000 draws within 5 standard errors of the softmax, and certainly the log-probs."""
        logits = torch.tensor([2.0, 0.0, -1.0, 1.0, -5.0, 0.5])
        rows = 40_000
        ids, logprobs = draw(logits.expand(rows, -1), torch.zeros(rows, dtype=torch.bool), uniforms([7], rows)[0])
        expected = logits.softmax(-1)
        seen = torch.bincount(ids, minlength=6) / rows
        assert ((seen - expected).abs() < 5 * (expected * (1 - expected) / rows).sqrt()).all()
        assert torch.allclose(logprobs, expected.log()[ids])

    def test_an_impossible_id_is_not_drawn_at_the_edges(self) -> None:
        logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).nan_to_num(neginf=-3e38).expand(4, -1)
        edges = torch.tensor([0.0, 0.5, 1 - 2**-53, 0.5 - 2**-53], dtype=torch.float64)
        ids, _ = draw(logits, torch.zeros(4, dtype=torch.bool), edges)
        assert ids.tolist() == [1, 3, 3, 1]

    def test_numbers_depend_on_seed_and_place_only(self) -> None:
        assert torch.equal(uniforms([5, 9], 8)[1], uniforms([9, 1, 2], 8)[0])
        assert torch.equal(uniforms([5], 20)[0, :8], uniforms([5], 8)[0])
        assert not torch.equal(uniforms([5], 8), uniforms([6], 8))
