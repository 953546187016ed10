"""Prompts that continue earlier ones are not read again, and nothing that is sampled changes by that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.rollouts.test_hf import request_of
from tests.test_train import config, short
from tests.tiny_models import FAMILIES, load_tiny, picture
from vision_zero.credit.assign import LEARNER
from vision_zero.distributed import make_accelerator
from vision_zero.errors import UserError
from vision_zero.models.base import VLM
from vision_zero.players.policy import PolicyPlayer
from vision_zero.playing import FROZEN
from vision_zero.rollouts.columns import layers_of
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.engine import Completion, Request
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.runner import play
from vision_zero.rollouts.trunks import Trunks, common, whole_pictures
from vision_zero.runs.reporter import Silent
from vision_zero.runs.store import RunStore
from vision_zero.train import Trainer
from vision_zero.types import Picture, Prompt

GAMES, VOTERS, VOTES = 8, 3, 8
RULES = "the rules : say what the picture shows , then vote for the spy .\n"


def game_ticks(vlm: VLM, engine: HfEngine) -> list[tuple[Request, Completion]]:
    """Games of 4 seats and 2 rounds: every prompt holds all that was said so far, and a private end."""
    clues: list[list[str]] = [[] for _ in range(GAMES)]
    record: list[tuple[Request, Completion]] = []

    def prompt(game: int, seat: int, request: str, seed: int, tokens: int) -> Request:
        # The spy sees another picture; some games show two.
        seen: list[str | Picture] = [picture(2 * game + (seat == game % 4))]
        seen += [" and ", picture(99, 56, 56)] if game % 3 == 0 else []
        return request_of(
            vlm, [*seen, RULES, *clues[game], f"{request} {seat}\n"], seed, tokens, 0.7 + 0.3 * (seed % 2)
        )

    def tick(requests: list[Request]) -> list[Completion]:
        done = engine.generate(requests)
        record.extend(zip(requests, done, strict=True))
        return done

    for turn in range(8):
        asked = [prompt(game, turn % 4, "you are player", 1000 * turn + game, 2 + game % 4) for game in range(GAMES)]
        for game, done in enumerate(tick(asked)):
            clues[game].append(f"{turn} : {vlm.decode(done.ids)!r}\n")
    places = [(g, s, v) for g in range(GAMES) for s in range(VOTERS) for v in range(VOTES)]
    tick([prompt(g, s, "vote , player", 100 * g + 10 * s + v, 3) for g, s, v in places])
    return record


def tokens_read(vlm: VLM, act: Callable[[], object]) -> int:
    """How many tokens, padding included, the language model reads meanwhile."""
    read: list[int] = []
    hook = vlm.backbone.language_model if hasattr(vlm.backbone, "language_model") else vlm.backbone.text_model
    handle = hook.register_forward_hook(
        lambda _module, _args, kwargs, _out: read.append(kwargs["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    try:
        act()
    finally:
        handle.remove()
    return sum(read)


@pytest.mark.parametrize("family", FAMILIES)
def test_games_are_the_same_with_and_without(family: str) -> None:
    """264 requests a family, each in two runs. A small limit forgets and reads again; it changes nothing either."""
    vlm = load_tiny(family, train="language")
    records: dict[int, list[tuple[Request, Completion]]] = {}
    tokens: dict[int, int] = {}
    for limit in (0, 2**30):
        engine = HfEngine(vlm, 80, limit)

        def act(engine: HfEngine = engine, limit: int = limit) -> None:
            with engine.fixed_weights():
                records[limit] = game_ticks(vlm, engine)

        tokens[limit] = tokens_read(vlm, act)
    off, on = records[0], records[2**30]
    assert len(on) == 8 * GAMES + GAMES * VOTERS * VOTES >= 200
    assert [(r, c.ids, c.stop) for r, c in on] == [(r, c.ids, c.stop) for r, c in off]
    for (_, a), (_, b) in zip(on, off, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
    assert tokens[2**30] < 0.6 * tokens[0]


def test_a_limit_too_small_for_all_changes_nothing() -> None:
    vlm = load_tiny("qwen2_5_vl", train="language")
    plain, small = HfEngine(vlm, 80), HfEngine(vlm, 80, 2**20)
    with small.fixed_weights():
        kept = game_ticks(vlm, small)
        assert small._trunks is not None
        assert 0 < small._trunks.bytes <= 2**20
    assert [c.ids for _, c in kept] == [c.ids for _, c in game_ticks(vlm, plain)]


def test_a_prompt_asked_again_reads_its_last_id() -> None:
    vlm = load_tiny("internvl", train="language")
    engine = HfEngine(vlm, 8, 2**30)
    request = request_of(vlm, [picture(0), "go\n"], 3, tokens=1)
    with engine.fixed_weights():
        first = tokens_read(vlm, lambda: engine.generate([request]))
        again = tokens_read(vlm, lambda: engine.generate([request]))
    assert (first, again) == (len(request.prompt.ids), 1)


def test_nothing_outlives_the_weights() -> None:
    vlm = load_tiny("qwen2_5_vl", train="language")
    engine = HfEngine(vlm, 8, 2**30)
    request = request_of(vlm, [picture(0), RULES], 3, tokens=6)
    with engine.fixed_weights():
        before = engine.generate([request])
        with pytest.raises(RuntimeError, match="nest"), engine.fixed_weights():
            pass
    for _, p in vlm.trainable():
        # As an optimizer with masters writes: unseen by version counters.
        p.data.mul_(1.2)
    for scope in (nullcontext(), engine.fixed_weights()):
        with scope:
            after = engine.generate([request])
        assert after == HfEngine(vlm, 8).generate([request]) != before


def test_the_trainer_plays_every_step_with_the_weights_of_that_step(tmp_path: Path) -> None:
    settings = config({**short(), "update.warmup": 0, "update.learning_rate": 1e-2})
    store = RunStore.create(tmp_path, settings, tmp_path / "run")
    trainer = Trainer(settings, store, make_accelerator(cpu=True), Console(quiet=True))
    old = [p.detach().clone() for _, p in trainer.vlm.trainable()]
    deals = deals_of_step(trainer.pairs, 0, 1, 2, trainer.playing.cast)
    earlier = trainer.playing.play(deals)
    trainer.step(Silent())
    assert any(not torch.equal(a, p) for a, (_, p) in zip(old, trainer.vlm.trainable(), strict=True))
    episodes = trainer.playing.play(deals)
    fresh = PolicyPlayer(LEARNER, trainer.vlm, HfEngine(trainer.vlm, 64), 1.0, "1")
    expected = play(trainer.playing.game, deals, {LEARNER: fresh, FROZEN: trainer.playing.frozen})
    assert [[t.utterance.ids for t in e.turns] for e in episodes] == [
        [t.utterance.ids for t in e.turns] for e in expected
    ]
    said, before = (
        [lp for e in games for t in e.turns for lp in t.utterance.logprobs] for games in (episodes, earlier)
    )
    assert said != before


class TestTrunks:
    def columns(self, length: int) -> torch.Tensor:
        return torch.zeros(1, 2, 1, length, 1)  # 8 bytes a column

    def test_the_longest_common_beginning_of_the_same_pictures(self) -> None:
        trunks = Trunks(10**6)
        a, b = self.columns(4), self.columns(3)
        trunks.keep(Prompt((1, 2, 3, 4), ("x",)), a, None)
        trunks.keep(Prompt((1, 2, 9), ("x",)), b, None)
        assert trunks.longest(Prompt((1, 2, 3, 5, 6), ("x",))) == (3, a)
        assert trunks.longest(Prompt((1, 2, 9, 9), ("x",)))[1] is b
        assert trunks.longest(Prompt((1, 2, 3, 4), ("y",))) == (0, None)
        assert trunks.longest(Prompt((1, 2, 3, 4), ("x", "x"))) == (0, None)

    def test_a_continuation_takes_the_place_of_what_it_continues(self) -> None:
        trunks = Trunks(10**6)
        first, other = self.columns(4), self.columns(6)
        trunks.keep(Prompt((1, 2, 3, 4), ("x",)), first, None)
        trunks.keep(Prompt((1, 2, 3, 5, 6, 7), ("x",)), other, first)
        assert trunks.bytes == 6 * 8
        trunks.keep(Prompt((1, 8, 8), ("x",)), self.columns(3), other)
        assert trunks.bytes == (6 + 3) * 8, "one id in common is no continuation"

    def test_beyond_the_limit_the_pictures_unused_for_longest_go(self) -> None:
        trunks = Trunks(10 * 8)
        for name in "xy":
            trunks.keep(Prompt((1, 2, 3, 4), (name,)), self.columns(4), None)
        trunks.longest(Prompt((1,), ("x",)))
        trunks.keep(Prompt((1, 2, 3, 4), ("z",)), self.columns(4), None)
        assert [trunks.longest(Prompt((1, 2), (name,)))[0] for name in "xyz"] == [2, 0, 2]
        assert trunks.bytes == 8 * 8
        trunks.keep(Prompt(tuple(range(11)), ("w",)), self.columns(11), None)
        assert trunks.bytes == 0

    def test_common(self) -> None:
        assert [common((1, 2, 3), b) for b in ((1, 2, 3, 4), (1, 5), (), (2,))] == [3, 1, 0, 0]

    @pytest.mark.parametrize(
        ("ids", "expected"),
        [
            ((), (0, 0)),
            ((1, 2), (2, 0)),
            ((1, 7), (1, 0)),
            ((1, 7, 5, 7), (1, 0)),
            ((1, 7, 5, 7, 7), (5, 1)),
            ((1, 7, 5, 7, 7, 2), (6, 1)),
            ((1, 7, 5, 7, 7, 2, 7), (6, 1)),
            ((1, 7, 5, 7, 7, 2, 7, 7, 3), (9, 2)),
        ],
    )
    def test_a_beginning_ends_in_no_picture(self, ids: tuple[int, ...], expected: tuple[int, int]) -> None:
        """7 is the placeholder; the first picture has 3, in two runs, the second 2."""
        assert whole_pictures(ids, 7, (3, 2)) == expected


def test_layers_with_a_window_are_refused_by_name() -> None:
    text = load_tiny("qwen2_5_vl").network.config.get_text_config()
    text.layer_types = ["full_attention", "sliding_attention", *text.layer_types[2:]]
    text.sliding_window = 16
    with pytest.raises(UserError, match="sliding_attention"):
        layers_of(text)
