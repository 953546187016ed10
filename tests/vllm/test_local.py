"""vLLM in process: what it samples is what the trainer scores, for every family and after every change of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from tests.tiny_models import FAMILIES
from tests.vllm.made import EXACT, PICTURES, config, mixed, nudge, request_of, worst_difference
from vision_zero.errors import UserError
from vision_zero.models.base import VLM, load
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.vllm_local import VllmEngine
from vision_zero.types import StopReason

TEMPERATURE = 1.3
Make = Callable[..., tuple[VLM, VllmEngine]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Engines by family and LoRA settings, each started once."""
    made: dict[str, tuple[VLM, VllmEngine]] = {}
    with ExitStack() as stack:

        def one(family: str, **model: object) -> tuple[VLM, VllmEngine]:
            key = f"{family} {model}"
            if key not in made:
                settings = config(family, TEMPERATURE, model=dict(model))
                vlm = load(settings.model, "cpu")
                engine = VllmEngine(vlm, settings, tmp_path_factory.mktemp("engine"))
                stack.callback(engine.close)
                made[key] = vlm, engine
            return made[key]

        yield one


@pytest.mark.shows("vLLM")
@pytest.mark.parametrize("family", FAMILIES)
def test_logprobs_are_the_trainers_whatever_the_weights(family: str, make: Make) -> None:
    """Also shown by it: prompts are read alike, forbidden ids never come, budgets and end tokens are kept."""
    vlm, engine = make(family)
    requests = mixed(vlm, 36, TEMPERATURE)
    answers = []
    for step in range(3):
        with engine.fixed_weights():
            done = engine.generate(requests)
        assert worst_difference(vlm, requests, done) < EXACT
        assert not vlm.forbidden_ids.intersection(i for c in done for i in c.ids)
        for request, answer in zip(requests, done, strict=True):
            ended = answer.ids[-1] in vlm.end_ids
            assert not vlm.end_ids.intersection(answer.ids[:-1])
            assert answer.stop == (StopReason.END_OF_TURN if ended else StopReason.LENGTH)
            assert ended or len(answer.ids) == request.max_new_tokens
        answers.append([c.ids for c in done])
        figures = engine.figures()
        assert figures["weights_difference"] < EXACT
        assert 0 < figures["prefix_hit_rate"] < 1
        nudge(vlm, seed=step)
        engine.weights_changed()
    assert answers[0] != answers[1] != answers[2], "other weights should say other things"


@pytest.mark.shows("vLLM")
@pytest.mark.parametrize("family", FAMILIES)
def test_distributions_equal_those_of_the_hugging_face_engine(family: str, make: Make) -> None:
    """The mean log-prob of what either engine draws estimates the same (negative) entropy."""
    vlm, engine = make(family)
    requests = [
        request_of(vlm, [PICTURES[seed % 3], "a clue\n"], seed, tokens=1, temperature=TEMPERATURE)
        for seed in range(600)
    ]
    engine.weights_changed()
    with engine.fixed_weights():
        drawn = {"vllm": engine.generate(requests)}
    drawn["hf"] = HfEngine(vlm, 200).generate(requests)
    entropies = []
    for picture in PICTURES:
        request = request_of(vlm, [picture, "a clue\n"], 0, temperature=TEMPERATURE)
        with vlm.evaluating():
            ids, at = torch.tensor([request.prompt.ids]), vlm.positions(request.prompt, 0)[:, None]
            logits = vlm.logits(vlm.forward_hidden(ids, None, at, [picture])[0, -1])
            scores = vlm.mask_forbidden(logits / TEMPERATURE).log_softmax(-1)
        entropies.append(-(scores.exp() * scores).sum())
    expected = -float(torch.stack(entropies).mean())
    for name, done in drawn.items():
        logprobs = torch.tensor([c.logprobs[0] for c in done])
        error = float(logprobs.std()) / len(done) ** 0.5
        assert abs(float(logprobs.mean()) - expected) < 4 * error, name
        assert len({c.ids for c in done}) > 50, name


