"""How strong is a player in each role? Bradley-Terry strengths of all players from one matrix of games.

Civilians of player i meet the spy of player j: the log-odds that the civilians win is c_i - s_j. Only
differences show in games, so that each role's ratings are given relative to the mean of the role, and how
much the rules favour the civilians is a figure of its own. Intervals resample deals, because all
players play the same deals and games on one deal are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import expit
from scipy.stats import norm

from vision_zero.evaluate.statistics import CONFIDENCE, Counts, Estimate, difference

ELO = 400 / math.log(10)
"""Rating points of one unit of log-odds: 400 points are odds of ten to one, as in chess."""
RESAMPLES = 500
PSEUDO_GAMES = 0.5
"""Added, half won and half lost, to every pairing that was played: who won all games gets a finite rating."""
POWER = 0.8
"""With the number of games that `compare` names, a difference as large as the one seen shows this often."""


@dataclass(frozen=True)
class Games:
    """Results of one arena. `won` and `played` are (deals, n, n): of the games of civilians i against spy j on
    a deal, how many were played (0 or 1) and how many of them the civilians won."""

    players: tuple[str, ...]
    won: np.ndarray
    played: np.ndarray

    def cell(self, civilians: int, spy: int) -> Counts:
        """Games won by the civilians of one player against the spy of another, deal by deal."""
        return Counts(tuple(self.won[:, civilians, spy]), tuple(self.played[:, civilians, spy]))


@dataclass(frozen=True)
class Rating:
    """Points above or below the mean of all players, with the 95 % interval. Example: `Rating(85.0, 12.0, 160.0)`"""

    points: float
    low: float
    high: float


@dataclass(frozen=True)
class Ratings:
    """One rating a player and role; `overall` is the mean of the two. `civilians_win` is the chance that average
    civilians win against an average spy."""

    civilian: tuple[Rating, ...]
    spy: tuple[Rating, ...]
    overall: tuple[Rating, ...]
    civilians_win: Rating


@dataclass(frozen=True)
class Comparison:
    """Two players who met in both roles on the same deals.

    `lead` is the share of points (a game won in either role is a point) of the first minus that of the second.
    `games_needed` is how many games between these two, half in each role, would show a difference as large as
    this one in four of five arenas; None if they came out equal.
    """

    first: str
    second: str
    lead: Estimate
    games_needed: int | None

    @property
    def told_apart(self) -> bool:
        """Whether the interval of the lead leaves out 0."""
        return not self.lead.low <= 0 <= self.lead.high


def rate_players(games: Games, seed: int) -> Ratings | None:
    """Ratings with percentile intervals of a bootstrap over deals.

    None if the pairings do not connect all players and roles with each other, so that nothing could be compared.
    """
    won, played = games.won.sum(0), games.played.sum(0)
    if not _connected(played):
        return None
    point = _fit(won, played, np.zeros(2 * len(won)))
    rng, deals = np.random.default_rng(seed), len(games.won)
    draws = []
    for weights in rng.multinomial(deals, np.full(deals, 1 / deals), RESAMPLES):
        drawn_won, drawn_played = (np.tensordot(weights, counts, 1) for counts in (games.won, games.played))
        draws.append(_figures(_fit(drawn_won, drawn_played, point)))
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    ratings = [Rating(*map(float, three)) for three in zip(_figures(point), low, high, strict=True)]
    n = len(games.players)
    civilian, spy, overall = (tuple(ratings[k * n : (k + 1) * n]) for k in range(3))
    return Ratings(civilian, spy, overall, civilians_win=ratings[-1])


def compare(games: Games, first: int, second: int) -> Comparison | None:
    """Two players by the games in which they met. None if they did not meet twice in both roles."""
    there, back = games.played[:, first, second], games.played[:, second, first]
    both = (there > 0) & (back > 0)
    if both.sum() < 2:
        return None
    as_civilians, as_spy = games.won[both, first, second], 1 - games.won[both, second, first]
    points = as_civilians + as_spy
    twos = (2.0,) * len(points)
    lead = difference(Counts(tuple(2 - points), twos), Counts(tuple(points), twos))
    return Comparison(games.players[first], games.players[second], lead, games_needed(points - 1))


def games_needed(leads: Sequence[float] | np.ndarray) -> int | None:
    """Games of a paired comparison that has `POWER`, from the lead of each deal so far (-1, 0 or 1).

    One deal is two games. Two pseudo-deals of half weight, one for each side, keep the variance from being 0.
    """
    leads = np.asarray(leads, float)
    weight = len(leads) + 1
    mean = leads.sum() / weight
    if mean == 0:
        return None
    variance = ((leads**2).sum() + 1) / weight - mean**2
    z = float(norm.ppf((1 + CONFIDENCE) / 2) + norm.ppf(POWER))
    return 2 * math.ceil(z**2 * float(variance / mean**2))


def _connected(played: np.ndarray) -> bool:
    n = len(played)
    edges = np.zeros((2 * n, 2 * n))
    edges[:n, n:] = played
    return int(connected_components(edges, directed=False)[0]) == 1


def _fit(won: np.ndarray, played: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Strengths (2n,), civilians then spies, of greatest likelihood; the sum that games do not show stays as it was."""
    n = len(won)
    pseudo = PSEUDO_GAMES * (played > 0)
    won, lost = won + pseudo / 2, played - won + pseudo / 2

    def loss(strengths: np.ndarray) -> tuple[float, np.ndarray]:
        odds = strengths[:n, None] - strengths[None, n:]
        value = (won * np.logaddexp(0, -odds) + lost * np.logaddexp(0, odds)).sum()
        slope = (won + lost) * expit(odds) - won
        return float(value), np.concatenate([slope.sum(1), -slope.sum(0)])

    return np.asarray(minimize(loss, start, jac=True, method="BFGS").x)


def _figures(strengths: np.ndarray) -> np.ndarray:
    """Civilian, spy and overall points of each player, and the chance of average civilians."""
    civilian, spy = np.split(strengths, 2)
    balance = expit(civilian.mean() - spy.mean())
    civilian, spy = ELO * (civilian - civilian.mean()), ELO * (spy - spy.mean())
    return np.concatenate([civilian, spy, (civilian + spy) / 2, [balance]])
