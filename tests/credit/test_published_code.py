"""The recipe against a second, independent computation of the published code's arithmetic, step by step."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from made_games import clue, game, vote

from vision_zero.config import load_config
from vision_zero.credit.assign import assign
from vision_zero.credit.rae import RoleAdvantage
from vision_zero.credit.stages import StageScheduler
from vision_zero.types import ABSTAIN, Episode, Stage, Vote

RECIPE = Path(__file__).parents[2] / "recipes" / "published_code.yaml"
PLAYERS, DRAWS, RANKS = 4, 8, 8


def random_game(rng: random.Random, number: int) -> Episode:
    clues = [clue(k, f"{k} {r}", round=r) for r in (1, 2) for k in range(PLAYERS)]
    choices: list[Vote] = [rng.choice([0, 1, 2, 3, ABSTAIN, None]) for _ in range(DRAWS)]
    if rng.random() < 0.2:
        choices = [choices[0]] * DRAWS
    votes = [
        vote(
            None,
            v,
            d,
            thought=rng.choice(["", "ten chars.", "long enough"]),
            answer=rng.choice(["", " ", "no idea"]) if v is None else None,
        )
        for d, v in enumerate(choices)
    ]
    return game(votes, clues, spy=rng.randrange(PLAYERS), id=f"{number:06d}")


class Published:
    """Plain arithmetic on plain numbers, player numbers from 0, exactly as the facts describe it."""

    def __init__(self) -> None:
        self.spy_baseline = self.civilian_baseline = 0.0

    def step(self, episodes: list[Episode], phase: str) -> list[tuple[list[float], list[float] | None, list[float]]]:
        """For every game: zero-sum rewards, advantages of the 8 clues (None if not trained), of the 8 votes."""
        out = []
        for first in range(0, len(episodes), RANKS):
            micro = episodes[first : first + RANKS]
            rewards = [self.zero_sum(e) for e in micro]
            spies = [next(s.index for s in e.seats if s.role == "spy") for e in micro]
            spy_mean = np.mean([r[s] for r, s in zip(rewards, spies, strict=True)])
            rest = np.mean([(sum(r) - r[s]) / (PLAYERS - 1) for r, s in zip(rewards, spies, strict=True)])
            self.spy_baseline = 0.9 * self.spy_baseline + 0.1 * spy_mean
            self.civilian_baseline = 0.9 * self.civilian_baseline + 0.1 * rest
            for e, r, s in zip(micro, rewards, spies, strict=True):
                seats = [r[k] - (self.spy_baseline if k == s else self.civilian_baseline) for k in range(PLAYERS)]
                out.append((r, seats * 2 if phase == "clue" else None, self.votes(e, s)))
        return out

    @staticmethod
    def zero_sum(e: Episode) -> list[float]:
        counts = [0] * PLAYERS
        for t in e.turns:
            if t.stage == "decision" and t.understood.vote not in (None, "N/A"):
                counts[t.understood.vote] += 1  # type: ignore[index]
        spy = next(s.index for s in e.seats if s.role == "spy")
        average = (sum(counts) - counts[spy]) / (PLAYERS - 1)
        gap = counts[spy] - average
        return [
            -0.1 * gap if k == spy else 0.1 / (PLAYERS - 1) * gap - 0.1 * (counts[k] - average) for k in range(PLAYERS)
        ]

    @staticmethod
    def votes(e: Episode, spy: int) -> list[float]:
        rewards = []
        for t in e.turns[PLAYERS * 2 :]:
            v = t.understood.vote
            accuracy = -0.5 if v == "N/A" else 1.0 if v == spy else -1.0
            format_ok = t.understood.answer.strip() != "" and len(t.understood.thought) > 10
            rewards.append(0.3 * (1 if format_ok else -1) + 1.2 * accuracy + (0.99 if accuracy > 0 else 0.0))
        r = np.array(rewards)
        if r.std() <= 1e-8 or np.ptp(r) <= 1e-8:
            return [0.0] * len(r)
        return list((r - r.mean()) / (r.std() + 1e-8))


def test_the_recipe_computes_what_the_published_code_computes() -> None:
    config = load_config(RECIPE)
    assert (config.game.votes_per_voter, config.game.voters) == (DRAWS, "analyst")
    assert 1 + config.game.civilians == PLAYERS
    rng = random.Random(0)
    scheduler = StageScheduler(config.credit.stages)
    rae = RoleAdvantage(config.credit.rae_alpha, config.credit.rae_order)
    published = Published()
    for step in range(6):
        episodes = [random_game(rng, step * 100 + g) for g in range(config.games_per_step)]
        phase = "decision" if step % 2 == 0 else "clue"
        assert scheduler.stage == phase
        done = assign(episodes, scheduler.stage, config.credit, rae)
        expected = published.step(episodes, phase)
        trained = []
        for episode, (rewards, clues, votes) in zip(done.episodes, expected, strict=True):
            assert episode.rewards == pytest.approx(rewards, abs=1e-9)
            assert episode.advantages == pytest.approx([*(clues or [None] * 8), *votes], abs=1e-6)
            trained += [*(clues or []), *votes]
        assert [s.advantage for s in done.samples] == pytest.approx(trained, abs=1e-6)
        assert len(trained) == config.games_per_step * (8 if phase == "decision" else 16)
        assert rae.baselines["spy"] == pytest.approx(published.spy_baseline, abs=1e-9)
        assert rae.baselines["civilian"] == pytest.approx(published.civilian_baseline, abs=1e-9)
        scheduler.update(0.5, 0.1)


def test_a_clue_step_of_the_recipe_trains_votes_too() -> None:
    config = load_config(RECIPE).credit
    done = assign([random_game(random.Random(1), 0)], Stage.CLUE, config, RoleAdvantage(0.9, config.rae_order))
    assert sum(s.label == "decision/analyst" for s in done.samples) == DRAWS