def test_seeds_decide_and_greedy_is_greedy(make: Make) -> None:
    vlm, engine = make("internvl")
    engine.weights_changed()
    with engine.fixed_weights():
        a, b, c, again = engine.generate(
            [request_of(vlm, [PICTURES[0], "go\n"], seed, temperature=TEMPERATURE) for seed in (1, 2, 3, 1)]
        )
        greedy = [request_of(vlm, [PICTURES[0], "go\n"], seed, temperature=0.0) for seed in (1, 2)]
        first, second = engine.generate(greedy)
    assert a.ids == again.ids
    assert len({a.ids, b.ids, c.ids}) == 3
    assert first == second == HfEngine(vlm, 1).generate(greedy[:1])[0]


def test_forbidden_ids_are_never_sampled_however_likely(make: Make) -> None:
    """The language head's rows of forbidden ids are made to win by far."""
    vlm, engine = make("internvl")
    requests = [request_of(vlm, [PICTURES[0], "go\n"], seed, temperature=TEMPERATURE) for seed in range(32)]
    head = vlm.network.get_output_embeddings().weight
    before = head.detach().clone()
    with torch.no_grad():
        head[sorted(vlm.forbidden_ids)] *= 50
    try:
        engine.weights_changed()
        with engine.fixed_weights():
            done = engine.generate(requests)
        assert worst_difference(vlm, requests, done) < EXACT
        assert not vlm.forbidden_ids.intersection(i for c in done for i in c.ids)
    finally:
        with torch.no_grad():
            head.copy_(before)
        engine.weights_changed()


def test_weights_that_did_not_arrive_stop_the_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    vlm, engine = make("internvl")
    engine.weights_changed()
    with engine.fixed_weights():
        pass
    nudge(vlm, 0.01, seed=9)
    engine.weights_changed()
    monkeypatch.setattr(engine, "_bring", lambda: None)
    with (
        pytest.raises(UserError, match=r"log-probs on the fixed prompt differ .* more than 0\.001"),
        engine.fixed_weights(),
    ):
        pytest.fail("played with stale weights")
    monkeypatch.undo()
    with engine.fixed_weights():
        pass


def test_an_adapter_is_brought_over_alone_and_the_frozen_start_plays_without_it(make: Make) -> None:
    vlm, engine = make("qwen2_5_vl", train="language", lora={"rank": 4, "alpha": 8})
    requests = mixed(vlm, 18, TEMPERATURE)
    start = vlm.reference()
    frozen = engine.base()
    for step in range(3):
        with engine.fixed_weights():
            done, base = engine.generate(requests), frozen.generate(requests)
        assert worst_difference(vlm, requests, done) < EXACT
        assert worst_difference(start, requests, base) < EXACT
        if step:
            assert worst_difference(start, requests, done) > 0.01
        nudge(vlm, 0.1, seed=step)
        engine.weights_changed()


def test_a_hang_ends_in_bounded_time(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Last: an engine that was given up stays given up."""
    import threading

    vlm, engine = make("smolvlm")
    waiting = threading.Event()
    monkeypatch.setattr(engine._llm.llm_engine, "step", waiting.wait)
    monkeypatch.setattr(engine._thread, "_patience", 1.0)
    with pytest.raises(UserError, match=r"no sign of life for 1 seconds"):
        engine.generate([request_of(vlm, ["go\n"], 0)])
    with pytest.raises(UserError, match="given up before"):
        engine.generate([request_of(vlm, ["go\n"], 0)])
    waiting.set()


def test_a_prompt_that_does_not_fit_is_refused(make: Make) -> None:
    vlm, engine = make("internvl")
    with pytest.raises(UserError, match=r"may take \d+ tokens: raise rollouts\.vllm\.context from 2048"):
        engine.generate([request_of(vlm, ["a red cube\n" * 900], 0)])


def test_another_reading_of_a_prompt_is_refused(tmp_path: Path, make: Make) -> None:
    """A processor with other limits makes other placeholders of a picture."""
    vlm, _ = make("qwen2_5_vl", train="language", lora={"rank": 4, "alpha": 8})
    from vision_zero.rollouts import vllm_common as common

    request = request_of(vlm, [PICTURES[0], "go\n"], 0)
    fewer = [*common.collapsed(vlm, request)]
    with pytest.raises(UserError, match=r"1 picture placeholders, the trainer has \d+ with 24"):
        common.completion(vlm, request, fewer, [5], [-1.0])
