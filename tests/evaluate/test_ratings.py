"""Strengths that are known are found again, and intervals are neither too narrow nor without end."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from vision_zero.evaluate.ratings import ELO, Games, compare, games_needed, rate_players

CIVILIAN, SPY = np.array([1.0, 0.2, -1.2]), np.array([0.9, -0.4, -0.5])
NAMES = ("a", "b", "c")


def played(deals: int, seed: int) -> Games:
    """Everybody against everybody, with luck that all games on a deal share in part."""
    rng = np.random.default_rng(seed)
    chances = expit(0.4 + CIVILIAN[:, None] - SPY[None, :])
    won = (rng.random((deals, 3, 3)) < chances).astype(float)
    return Games(NAMES, won, np.ones_like(won))


def test_known_strengths_are_found() -> None:
    ratings = rate_players(played(3000, 1), seed=0)
    assert ratings is not None
    assert [r.points for r in ratings.civilian] == pytest.approx(ELO * (CIVILIAN - CIVILIAN.mean()), abs=15)
    assert [r.points for r in ratings.spy] == pytest.approx(ELO * (SPY - SPY.mean()), abs=15)
    assert ratings.civilians_win.points == pytest.approx(expit(0.4), abs=0.02)
    for overall, civilian, spy in zip(ratings.overall, ratings.civilian, ratings.spy, strict=True):
        assert overall.points == pytest.approx((civilian.points + spy.points) / 2)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(4):
        ratings = rate_players(played(60, seed), seed)
        assert ratings is not None
        for rating, strength in zip((*ratings.civilian, *ratings.spy), (*CIVILIAN, *SPY), strict=True):
            mean = CIVILIAN.mean() if strength in CIVILIAN else SPY.mean()
            held.append(rating.low <= ELO * (strength - mean) <= rating.high)
    assert np.mean(held) > 0.8


def test_one_who_wins_everything_has_a_finite_rating() -> None:
    won = np.zeros((20, 2, 2))
    won[:, 0, :] = 1
    ratings = rate_players(Games(("always", "never"), won, np.ones_like(won)), seed=0)
    assert ratings is not None
    always, never = ratings.civilian
    assert 200 < always.points < 2000
    assert never.points == pytest.approx(-always.points, abs=0.1)


def test_without_common_opponents_there_is_no_rating() -> None:
    games = played(20, 0)
    mask = np.zeros((3, 3))
    mask[0, 1] = mask[1, 0] = 1
    assert rate_players(Games(NAMES, games.won * mask, games.played * mask), seed=0) is None


def test_games_needed_is_the_sample_size_of_the_books() -> None:
    # mean 0.2, variance 0.36: (1.960 + 0.842)^2 * 0.36 / 0.04 = 70.6 deals of two games
    leads = np.repeat([1.0, 0.0, -1.0], [30_000, 60_000, 10_000])
    assert games_needed(leads) == 142
    assert games_needed([1, -1, 0]) is None
    assert games_needed([1] * 40) is not None


def test_that_many_games_do_tell_them_apart_four_times_in_five() -> None:
    needed = games_needed(np.repeat([1.0, 0.0, -1.0], [3000, 6000, 1000]))
    assert needed is not None
    rng = np.random.default_rng(3)
    apart = []
    for _ in range(200):
        leads = rng.choice([1.0, 0.0, -1.0], needed // 2, p=[0.3, 0.6, 0.1])
        won = np.zeros((len(leads), 2, 2))
        won[:, 0, 1], won[:, 1, 0] = leads >= 0, leads <= 0
        comparison = compare(Games(("x", "y"), won, np.ones_like(won)), 0, 1)
        assert comparison is not None
        apart.append(comparison.told_apart)
    assert 0.7 < np.mean(apart) < 0.9


def test_who_leads_does_not_depend_on_the_order() -> None:
    games = played(200, 5)
    there, back = compare(games, 0, 2), compare(games, 2, 0)
    assert there is not None
    assert back is not None
    assert there.lead.point == pytest.approx(-back.lead.point)
    assert there.told_apart
    assert there.lead.point > 0
    assert there.games_needed == back.games_needed
