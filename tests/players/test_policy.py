"""The policy player, playing real games with a tiny random model."""

from __future__ import annotations

import pytest

from tests.tiny_models import FAMILIES, load_tiny, picture
from vision_zero.config import GameConfig
from vision_zero.games import make_game
from vision_zero.games.base import Deal
from vision_zero.models.base import VLM
from vision_zero.players.policy import PolicyPlayer
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.runner import play
from vision_zero.types import Episode, ImagePair

GAME = GameConfig(wording="compact", rounds=1, votes_per_voter=2, max_clue_tokens=6, max_vote_tokens=6)


def games(vlm: VLM, batch_size: int, count: int = 2) -> list[Episode]:
    pairs = [ImagePair(f"pair-{i}", picture(2 * i), picture(2 * i + 1)) for i in range(count)]
    deals = [Deal(f"000000-{i:04d}", pair, seed=i) for i, pair in enumerate(pairs)]
    player = PolicyPlayer("policy", vlm, HfEngine(vlm, batch_size), 1.0, version="start")
    return play(make_game(GAME), deals, {"policy": player})


@pytest.mark.parametrize("family", FAMILIES)
def test_games_of_a_real_model_are_recorded_in_its_own_tokens(family: str) -> None:
    vlm = load_tiny(family, train="language")
    episodes = games(vlm, 64)
    for episode in episodes:
        assert episode.versions == {"policy": "start"}
        assert len(episode.turns) == 4 + 2 * 3
        for turn in episode.turns:
            said = turn.utterance
            assert said.prompt == vlm.encode(turn.shown)
            assert len(said.ids) == len(said.logprobs) > 0
            assert said.text == vlm.decode(said.ids)
            assert all(lp <= 0 for lp in said.logprobs)
            assert turn.seat is not None
            assert said.prompt.pictures == (episode.seats[turn.seat].picture.sha,)
    first, second = episodes[0].turns[4:6]
    assert (first.utterance.prompt, first.draw, second.draw) == (second.utterance.prompt, 0, 1)
    assert first.utterance.ids != second.utterance.ids


def test_the_batch_size_does_not_change_a_game() -> None:
    vlm = load_tiny("qwen2_5_vl", train="language")
    large, small = games(vlm, 64), games(vlm, 3)
    assert [[t.utterance.ids for t in e.turns] for e in large] == [[t.utterance.ids for t in e.turns] for e in small]
