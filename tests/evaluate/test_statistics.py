from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vision_zero.evaluate.statistics import Counts, difference, rate, wilson

per_game = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=30)


@pytest.mark.parametrize(("hits", "trials"), [(0, 10), (3, 10), (10, 10), (157, 450)])
def test_wilson_agrees_with_scipy(hits: int, trials: int) -> None:
    expected = stats.binomtest(hits, trials).proportion_ci(method="wilson")
    assert wilson(hits, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_one_vote_a_game_is_plain_wilson_and_copies_of_a_vote_add_nothing() -> None:
    single = Counts.of([[True]] * 30 + [[False]] * 70)
    copied = Counts.of([[True] * 8] * 30 + [[False] * 8] * 70)
    one, eight = rate(single), rate(copied)
    assert (one.low, one.high) == pytest.approx(wilson(30, 100), abs=0.002)
    assert (eight.low, eight.high) == pytest.approx((one.low, one.high))
    assert (one.trials, eight.trials, eight.games) == (100, 800, 100)


def test_independent_votes_within_games_count_fully() -> None:
    rng = np.random.default_rng(0)
    counts = Counts.of(list(rng.random((400, 8)) < 0.4))
    found = rate(counts)
    low, high = wilson(sum(counts.hits), counts.total)
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)


def test_a_share_of_nothing_is_refused() -> None:
    for counts in (Counts((), ()), Counts((0.0,), (0.0,))):
        with pytest.raises(ValueError, match="no trials"):
            rate(counts)


def test_games_that_do_not_correspond_are_refused() -> None:
    with pytest.raises(ValueError, match="must be the same"):
        difference(Counts.of([[True]] * 3), Counts.of([[True]] * 4))
    with pytest.raises(ValueError, match="at least 2"):
        difference(Counts.of([[True]]), Counts.of([[False]]))
    with pytest.raises(ValueError, match="nothing to compare"):
        difference(Counts.of([[], []]), Counts.of([[True], [True]]))


@given(per_game)
def test_the_interval_holds_the_point_and_reversing_the_order_reverses_it(games: list[tuple[int, int]]) -> None:
    before = Counts(tuple(float(b) for b, _ in games), (8.0,) * len(games))
    after = Counts(tuple(float(a) for _, a in games), (8.0,) * len(games))
    there, back = difference(before, after), difference(after, before)
    assert -1 <= there.low <= there.point <= there.high <= 1
    assert (back.point, back.low, back.high) == pytest.approx((-there.point, -there.high, -there.low), abs=1e-9)
    for counts in (before, after):
        estimate = rate(counts)
        assert 0 <= estimate.low <= estimate.point <= estimate.high <= 1


def test_few_games_that_all_agree_prove_little() -> None:
    few = difference(Counts.of([[False]] * 3), Counts.of([[True]] * 3))
    assert few.point == 1
    assert few.low < 0.2
    many = difference(Counts.of([[False]] * 60), Counts.of([[True]] * 60))
    assert many.low > 0.8
    same = difference(Counts.of([[True], [False]] * 50), Counts.of([[True], [False]] * 50))
    assert same.point == 0
    assert same.low < 0 < same.high < 0.05


def test_pairing_narrows_the_interval_when_games_differ_more_than_players() -> None:
    rng = np.random.default_rng(1)
    easy = rng.random(150) < 0.5
    before = [np.where(e, rng.random(24) < 0.9, rng.random(24) < 0.1) for e in easy]
    after = [np.where(e, rng.random(24) < 0.95, rng.random(24) < 0.2) for e in easy]
    paired = difference(Counts.of(before), Counts.of(after))
    shuffled = difference(Counts.of(before), Counts.of([after[k] for k in rng.permutation(150)]))
    assert paired.high - paired.low < 0.6 * (shuffled.high - shuffled.low)
    assert paired.low > 0


@pytest.mark.parametrize(("base", "gain", "spread"), [(0.35, 0.1, 0.25), (0.02, 0.0, 0.02), (0.9, 0.05, 0.1)])
def test_intervals_cover_the_truth_as_often_as_they_say(base: float, gain: float, spread: float) -> None:
    """1000 experiments of 60 games with 3 voters each, whose chances vary from game to game."""
    rng = np.random.default_rng(7)
    shares = differences = 0
    experiments = 1000
    for _ in range(experiments):
        p = np.clip(base + spread * rng.uniform(-1, 1, 60), 0, 1 - gain)[:, None]
        before = Counts.of(rng.random((60, 3)) < p)
        after = Counts.of(rng.random((60, 3)) < p + gain)
        mean = float(np.clip(base + spread * np.linspace(-1, 1, 20001), 0, 1 - gain).mean())
        found = rate(before)
        shares += found.low <= mean <= found.high
        delta = difference(before, after)
        differences += delta.low <= gain <= delta.high
    assert 0.925 <= shares / experiments <= 0.995
    assert 0.935 <= differences / experiments <= 0.999
