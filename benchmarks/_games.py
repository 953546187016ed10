"""Games with full prompts, played in our order of work and in that of the published code."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from typing import Any

from benchmarks._models import folder, load_random
from vision_zero.config import RunConfig
from vision_zero.games import make_game
from vision_zero.games.base import Deal
from vision_zero.models.base import VLM
from vision_zero.pairs import open_pairs
from vision_zero.players.policy import PolicyPlayer
from vision_zero.rollouts.dealing import deals_of_step
from vision_zero.rollouts.hf import HfEngine
from vision_zero.rollouts.runner import play
from vision_zero.types import Episode, Picture, Role, Sample

POLICY = "policy"


def config_of(asked: argparse.Namespace, **more: Any) -> RunConfig:
    """The run that a benchmark's options ask for: full prompts, the paper's coefficients, everything trained.

    The rate is so small that no repeat sees other weights than the first; nothing is clipped.
    """
    tree: dict[str, Any] = {
        "games_per_step": asked.games,
        "pairs": {"kind": "clevr", "width": 320, "height": 240, "count": max(asked.games, 2)},
        "game": {
            "civilians": asked.seats - 1,
            "rounds": asked.rounds,
            "voters": "analyst",
            "votes_per_voter": asked.votes,
            "layout": asked.layout,
            "max_clue_tokens": asked.answers,
            "max_vote_tokens": asked.answers,
        },
        "model": {"path": str(folder(asked.model)), "dtype": asked.dtype},
        "update": {"learning_rate": 1e-30, "max_gradient_norm": 1e9, "tokens_per_batch": 8192},
    }
    for room, settings in more.items():
        tree[room] = {**tree.get(room, {}), **settings}
    return RunConfig.model_validate(tree)


def model_of(asked: argparse.Namespace, **settings: Any) -> VLM:
    """A fresh model of the size and precision asked for."""
    return load_random(asked.model, dtype=asked.dtype, **settings)


def deals_of(config: RunConfig, games: int) -> list[Deal]:
    """The first deals of the run; all their pictures are made."""
    pairs = open_pairs(config.pairs, config.seed, "train")
    return deals_of_step(pairs, config.seed, 0, games, dict.fromkeys(Role, POLICY))


def play_ours(config: RunConfig, vlm: VLM, deals: Sequence[Deal]) -> list[Episode]:
    """All games in lock-step, what was read of prompts kept."""
    engine = HfEngine.of(vlm, config.rollouts)
    with engine.fixed_weights():
        return play(make_game(config.game), deals, {POLICY: _player(config, vlm, engine)})


def play_published(config: RunConfig, vlm: VLM, deals: Sequence[Deal]) -> list[Episode]:
    """One game after the other; one `generate` of batch 1 for every clue, one for all votes of the analyst.

    The same engine, which keeps nothing from one `generate` to the next, as the published code does not.
    """
    player = _player(config, vlm, HfEngine(vlm, config.game.votes_per_voter))
    game = make_game(config.game)
    return [play(game, [deal], {POLICY: player})[0] for deal in deals]


def said(episodes: Sequence[Episode]) -> list[tuple[int, ...]]:
    """Everything that was sampled, turn by turn."""
    return [turn.utterance.ids for e in episodes for turn in e.turns]


def samples_of(episodes: Sequence[Episode]) -> tuple[list[Sample], dict[str, Picture]]:
    """Every turn as a sample, with advantages drawn at random (random weights earn none worth having)."""
    rng = random.Random(0)
    samples, pictures = [], {}
    for episode in episodes:
        pictures |= {seat.picture.sha: seat.picture for seat in episode.seats}
        for number, turn in enumerate(episode.turns):
            spoken = turn.utterance
            assert spoken.prompt is not None
            advantage, label = rng.gauss(0, 1), str(turn.stage)
            samples.append(Sample(spoken.prompt, spoken.ids, spoken.logprobs, advantage, label, episode.id, number))
    return samples, pictures


def _player(config: RunConfig, vlm: VLM, engine: HfEngine) -> PolicyPlayer:
    return PolicyPlayer(POLICY, vlm, engine, config.rollouts.temperature, "0")
